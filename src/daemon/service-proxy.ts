import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Node } from '../model/node.ts'
import { cidrContains } from '../net/cidr.ts'
import { isLoopback, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { CompiledServices, ProxySettings } from '../proxy/compile-services.ts'
import type { Dataplane, Evidence, ExplainHost, PacketAtNode } from '../proxy/dataplane.ts'
import { LoopbackNodePorts } from '../proxy/loopback-node-ports.ts'
import type { ServiceConnections } from '../proxy/service-connections.ts'
import { localAddresses } from '../rtnetlink/local-addresses.ts'
import { SyncLoop, type SyncOutcome } from '../proxy/sync-loop.ts'
import { isNodeEligible, proxyHealth, type ProxyHealthView } from './proxy-health.ts'
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
  /** Other modes whose rules an earlier daemon left: they are removed once this one's are there. */
  readonly leftover?: readonly ServiceMode[]
  /** Keeps established connections alive while one mode goes and another comes. */
  readonly holdConnections: () => Promise<void>
  readonly onSynced: (outcome: SyncOutcome) => void
  /** These modes may be in the kernel from now on, and no other one: two while one takes over from the other. */
  readonly onModes?: (modes: readonly ServiceMode[]) => void
}

/** The Services of this node: the sync loop, and the settings and the mode that it has, which can change while it runs. */
export class ServiceProxy implements AsyncDisposable {
  readonly loop: SyncLoop
  readonly #options: ServiceProxyOptions
  readonly #loopback: LoopbackNodePorts
  readonly #dataplanes = new Map<ServiceMode, Dataplane>()
  #services: ServicesConfig
  #settings: ProxySettings
  #node: Node | undefined
  #nodeGone = false
  /** Whether `onModes` knows which modes there may be. */
  #announced = false
  #problem: string | undefined
  #leftover: readonly ServiceMode[]
  #takingOver = Promise.resolve()

  constructor(options: ServiceProxyOptions) {
    const { connections } = options
    this.#options = options
    this.#loopback = new LoopbackNodePorts(options)
    this.#services = options.services
    this.#leftover = options.leftover ?? []
    this.#settings = proxySettings(this.#services, this.#facts())
    this.loop = new SyncLoop({
      dataplane: this.#dataplane(options.services.mode),
      clock: options.clock,
      log: options.log,
      nodeName: options.nodeName,
      settings: this.#settings,
      waitFor: options.waitFor,
      minIntervalMs: options.services.minSyncPeriodMs,
      afterSync: async (services, { redirected }) => {
        await connections?.follow(services, redirected)
        await this.#loopback.update(services)
      },
      onSynced: (outcome) => {
        if (this.loop.status().syncs === 1) this.#takingOver = this.#takeOver()
        options.onSynced(outcome)
      },
    })
    prepare(this.loop.dataplane).catch(() => {
      // The first sync says it.
    })
  }

  /** Stops syncing and listening. What is in the kernel stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.loop.stop()
    this.#loopback[Symbol.dispose]()
    for (const dataplane of this.#dataplanes.values()) await dispose(dataplane)
  }

  /** What the configuration says now. */
  get config(): ServicesConfig {
    return this.#services
  }

  /** What kube-proxy's `/livez` says. */
  health(): ProxyHealthView {
    return proxyHealth(this.loop.status(), { overdueMs: this.#services.overdueMs, now: this.#options.clock.now() })
  }

  /** Whether load balancers may use this node. A node that there never was an object of counts as one. */
  get nodeEligible(): boolean {
    return this.#node ? isNodeEligible(this.#node) : !this.#nodeGone
  }

  /** Where node ports answer in a family: `all`, or these addresses of the node, as they are now. */
  nodePortHosts(family: IpFamily): 'all' | readonly IpAddress[] {
    const networks = this.#settings.nodePortAddresses
    if (!networks || networks.some(({ address, prefix }) => prefix === 0 && ipFamilyOf(address) === family))
      return 'all'
    const loopback = this.#settings.loopbackNodePorts?.includes(family) ?? false
    return [...localAddresses()].filter(
      (ip) =>
        ipFamilyOf(ip) === family &&
        (isLoopback(ip) ? loopback : networks.some((network) => cidrContains(network, ip))),
    )
  }

  /** Where a packet to a Service goes, as the kernel has it, or this process for loopback addresses; undefined: the mode cannot say. */
  async explain(services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence | undefined> {
    if (isLoopback(packet.destination) && packet.origin === 'node') return this.#loopback.explain(packet)
    return await this.loop.dataplane.explain?.(services, packet, host)
  }

  /** Takes over a newer snapshot; the settings follow this node's object in it. */
  update(snapshot: Snapshot): void {
    const node = snapshot.nodes.get(this.#options.nodeName)
    const first = this.#node === undefined
    if (node !== this.#node || first) {
      this.#nodeGone = node === undefined && (this.#nodeGone || this.#node !== undefined)
      this.#node = node
      this.refresh()
      this.#noteProblem()
    }
    // Before anything is written: this daemon may be killed before it has taken over.
    if (!this.#announced) this.#options.onModes?.([...this.#leftover, this.#services.mode])
    this.#announced = true
    this.loop.update(snapshot)
  }

  /** Looks again at what the settings depend on. */
  refresh(): void {
    const settings = proxySettings(this.#services, this.#facts())
    if (sameSettings(settings, this.#settings)) return
    this.#settings = settings
    this.loop.configure(settings)
  }

  /** Takes over another configuration; rejects with SwitchError or ModeUnavailableError, and takes nothing over, when its mode cannot be had. */
  async configure(services: ServicesConfig): Promise<void> {
    await this.setMode(services.mode)
    this.#services = services
    this.refresh()
    this.#noteProblem()
    this.loop.setMinInterval(services.minSyncPeriodMs)
  }

  /** New mode in, verified, then the old one out. Rejects as {@link configure} does. */
  async setMode(mode: ServiceMode): Promise<void> {
    if (mode === this.#services.mode) return
    await this.#takingOver
    const { holdConnections, onModes } = this.#options
    const from = this.#services.mode
    await holdConnections()
    onModes?.([...this.#leftover, from, mode])
    await this.loop.switchTo(this.#dataplane(mode))
    this.#services = { ...this.#services, mode }
    if (this.loop.status().ready) onModes?.([...this.#leftover, mode])
  }

  /** Removes what an earlier daemon had in other modes, now that connections find this one's rules. */
  async #takeOver(): Promise<void> {
    const { mode } = this.#services
    const { holdConnections, connections, log, onModes } = this.#options
    for (const from of this.#leftover) {
      try {
        if (from === mode) continue
        await holdConnections()
        await this.#dataplane(from).cleanup({ keepAnchor: true })
        if (from === 'userspace') await connections?.forgetRelayed()
        log.info({ from, mode }, `took over from mode ${from}`)
      } catch (error) {
        log.error({ err: error, from }, `what mode ${from} left cannot be removed`)
        // The record still has it: the next start tries again.
        return
      }
    }
    this.#leftover = []
    onModes?.([mode])
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

/** Some modes hold more than the kernel does: tools that are open, sockets. */
async function dispose(dataplane: Dataplane & Partial<AsyncDisposable & Disposable>): Promise<void> {
  if (dataplane[Symbol.asyncDispose]) await dataplane[Symbol.asyncDispose]?.()
  else dataplane[Symbol.dispose]?.()
}

/** Finds tools and parts of the kernel while the sources are still being read. */
async function prepare(dataplane: Dataplane): Promise<void> {
  const { usable } = await dataplane.probe()
  if (usable) await dataplane.prepare?.()
}
