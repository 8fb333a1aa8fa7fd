/** Where parts take the time from, so that a test can hold it still. */
export interface Clock {
  /** Milliseconds on a clock that never goes back; only differences mean something. */
  monotonic(): number
  /** Wall time. */
  now(): Date
  /** Calls `callback` once after `ms` milliseconds unless the returned timer is cancelled first. */
  after(ms: number, callback: () => void): Timer
}

export interface Timer {
  cancel(): void
}

/** The machine's clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  monotonic: () => performance.now(),
  now: () => new Date(),
  after(ms, callback) {
    const handle = setTimeout(callback, ms)
    handle.unref()
    return { cancel: () => clearTimeout(handle) }
  },
}

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  #time = 0
  #timers: { due: number; callback: () => void }[] = []

  monotonic(): number {
    return this.#time
  }

  now(): Date {
    return new Date(this.#time)
  }

  after(ms: number, callback: () => void): Timer {
    const timer = { due: this.#time + ms, callback }
    this.#timers.push(timer)
    return { cancel: () => (this.#timers = this.#timers.filter((t) => t !== timer)) }
  }

  /** Moves time forward by `ms`, running due timers in order; promises settle before each step, and after the last. */
  async advance(ms: number): Promise<void> {
    const end = this.#time + ms
    await new Promise((resolve) => setImmediate(resolve))
    for (;;) {
      const next = this.#timers.filter((t) => t.due <= end).toSorted((a, b) => a.due - b.due)[0]
      if (!next) break
      this.#timers = this.#timers.filter((t) => t !== next)
      this.#time = Math.max(this.#time, next.due)
      next.callback()
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#time = end
    await new Promise((resolve) => setImmediate(resolve))
  }
}
