import { type Clock, systemClock } from '../base/clock.ts'

/** One of the most frequent keys. */
export interface BusyKey {
  readonly key: string
  /** How often it was seen: at least `count - error`, at most `count`. */
  readonly count: number
  readonly error: number
}

/**
 * The most frequent of a stream of keys in bounded memory: the space-saving sketch (Metwally, Agrawal, El Abbadi, 2005). A key that made up more than 1
 * of `places` of all is always among them; how much a count may be too high is known.
 */
export class SpaceSaving {
  readonly #places: number
  readonly #counts = new Map<string, { count: number; readonly error: number }>()
  total = 0

  constructor(places: number) {
    this.#places = places
  }

  add(key: string, weight: number): void {
    this.total += weight
    const known = this.#counts.get(key)
    if (known) {
      known.count += weight
      return
    }
    let error = 0
    if (this.#counts.size >= this.#places) {
      const [least, { count }] = this.#least()
      this.#counts.delete(least)
      error = count
    }
    this.#counts.set(key, { count: error + weight, error })
  }

  get keys(): BusyKey[] {
    return [...this.#counts].map(([key, { count, error }]) => ({ key, count, error }))
  }

  #least(): readonly [string, { readonly count: number }] {
    let least: readonly [string, { readonly count: number }] = ['', { count: Infinity }]
    for (const entry of this.#counts) if (entry[1].count < least[1].count) least = entry
    return least
  }
}

export interface BusiestOptions {
  /** Keys that are kept; default 256. */
  readonly places?: number
  /** Milliseconds of a window; default five minutes. */
  readonly window?: number
  readonly clock?: Clock
}

/** The most frequent keys of the last one to two windows: what was a rush an hour ago does not hide what is one now. */
export class Busiest {
  readonly #places: number
  readonly #window: number
  readonly #clock: Clock
  #current: SpaceSaving
  #before: SpaceSaving
  #began: number
  #since: number

  constructor({ places = 256, window = 300_000, clock = systemClock }: BusiestOptions = {}) {
    this.#places = places
    this.#window = window
    this.#clock = clock
    this.#current = new SpaceSaving(places)
    this.#before = new SpaceSaving(places)
    this.#began = this.#since = clock.monotonic()
  }

  add(key: string, weight = 1): void {
    this.#turn()
    this.#current.add(key, weight)
  }

  /** The first `limit`, the most frequent first; `seconds` is the time that they were counted in, `total` all that was seen in it. */
  top(limit: number): { readonly seconds: number; readonly total: number; readonly keys: readonly BusyKey[] } {
    this.#turn()
    const sums = new Map<string, BusyKey>()
    for (const { key, count, error } of [...this.#before.keys, ...this.#current.keys]) {
      const known = sums.get(key)
      sums.set(key, { key, count: (known?.count ?? 0) + count, error: (known?.error ?? 0) + error })
    }
    const keys = [...sums.values()].toSorted((a, b) => b.count - a.count || a.key.localeCompare(b.key)).slice(0, limit)
    const seconds = (this.#clock.monotonic() - this.#since) / 1000
    return { seconds, total: this.#before.total + this.#current.total, keys }
  }

  #turn(): void {
    const now = this.#clock.monotonic()
    if (now - this.#began < this.#window) return
    // Nobody asked for longer than a window: what came before is too old altogether.
    const isRecent = now - this.#began < this.#window * 2
    this.#since = isRecent ? this.#began : now
    this.#before = isRecent ? this.#current : new SpaceSaving(this.#places)
    this.#current = new SpaceSaving(this.#places)
    this.#began = now
  }
}
