import { systemClock, type Clock } from '../base/clock.ts'

/** How long after a restore of ours its own notifications may still come, ms. */
const echoMs = 100

/** Whoever looks at tables before a restore, for changes by others, and after it. */
export interface RestoreWatcher {
  readonly before: () => void
  readonly after: () => void
}

/**
 * What this process writes, so that nobody in it takes it for a change by others: all writers and watchers of one network
 * namespace share one of these.
 */
export class OwnRestores {
  readonly #clock: Clock
  readonly #watchers = new Set<RestoreWatcher>()
  #busy = 0
  #quietUntil = -Infinity

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
  }

  /** Runs a restore. */
  async during<T>(restore: () => Promise<T>): Promise<T> {
    if (!this.busy) for (const { before } of this.#watchers) before()
    this.#busy++
    try {
      return await restore()
    } finally {
      this.#busy--
      this.#quietUntil = this.#clock.monotonic() + echoMs
      for (const { after } of this.#watchers) after()
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

  /** Tells of each restore, until the result is called. */
  watch(watcher: RestoreWatcher): () => void {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }
}
