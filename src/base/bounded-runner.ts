import type { Clock, Timer } from './clock.ts'

/** Why a run happens: `request` = somebody asked; `verify` = the max interval passed without one. */
export type RunReason = 'request' | 'verify'

export interface BoundedRunnerOptions {
  /** The work. Never called again before its promise settled. A rejection is retried. */
  readonly run: (reason: RunReason, signal: AbortSignal) => Promise<void>
  readonly clock: Clock
  /**
   * Shortest rest between the end of one run and the start of the next, in ms. Counted from the end, so that slow runs
   * never follow each other without a pause. @default 20
   */
  readonly minIntervalMs?: number
  /** The rest is also at least this many times the last run's duration, which bounds the share of a core. @default 2 */
  readonly restFactor?: number
  /** But no longer than this, in ms: the first run may have taken half a minute, and whoever changes something waits. @default 5000 */
  readonly maxRestMs?: number
  /** Longest time from the end of one run to the start of a `verify` run, in ms. @default 3_600_000 */
  readonly maxIntervalMs?: number
  /** After the nth failure in a row: `firstMs * 2^(n-1)`, at most `maxMs`. @default 100 ms to 30 s */
  readonly retry?: { readonly firstMs: number; readonly maxMs: number }
  /** Told of each failed run. */
  readonly onError?: (error: unknown, next: { readonly failures: number; readonly retryInMs: number }) => void
  /** Ends the runner: nothing is started any more, and the run in progress sees the same signal. */
  readonly signal?: AbortSignal
}

/**
 * Runs one piece of work whenever it was asked for, but not too often: requests that come during a run or a rest become
 * one run. A request after a rest is served at once; a storm is paced. Modelled on kube-proxy's bounded-frequency
 * runner, which counts its interval from start to start (kubernetes/kubernetes#138073 is what follows from that).
 */
export class BoundedRunner {
  readonly #options: BoundedRunnerOptions
  readonly #clock: Clock
  readonly #abort = new AbortController()
  #timer: Timer | undefined
  #running: Promise<void> | undefined
  #requested = false
  #urgent = false
  /** The last run was urgent: the next one rests as ever, or two programs that undo each other's work would do nothing else. */
  #wasUrgent = false
  #failures = 0
  /** No run starts before this moment, */
  #notBefore = 0
  /** and an urgent one not before this. */
  #soonest = 0
  #lastEnd: number | undefined
  #minIntervalMs: number

  constructor(options: BoundedRunnerOptions) {
    this.#options = options
    this.#clock = options.clock
    this.#minIntervalMs = options.minIntervalMs ?? 20
    const outer = options.signal
    if (outer?.aborted) this.stop()
    else outer?.addEventListener('abort', () => this.stop(), { once: true })
  }

  /** Changes `minIntervalMs`, from the next run on. */
  setMinInterval(ms: number): void {
    this.#minIntervalMs = ms
  }

  /**
   * Asks for a run. Returns at once. An urgent one does not rest for the last run's duration, but for `minIntervalMs` only,
   * unless the last run was urgent too.
   */
  request(options: { readonly urgent?: boolean } = {}): void {
    const urgent = options.urgent === true
    if (this.#requested && (this.#urgent || !urgent)) return
    this.#requested = true
    this.#urgent = urgent
    this.#schedule()
  }

  /** What failed before is no reason to wait any more: a run that was asked for begins after `minIntervalMs`. */
  forgetFailures(): void {
    this.#failures = 0
    this.#notBefore = Math.min(this.#notBefore, this.#soonest)
    this.#schedule()
  }

  /** True while a run is in progress, or asked for. */
  get busy(): boolean {
    return this.#running !== undefined || this.#requested
  }

  /** Failed runs in a row. */
  get failures(): number {
    return this.#failures
  }

  /** Starts nothing any more. {@link settled} says when the run in progress has ended. */
  stop(): void {
    this.#abort.abort()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Resolves when no run is in progress. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running
  }

  #schedule(): void {
    if (this.#running || this.#abort.signal.aborted) return
    this.#timer?.cancel()
    this.#timer = undefined
    const now = this.#clock.monotonic()
    if (this.#requested) {
      const notBefore = this.#urgent && !this.#wasUrgent && this.#failures === 0 ? this.#soonest : this.#notBefore
      if (now >= notBefore) this.#start('request')
      else this.#timer = this.#clock.after(notBefore - now, () => this.#start('request'))
    } else if (this.#lastEnd !== undefined) {
      const due = this.#lastEnd + (this.#options.maxIntervalMs ?? 3_600_000)
      this.#timer = this.#clock.after(Math.max(0, due - now), () => this.#start('verify'))
    }
  }

  #start(reason: RunReason): void {
    this.#timer = undefined
    this.#running = this.#once(reason).finally(() => {
      this.#running = undefined
      this.#schedule()
    })
  }

  async #once(reason: RunReason): Promise<void> {
    const began = this.#clock.monotonic()
    let rest: number
    try {
      // The turn of the event loop that brought the request may bring more: let it end first.
      await Promise.resolve()
      this.#requested = false
      this.#wasUrgent = this.#urgent
      this.#urgent = false
      await this.#options.run(reason, this.#abort.signal)
      this.#failures = 0
      const duration = this.#clock.monotonic() - began
      const { restFactor = 2, maxRestMs = 5000 } = this.#options
      rest = Math.max(this.#minIntervalMs, Math.min(duration * restFactor, maxRestMs))
    } catch (error) {
      this.#failures++
      this.#requested = true
      const retry = this.#options.retry ?? { firstMs: 100, maxMs: 30_000 }
      rest = Math.min(retry.maxMs, retry.firstMs * 2 ** (this.#failures - 1))
      if (!this.#abort.signal.aborted) this.#options.onError?.(error, { failures: this.#failures, retryInMs: rest })
    }
    this.#lastEnd = this.#clock.monotonic()
    this.#soonest = this.#lastEnd + this.#minIntervalMs
    this.#notBefore = this.#lastEnd + rest
  }
}
