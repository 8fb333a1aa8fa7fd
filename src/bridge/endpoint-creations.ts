import { setImmediate } from 'node:timers/promises'
import { createEndpoints } from './create-endpoints.ts'
import type { BridgeKernel } from './kernel.ts'
import type { EndpointPlan } from './plan.ts'

/** Builds endpoints; those that are asked for at the same time are built together. */
export class EndpointCreations {
  readonly #kernel: BridgeKernel
  #next: EndpointPlan[] | undefined
  #nextDone: Promise<(Error | undefined)[]> | undefined
  #current: Promise<unknown> = Promise.resolve()

  constructor(kernel: BridgeKernel) {
    this.#kernel = kernel
  }

  /** Resolves when the endpoint is whole. Throws what `createEndpoint` throws. */
  async create(endpoint: EndpointPlan): Promise<void> {
    if (!this.#next) {
      this.#next = []
      this.#nextDone = this.#createNext(this.#current)
      this.#current = this.#nextDone.catch(() => {})
    }
    const index = this.#next.push(endpoint) - 1
    const error = (await this.#nextDone!)[index]
    if (error) throw error
  }

  async #createNext(previous: Promise<unknown>): Promise<(Error | undefined)[]> {
    await previous
    // What else this turn of the event loop brings.
    await setImmediate()
    const endpoints = this.#next ?? []
    this.#next = undefined
    return await createEndpoints(endpoints, this.#kernel)
  }
}
