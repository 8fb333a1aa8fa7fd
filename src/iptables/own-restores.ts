import { systemClock, type Clock } from '../base/clock.ts'

/** How long after a restore of ours its own notifications may still come, ms. */
const echoMs = 100

/**
 * What this process writes, so that nobody in it takes it for a change by others: all writers and watchers of one network
 * namespace share one of these.
 */
export class OwnRestores {
  readonly #clock: Clock
  readonly #listeners = new Set<() => void>()
  #busy = 0
  #quietUntil = -Infinity

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
  }

  /** Runs a restore. */
  async during<T>(restore: () => Promise<T>): Promise<T> {
    this.#busy++
    try {
      return await restore()
    } finally {
      this.#busy--
      this.#quietUntil = this.#clock.monotonic() + echoMs
      for (const listener of this.#listeners) listener()
    }
  }

  /** Whether a restore is under way. */
  get busy(): boolean {
    return this.#busy > 0
  }

  /** Whether what is noticed now may come of a restore. */
  get recent(): boolean {
    return this.busy || this.#clock.monotonic() < this.#quietUntil
  }

  /** Calls `listener` after each restore, until the result is called. */
  onEnd(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
