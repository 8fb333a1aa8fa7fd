import { ConfigError } from './config.ts'
import type { ReloadView } from './control-api.ts'
import { HttpError } from './http-server.ts'
import type { ConfigFollower } from './reload.ts'
import type { Supervisor } from './supervisor.ts'

/** What `fairlead reload` asks for. */
export class ReloadControl {
  readonly #supervisor: Supervisor | undefined
  #follower: { readonly config: ConfigFollower | undefined } | undefined

  constructor(supervisor: Supervisor | undefined) {
    this.#supervisor = supervisor
  }

  /** From here on the configuration is followed; undefined: it is not from a file. */
  serve(config: ConfigFollower | undefined): void {
    this.#follower = { config }
  }

  /** Takes over the configuration file as it is now. Rejects with {@link HttpError}; the old configuration then goes on. */
  async reload(): Promise<ReloadView> {
    if (!this.#follower) throw new HttpError(503, 'the daemon is starting')
    const { config } = this.#follower
    if (!config) throw new HttpError(409, 'this daemon has no configuration file (fairlead run --config FILE)')
    this.#supervisor?.reloading()
    try {
      return await config.reload()
    } catch (error) {
      const status = error instanceof ConfigError ? 400 : 500
      throw new HttpError(status, `the configuration before goes on: ${(error as Error).message}`, { cause: error })
    } finally {
      this.#supervisor?.reloaded()
    }
  }
}
