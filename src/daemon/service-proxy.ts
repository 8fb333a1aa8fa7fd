import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Node } from '../model/node.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { ProxySettings } from '../proxy/compile-services.ts'
import type { Dataplane } from '../proxy/dataplane.ts'
import type { ServiceConnections } from '../proxy/service-connections.ts'
import { SyncLoop, type SyncOutcome } from '../proxy/sync-loop.ts'
import { proxySettings, sameSettings, settingsProblem, type SettingsFacts } from './proxy-settings.ts'
import type { ServiceMode, ServicesConfig } from './services-config.ts'

/** What a {@link ServiceProxy} is made of. */
export interface ServiceProxyOptions {
  readonly services: ServicesConfig
  readonly nodeName: string
  readonly dataplane: (mode: ServiceMode) => Dataplane
  /** What of the settings depends on this machine, at the moment. */
  readonly facts: () => Omit<SettingsFacts, 'node'>
  readonly waitFor: readonly string[]
  readonly clock: Clock
  readonly log: Log
  /** What becomes of established connections; undefined: this kernel cannot tell of them. */
  readonly connections: ServiceConnections | undefined
  readonly onSynced: (outcome: SyncOutcome) => void
}

/** The Services of this node: the sync loop, and the settings and the mode that it has, which can change while it runs. */
export class ServiceProxy {
  readonly loop: SyncLoop
  readonly #options: ServiceProxyOptions
  readonly #dataplanes = new Map<ServiceMode, Dataplane>()
  #services: ServicesConfig
  #settings: ProxySettings
  #node: Node | undefined
  #problem: string | undefined

  constructor(options: ServiceProxyOptions) {
    const { connections } = options
    this.#options = options
    this.#services = options.services
    this.#settings = proxySettings(this.#services, this.#facts())
    this.loop = new SyncLoop({
      dataplane: this.#dataplane(options.services.mode),
      clock: options.clock,
      log: options.log,
      nodeName: options.nodeName,
      settings: this.#settings,
      waitFor: options.waitFor,
      minIntervalMs: options.services.minSyncPeriodMs,
      ...(connections && {
        afterSync: async (services, { relays = false }) => {
          await connections.follow(services, { relayed: relays })
        },
      }),
      onSynced: options.onSynced,
    })
  }

  /** What the configuration says now. */
  get config(): ServicesConfig {
    return this.#services
  }

  /** This node's object; undefined: there is none. */
  get node(): Node | undefined {
    return this.#node
  }

  /** Takes over a newer snapshot; the settings follow this node's object in it. */
  update(snapshot: Snapshot): void {
    const node = snapshot.nodes.get(this.#options.nodeName)
    const first = this.#node === undefined
    if (node !== this.#node || first) {
      this.#node = node
      this.refresh()
      this.#noteProblem()
    }
    this.loop.update(snapshot)
  }

  /** Looks again at what the settings depend on. */
  refresh(): void {
    const settings = proxySettings(this.#services, this.#facts())
    if (sameSettings(settings, this.#settings)) return
    this.#settings = settings
    this.loop.configure(settings)
  }

  /** Takes over another configuration; rejects with SwitchError or ModeUnavailableError when its mode cannot be had. */
  async configure(services: ServicesConfig): Promise<void> {
    const modeBefore = this.#services.mode
    this.#services = { ...services, mode: modeBefore }
    this.refresh()
    this.#noteProblem()
    this.loop.setMinInterval(services.minSyncPeriodMs)
    if (services.mode !== modeBefore) await this.setMode(services.mode)
  }

  /** New mode in, verified, then the old one out. Rejects as {@link configure} does. */
  async setMode(mode: ServiceMode): Promise<void> {
    if (mode === this.#services.mode) return
    await this.loop.switchTo(this.#dataplane(mode))
    this.#services = { ...this.#services, mode }
  }

  #facts(): SettingsFacts {
    return { ...this.#options.facts(), node: this.#node }
  }

  #noteProblem(): void {
    const problem = settingsProblem(this.#services, this.#facts())
    if (problem !== undefined && problem !== this.#problem) this.#options.log.warn({}, problem)
    this.#problem = problem
  }

  /** Each mode once: a dataplane knows what it programmed, and follows the kernel. */
  #dataplane(mode: ServiceMode): Dataplane {
    let dataplane = this.#dataplanes.get(mode)
    if (!dataplane) this.#dataplanes.set(mode, (dataplane = this.#options.dataplane(mode)))
    return dataplane
  }
}
