import type { Clock, Timer } from '../base/clock.ts'
import type { ReadinessProbe } from './readiness-probe.ts'

/** What a loop found. */
export interface Readiness {
  readonly ready: boolean
  /** Why the newest attempt failed; undefined: it did not. */
  readonly reason: string | undefined
}

export interface ProbeLoopOptions {
  readonly probe: ReadinessProbe
  /** What was known before. */
  readonly ready: boolean
  readonly clock: Clock
  /** One attempt; resolves to the reason of a failure. */
  readonly attempt: () => Promise<string | undefined>
  /** Called when it became ready, or not ready. */
  readonly onChange: (readiness: Readiness) => void
}

/** Until the first success it is asked at least so often: whoever starts something waits for it. */
const firstPeriodMs = 1000

/** Attempts over time, from the moment it is made until it is disposed. */
export class ProbeLoop implements Disposable {
  readonly #options: ProbeLoopOptions
  #current: Readiness
  #successes = 0
  #failures = 0
  #wasReady: boolean
  #timer: Timer
  #disposed = false

  constructor(options: ProbeLoopOptions) {
    this.#options = options
    this.#current = { ready: options.ready, reason: undefined }
    this.#wasReady = options.ready
    this.#timer = this.#after(options.probe.initialDelaySeconds * 1000)
  }

  get current(): Readiness {
    return this.#current
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#timer.cancel()
  }

  #after(ms: number): Timer {
    return this.#options.clock.after(ms, () => void this.#attempt())
  }

  async #attempt(): Promise<void> {
    const { attempt, probe, onChange } = this.#options
    const reason = await attempt()
    if (this.#disposed) return
    this.#successes = reason === undefined ? this.#successes + 1 : 0
    this.#failures = reason === undefined ? 0 : this.#failures + 1
    const before = this.#current.ready
    const enough = before ? this.#failures >= probe.failureThreshold : this.#successes >= probe.successThreshold
    this.#current = { ready: before !== enough, reason }
    this.#wasReady ||= this.#current.ready
    const periodMs = probe.periodSeconds * 1000
    this.#timer = this.#after(this.#wasReady ? periodMs : Math.min(periodMs, firstPeriodMs))
    if (enough) onChange(this.#current)
  }
}
