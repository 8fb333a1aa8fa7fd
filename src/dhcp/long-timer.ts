import type { Clock, Timer } from '../base/clock.ts'

/** Timers of Node.js hold 31 bits of milliseconds; leases may be longer. */
const longestTimer = 0x7fff_ffff

/** One thing that is waited for, for any number of milliseconds, by the clock that is never set. */
export class LongTimer {
  readonly #clock: Clock
  #timer: Timer | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Replaces what was waited for. Infinity: for ever. */
  wait(ms: number, callback: () => void): void {
    this.cancel()
    if (ms === Number.POSITIVE_INFINITY) return
    const due = this.#clock.monotonic() + ms
    const next = (): void => {
      const remaining = due - this.#clock.monotonic()
      this.#timer = this.#clock.after(Math.min(Math.max(0, remaining), longestTimer), () =>
        remaining > longestTimer ? next() : callback(),
      )
    }
    next()
  }

  cancel(): void {
    this.#timer?.cancel()
  }
}
