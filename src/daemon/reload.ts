import { readFileSync, watch, type FSWatcher } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Config } from './config.ts'
import type { ReloadView } from './control-api.ts'

/** Where a daemon's configuration comes from, and how it is read anew. */
export interface ConfigSource {
  readonly file: string
  /** Reads and checks it, with the flags of the command line over it. Throws for the user. */
  readonly load: () => Config
}

/** A writer may write in several goes: a change is read once nothing happened for this long, ms. */
const quietMs = 100
/** Folders of other machines tell nothing of changes; they are looked at this often, ms. */
const lookMs = 30_000

/** Follows a configuration file. Dispose it to stop. */
export class ConfigFollower implements Disposable {
  readonly #source: ConfigSource
  readonly #clock: Clock
  readonly #log: Log
  readonly #apply: (config: Config) => Promise<readonly string[]>
  readonly #watcher: FSWatcher | undefined
  /** What was looked at last, and what was taken over last. */
  #text: string | undefined
  #taken: string | undefined
  #later: readonly string[] = []
  #timer: Timer | undefined
  #working = false
  #stopped = false

  /**
   * `apply` takes over a new configuration and resolves with the keys that wait for the next start; what it rejects with is
   * logged, and the old one goes on.
   */
  constructor(
    source: ConfigSource,
    options: { clock: Clock; log: Log; apply: (config: Config) => Promise<readonly string[]> },
  ) {
    this.#source = source
    this.#clock = options.clock
    this.#log = options.log
    this.#apply = options.apply
    this.#text = this.#read()
    this.#taken = this.#text
    this.#watcher = this.#watch()
    this.#schedule(lookMs)
  }

  [Symbol.dispose](): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#watcher?.close()
  }

  /** Takes over the file as it is now, unless that was done. Rejects with what is wrong with it; then the old one goes on. */
  async reload(): Promise<ReloadView> {
    while (this.#working) await this.#pause()
    const text = readFileSync(this.#source.file, 'utf8')
    this.#text = text
    if (text !== this.#taken) await this.#take(text)
    return { later: this.#later }
  }

  /** The folder and not the file: editors and ConfigMap mounts replace files by renaming. */
  #watch(): FSWatcher | undefined {
    try {
      const watcher = watch(dirname(this.#source.file), () => this.#schedule(quietMs))
      watcher.on('error', (error) => this.#log.warn({ err: error }, 'the configuration file cannot be watched'))
      watcher.unref()
      return watcher
    } catch (error) {
      this.#log.warn({ err: error }, 'the configuration file cannot be watched, it is looked at from time to time')
      return undefined
    }
  }

  #schedule(ms: number): void {
    if (this.#stopped || this.#working) return
    this.#timer?.cancel()
    this.#timer = this.#clock.after(ms, () => void this.#look())
  }

  /** Undefined while there is no such file: what was read before stays. */
  #read(): string | undefined {
    try {
      return readFileSync(this.#source.file, 'utf8')
    } catch {
      // Between two renames, or removed: "load" says why when it matters.
      return undefined
    }
  }

  async #look(): Promise<void> {
    const { file } = this.#source
    const text = this.#read()
    if (text !== undefined && text !== this.#text) {
      this.#text = text
      try {
        await this.#take(text)
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        this.#log.error({ err: error, file }, `the configuration is not taken over, the one before goes on: ${reason}`)
      }
    } else this.#schedule(lookMs)
  }

  async #take(text: string): Promise<void> {
    this.#working = true
    try {
      this.#later = await this.#apply(this.#source.load())
      this.#taken = text
    } finally {
      this.#working = false
      // It may have changed again meanwhile.
      this.#schedule(quietMs)
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => this.#clock.after(20, resolve))
  }
}

/** What of a configuration a running daemon can take over. */
const live: ReadonlySet<keyof Config> = new Set(['services', 'kubeProxy'])

/** These stand below `network` in the file. */
const ofNetwork: ReadonlySet<keyof Config> = new Set(['dockerUser', 'firewall'])

/** The keys whose change has no effect before the next start. */
export function keysForRestart(before: Config, after: Config): readonly string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)] as (keyof Config)[])
  const differ = (a: unknown, b: unknown): boolean => JSON.stringify(a) !== JSON.stringify(b)
  const changed = [...keys].filter((key) => !live.has(key) && differ(before[key], after[key]))
  const switched = (before.services === undefined) !== (after.services === undefined) ? ['services.enabled'] : []
  const ranges = differ(before.services?.serviceCIDRs, after.services?.serviceCIDRs) ? ['services.serviceCIDRs'] : []
  const named = changed.map((key) => (ofNetwork.has(key) ? `network.${key}` : key))
  return [...named, ...switched, ...(switched.length > 0 ? [] : ranges)]
}
