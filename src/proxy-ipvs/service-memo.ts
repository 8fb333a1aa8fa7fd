import type { Service } from '../model/service.ts'
import type { ServiceFrontends } from '../proxy/frontends.ts'

/** What the frontends of a Service were compiled from, beside themselves. */
export interface MemoGround {
  readonly object: Service | undefined
  /** All else, as a text. */
  readonly ground: string
}

/**
 * Remembers what was made of each Service, so that one change among ten thousand Services costs one of them. What is remembered goes
 * with the Service's frontends.
 */
export class ServiceMemo<T> {
  readonly #made = new WeakMap<ServiceFrontends, MemoGround & { readonly made: T }>()

  /** What was made before, if nothing that it depends on has changed; else what `make` gives. */
  of(service: ServiceFrontends, { object, ground }: MemoGround, make: () => T): T {
    const known = this.#made.get(service)
    if (known && known.object === object && known.ground === ground) return known.made
    const made = make()
    this.#made.set(service, { object, ground, made })
    return made
  }
}
