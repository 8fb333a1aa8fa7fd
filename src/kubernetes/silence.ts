import type { Clock, Timer } from '../base/clock.ts'
import { SilenceError } from './api-error.ts'

/** Ends a request when nothing was heard for a while, or when the outer signal says so. */
export class Silence implements Disposable {
  /** Why the request was ended, if it was. */
  reason: SilenceError | undefined
  readonly #abort = new AbortController()
  readonly #clock: Clock
  readonly #outer: AbortSignal
  readonly #onOuter = (): void => this.#abort.abort()
  #timer: Timer | undefined

  constructor({ clock, signal, ms }: { clock: Clock; signal: AbortSignal; ms: number }) {
    this.#clock = clock
    this.#outer = signal
    if (signal.aborted) this.#abort.abort()
    signal.addEventListener('abort', this.#onOuter, { once: true })
    this.rearm(ms)
  }

  /** For the request. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Something was heard: the time begins anew. */
  rearm(ms: number): void {
    this.disarm()
    this.#timer = this.#clock.after(ms, () => this.end(`the server says nothing for ${ms / 1000} s`))
  }

  /** Silence is fine from here on. */
  disarm(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Ends the request now. */
  end(reason: string): void {
    this.reason ??= new SilenceError(reason)
    this.#abort.abort()
  }

  [Symbol.dispose](): void {
    this.disarm()
    this.#outer.removeEventListener('abort', this.#onOuter)
    this.#abort.abort()
  }
}
