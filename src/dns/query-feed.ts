import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import type { SampleRing } from './query-samples.ts'
import type { SeenQuery } from './seen-query.ts'

/** Somebody who wants to see queries. */
export interface QueryTap {
  /** Of so many queries that workers answer, it needs one; 1: all. */
  readonly every: number
  /** `weight`: how many queries this one stands for. */
  seen(query: SeenQuery, weight: number): void
}

export interface QueryFeedOptions {
  /** Those that are there from the start; see {@link QueryFeed.add}. */
  readonly taps: readonly QueryTap[]
  readonly clock?: Clock
  /** Told how many samples were lost because there were more than could be taken out. */
  readonly onLost?: (count: number) => void
}

/** How often the rings are emptied, ms. */
const drainInterval = 100

/**
 * Brings queries to those who want to see them: all of the general path through {@link seen}, and samples of what workers answered from their
 * rings. Dispose it to stop.
 */
export class QueryFeed implements Disposable {
  readonly #options: QueryFeedOptions
  readonly #clock: Clock
  readonly #taps: Set<QueryTap>
  #rings: readonly SampleRing[] = []
  #timer: Timer | undefined

  constructor(options: QueryFeedOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#taps = new Set(options.taps)
  }

  /** For `DnsServerOptions.seen`. */
  readonly seen = (query: SeenQuery): void => {
    for (const tap of this.#taps) tap.seen(query, 1)
  }

  /** Empties these rings from now on. */
  follow(rings: readonly SampleRing[]): void {
    this.#rings = rings
    this.#adjust()
  }

  /** One more who wants to see queries, until the returned function is called. */
  add(tap: QueryTap): () => void {
    this.#taps.add(tap)
    this.#adjust()
    return () => {
      this.#taps.delete(tap)
      this.#adjust()
    }
  }

  #adjust(): void {
    const rings = this.#rings
    const every = Math.min(...[...this.#taps].map((tap) => tap.every))
    for (const ring of rings) ring.every = Number.isFinite(every) ? every : 0
    this.#timer?.cancel()
    if (rings.length > 0 && this.#taps.size > 0) this.#timer = this.#clock.after(drainInterval, () => this.#drain())
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel()
    for (const ring of this.#rings) ring.every = 0
  }

  #drain(): void {
    for (const ring of this.#rings) {
      const { samples, lost } = ring.drain()
      for (const query of samples) for (const tap of this.#taps) tap.seen(query, ring.every)
      if (lost > 0) this.#options.onLost?.(lost)
    }
    this.#timer = this.#clock.after(drainInterval, () => this.#drain())
  }
}
