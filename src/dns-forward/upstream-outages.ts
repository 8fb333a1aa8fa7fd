import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'

/** A resolver that answers now and then is spoken of once in so many milliseconds. */
const quietFor = 60_000
const maxServers = 256

/** Says in the log which resolver stopped answering, and when it does again: once each, however many questions there are. */
export class UpstreamOutages {
  readonly #options: { readonly clock: Clock; readonly log: Log }
  /** By server: when it was said that it does not answer, and whether it has answered since. */
  readonly #told = new Map<string, { at: number; over: boolean }>()

  constructor(options: { readonly clock: Clock; readonly log: Log }) {
    this.#options = options
  }

  /** `error` undefined: it was silent. */
  fails(upstream: string, error: Error | undefined): void {
    const { clock, log } = this.#options
    const at = clock.monotonic()
    const told = this.#told.get(upstream)
    if (told && (!told.over || at - told.at < quietFor)) return
    if (this.#told.size > maxServers) this.#told.clear()
    this.#told.set(upstream, { at, over: false })
    log.warn({ upstream, ...(error && { error }) }, 'This resolver does not answer; it is asked after all others')
  }

  answers(upstream: string): void {
    const told = this.#told.get(upstream)
    if (!told || told.over) return
    told.over = true
    this.#options.log.info({ upstream }, 'This resolver answers again')
  }
}
