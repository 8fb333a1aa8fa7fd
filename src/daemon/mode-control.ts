import { SwitchError } from '../proxy/sync-loop.ts'
import type { ModeView } from './control-api.ts'
import { ModeUnavailableError } from './dataplanes.ts'
import type { EventLog } from './events.ts'
import { HttpError } from './http-server.ts'
import type { ServiceProxy } from './service-proxy.ts'
import { serviceModes } from './services-config.ts'

/** What `fairlead mode` asks for. */
export class ModeControl {
  readonly #events: EventLog
  #proxy: ServiceProxy | undefined

  constructor(events: EventLog) {
    this.#events = events
  }

  /** From here on there are Services. */
  serve(proxy: ServiceProxy | undefined): void {
    this.#proxy = proxy
  }

  /** Throws {@link HttpError}. */
  view(): ModeView {
    return { mode: this.#served().loop.status().mode, modes: serviceModes }
  }

  /** Switches, and resolves when the old mode's rules are gone. Rejects with {@link HttpError}; the old mode then goes on. */
  async set(wanted: unknown): Promise<ModeView> {
    const proxy = this.#served()
    const mode = serviceModes.find((mode) => mode === wanted)
    if (!mode)
      throw new HttpError(
        400,
        `mode: ${JSON.stringify(wanted)} is not known here (expected ${serviceModes.join(', ')})`,
      )
    const before = proxy.config.mode
    try {
      await proxy.setMode(mode)
    } catch (error) {
      if (!(error instanceof Error)) throw error
      const status = error instanceof SwitchError || error instanceof ModeUnavailableError ? 409 : 500
      throw new HttpError(status, `${before} goes on: ${error.message}`, { cause: error })
    }
    if (mode !== before) this.#events.add('services', `mode ${mode} instead of ${before}`)
    return this.view()
  }

  #served(): ServiceProxy {
    if (this.#proxy) return this.#proxy
    throw new HttpError(409, 'this daemon serves no Services (services.enabled is false, or it is just starting)')
  }
}
