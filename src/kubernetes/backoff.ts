import type { Clock } from '../base/clock.ts'

/** How long to wait after failures. */
export interface BackoffOptions {
  /** Before the second attempt, ms. @default 400 */
  readonly firstMs?: number
  /** @default 30_000 */
  readonly maxMs?: number
  /** After this long without failure the count begins anew, ms. @default 120_000 as in client-go */
  readonly resetMs?: number
  /** From 0 to 1. @default Math.random */
  readonly random?: () => number
}

/** Growing waits with jitter, so that the nodes of a cluster do not come back all at once. */
export class Backoff {
  readonly #clock: Clock
  readonly #options: BackoffOptions
  #failures = 0
  #lastFailure = 0

  constructor(clock: Clock, options: BackoffOptions = {}) {
    this.#clock = clock
    this.#options = options
  }

  /** How long to wait after one more failure, ms: at least half of the step, at least `atLeastMs`. */
  next(atLeastMs = 0): number {
    const { firstMs = 400, maxMs = 30_000, resetMs = 120_000, random = Math.random } = this.#options
    const now = this.#clock.monotonic()
    if (now - this.#lastFailure > resetMs) this.#failures = 0
    this.#lastFailure = now
    const step = Math.min(maxMs, firstMs * 2 ** Math.min(this.#failures, 30))
    this.#failures++
    return Math.max(atLeastMs, step * (0.5 + random() / 2)) + (atLeastMs > 0 ? random() * step : 0)
  }
}

/** Resolves after `ms`, or at once when `signal` is aborted. */
export async function pause(ms: number, { clock, signal }: { clock: Clock; signal: AbortSignal }): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      timer.cancel()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = clock.after(ms, done)
    signal.addEventListener('abort', done, { once: true })
  })
}
