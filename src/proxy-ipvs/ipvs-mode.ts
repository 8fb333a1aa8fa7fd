import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import { IpvsUnavailableError } from '../ipvs/client.ts'
import type { DrainingReal } from '../ipvs/diff.ts'
import { realKey, virtualKey, type Scheduler, type Timeouts, type VirtualServerState } from '../ipvs/objects.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { diffTable } from '../nftables/diff.ts'
import { formatTransaction } from '../nftables/format.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type {
  CleanupOptions,
  Dataplane,
  Evidence,
  ExplainHost,
  PacketAtNode,
  Plan,
  ProbeResult,
  SyncOptions,
  SyncResult,
} from '../proxy/dataplane.ts'
import { drainSeconds } from '../proxy/draining.ts'
import { anchorTable, anchorTableName } from '../proxy/nftables-anchor.ts'
import { countChanges } from '../proxy-nftables/nftables-changes.ts'
import { applyChanges, byKey, compareHeld, heldAfter, isOurs, withoutReals, type Held } from './ipvs-changes.ts'
import { IpvsDraining } from './ipvs-draining.ts'
import { explainIpvs } from './ipvs-explain.ts'
import { KnownSchedulers } from './known-schedulers.ts'
import { ipvsLimits } from './ipvs-limits.ts'
import type { IpvsParts } from './ipvs-parts.ts'
import { applySysctls } from './ipvs-settings.ts'
import { ipvsTable, vipsOf } from './ipvs-table.ts'
import { compileIpvs, formatCommand, newIpvsMemo, type IpvsWanted } from './ipvs-wanted.ts'

/** What the operator says of mode ipvs. */
export interface IpvsSettings {
  /** For Services that name none. @default `rr` */
  readonly scheduler?: Scheduler
  /** The machine answers ARP only for addresses of the interface that is asked: MetalLB needs it. @default false */
  readonly strictARP?: boolean
  /** In seconds; 0 leaves the kernel's. @default all 0 */
  readonly timeouts?: Timeouts
}

interface Programmed {
  readonly services: CompiledServices
  readonly held: Held
  readonly wanted: IpvsWanted
  readonly others: ReadonlySet<IpAddress>
}

/**
 * How often IPVS is compared with what it should be: it tells nobody of changes. The more there is to read, the less often: a server,
 * virtual or real, takes some 20 us. Not by the clock: a machine that was busy once would then not look for a long time.
 */
const auditEveryMs = 900
const auditMsPerServer = 1

/**
 * The IPVS mode: a virtual server for each address and port, addresses on a dummy device, and an nftables table for what IPVS
 * cannot do. See README.md and docs/packet-path.md.
 */
export class IpvsMode implements Dataplane, Disposable {
  readonly name = 'ipvs'
  readonly #open: () => IpvsParts
  readonly #log: Log
  readonly #clock: Clock
  readonly #settings: Required<IpvsSettings>
  readonly #intervalMs: number
  #parts: IpvsParts | undefined
  /** Undefined until the first sync, and after anything that makes us unsure of the kernel. */
  #programmed: Programmed | undefined
  #drift = false
  #listener: (() => void) | undefined
  readonly #draining: IpvsDraining
  #timer: Timer | undefined
  #audit: Timer | undefined
  #checking = false
  readonly #memo = newIpvsMemo()
  readonly #schedulers = new KnownSchedulers()
  /** Syncs and looks at what drains do not overlap. */
  #turn: Promise<unknown> = Promise.resolve()

  /** `open` gives the kernel's parts: `openIpvsParts`. */
  constructor(
    open: () => IpvsParts,
    options: {
      readonly log: Log
      readonly clock?: Clock
      readonly settings?: IpvsSettings
      /** Between two looks at real servers that drain, ms. @default 5000 */
      readonly intervalMs?: number
    },
  ) {
    this.#open = open
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
    this.#draining = new IpvsDraining({ clock: this.#clock, log: options.log })
    this.#intervalMs = options.intervalMs ?? 5000
    const { scheduler = 'rr', strictARP = false, timeouts = { tcp: 0, tcpFin: 0, udp: 0 } } = options.settings ?? {}
    this.#settings = { scheduler, strictARP, timeouts }
  }

  /** Real servers that nobody wants, and that still have connections. */
  get draining(): readonly DrainingReal[] {
    return this.#draining.reals
  }

  async probe(): Promise<ProbeResult> {
    try {
      const { ipvs, nft } = this.#ready()
      await ipvs.info()
      await nft.listTables()
      return { usable: true, limits: Object.values(ipvsLimits) }
    } catch (error) {
      const reason = error instanceof IpvsUnavailableError ? instead(error) : `IPVS cannot be used: ${String(error)}`
      return { usable: false, reason, limits: Object.values(ipvsLimits) }
    }
  }

  async plan(services: CompiledServices): Promise<Plan> {
    const parts = this.#ready()
    const { name } = parts.device
    const { held, others } = await this.#read(parts)
    const wanted = this.#compile(services, { others, held })
    const { servers, rules, late, addVips, removeVips } = compareHeld(held, wanted, { counted: true })
    const changes = [...rules, ...late]
    const text = formatTransaction({ family: 'inet', table: ipvsTable, changes })
    const counts = countChanges(changes)
    return {
      lines: [
        ...removeVips.map((ip) => `ip address del ${ip} dev ${name}`),
        ...(text === '' ? [] : text.split('\n')),
        ...servers.commands.map(formatCommand),
        ...addVips.map((ip) => `ip address add ${ip} dev ${name}`),
      ],
      elements: counts.elements + servers.commands.length + addVips.length + removeVips.length,
      rules: counts.rules,
    }
  }

  async sync(services: CompiledServices, options: SyncOptions = {}): Promise<SyncResult> {
    return await this.#exclusive(async () => await this.#syncNow(services, options))
  }

  async explain(services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence> {
    const { held, others } = await this.#read(this.#ready())
    const wanted = this.#compile(services, { others, held })
    const { servers, rules, late, addVips, removeVips } = compareHeld(held, wanted, { counted: true })
    const places = servers.commands.length + rules.length + late.length + addVips.length + removeVips.length
    return explainIpvs(services, { held, wanted, places }, { packet, host })
  }

  watch(listener: () => void): void {
    this.#listener = listener
  }

  async cleanup(options: CleanupOptions = {}): Promise<void> {
    await this.#exclusive(async () => {
      const { nft, device, ipvs } = this.#ready()
      this.#programmed = undefined
      this.#stopTimers()
      const names = (await nft.listTables()).filter(({ family }) => family === 'inet').map(({ name }) => name)
      // Without our table nothing here is ours: the device may be a kube-proxy's.
      if (names.includes(ipvsTable)) {
        const table = await nft.read('inet', ipvsTable)
        await device.remove(vipsOf(table))
        const ours = (await ipvs.list()).filter(isOurs(table))
        await ipvs.run(ours.map(({ at }) => ({ op: 'delete-virtual', at })))
        await nft.run({ family: 'inet', table: ipvsTable, changes: [{ op: 'delete-table' }] })
      }
      if (options.keepAnchor !== true && names.includes(anchorTableName)) {
        await nft.run({ family: 'inet', table: anchorTableName, changes: [{ op: 'delete-table' }] })
      }
    })
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    this.#stopTimers()
    this.#parts?.[Symbol.dispose]()
    this.#parts = undefined
    this.#programmed = undefined
  }

  #ready(): IpvsParts {
    if (this.#parts) return this.#parts
    const parts = this.#open()
    this.#parts = parts
    parts.nft.watch({
      onChange: ({ table }) => {
        if (table === ipvsTable || table === anchorTableName) this.#noteDrift()
      },
      onLost: () => this.#noteDrift(),
    })
    parts.device.watch(() => {
      // Ten thousand addresses that come at once are one reason to look.
      if (this.#checking) return
      this.#checking = true
      this.#checkAddresses(parts).catch((error: unknown) => {
        this.#log.error({ err: error, mode: this.name }, 'cannot read the addresses of this machine')
      })
    })
    return parts
  }

  #noteDrift(): void {
    this.#drift = true
    if (this.#programmed) this.#listener?.()
  }

  /** An address came or went. It may have been us. */
  async #checkAddresses(parts: IpvsParts): Promise<void> {
    await this.#exclusive(async () => {
      this.#checking = false
      const before = this.#programmed
      if (!before) return
      const { own, others } = await parts.device.read(before.held.vips)
      if (isSame(own, before.held.vips) && isSame(others, before.others)) return
      this.#noteDrift()
    })
  }

  async #syncNow(services: CompiledServices, options: SyncOptions): Promise<SyncResult> {
    const parts = this.#ready()
    const before = this.#programmed
    const drift = this.#drift
    const trusted = before && !drift && !options.verify ? before : undefined
    // Until this sync has succeeded, nothing is known: there are no transactions.
    this.#programmed = undefined
    this.#drift = false
    try {
      if (!trusted) await this.#prepare(parts)
      const { held, others } = trusted ?? (await this.#read(parts, before?.held.vips))
      const wanted = await this.#compileKnown(services, { others, held })
      const changes = compareHeld(held, wanted, { counted: !trusted })
      const cost = await applyChanges(parts, changes)
      this.#programmed = { services, others, wanted, held: heldAfter(held, wanted, changes) }
      this.#draining.update(changes.servers.draining, (key) => {
        const service = wanted.virtuals.get(key)?.service
        return service === undefined ? undefined : drainSeconds(service, services)
      })
      this.#schedule()
      this.#audit ??= this.#clock.after(auditEveryMs, () => void this.#auditServers())
      const repaired = before !== undefined && drift && cost.elements + cost.rules > 0
      if (repaired)
        this.#log.warn({ mode: this.name, ...cost }, `repaired: ${cost.elements} elements, ${cost.rules} rules`)
      const servicesChanged = before
        ? SharedMap.changedKeys(before.services.services, services.services).size
        : services.services.size
      return { kind: trusted ? 'change' : 'full', servicesChanged, repaired, ...cost }
    } catch (error) {
      this.#drift ||= drift
      throw error
    }
  }

  /** What does not follow from Services: settings of the kernel, and the table that keeps connections alive. */
  async #prepare(parts: IpvsParts): Promise<void> {
    const { nft, ipvs } = parts
    // The settings come with the module, which comes with the first question.
    await ipvs.info().catch((error: unknown) => {
      // No cause: it would say the same again.
      throw error instanceof IpvsUnavailableError ? new IpvsUnavailableError(instead(error)) : error
    })
    applySysctls(parts, { strictARP: this.#settings.strictARP, log: this.#log })
    const { tcp, tcpFin, udp } = this.#settings.timeouts
    if (tcp + tcpFin + udp > 0) await ipvs.setTimeouts(this.#settings.timeouts)
    const anchor = diffTable(await nft.read('inet', anchorTableName), anchorTable)
    if (anchor.length > 0) await nft.run({ family: 'inet', table: anchorTableName, changes: anchor })
  }

  /** Addresses on `lo` are ours when the table says so, or `vips`, where somebody deleted it. */
  async #read(
    { nft, ipvs, device }: IpvsParts,
    vips: ReadonlySet<IpAddress> = new Set(),
  ): Promise<Pick<Programmed, 'held' | 'others'>> {
    const table = await nft.read('inet', ipvsTable)
    const { own, others } = await device.read(vipsOf(table).union(vips))
    return { held: { table, virtuals: byKey(await ipvs.list()), vips: own }, others }
  }

  /** Looks for changes by others: ipvsadm's show nowhere else. */
  async #auditServers(): Promise<void> {
    let servers = 0
    try {
      const { ipvs } = this.#ready()
      const before = this.#programmed
      // Ten thousand of them take a second: no sync waits for it, and what a sync changed meanwhile says nothing.
      const virtuals = before && (await ipvs.list())
      servers = virtuals?.reduce((sum, { reals }) => sum + 1 + reals.length, 0) ?? 0
      await this.#exclusive(async () => {
        if (virtuals && this.#programmed === before && differs(virtuals, before, this.#draining)) this.#noteDrift()
      })
    } catch (error) {
      if (this.#audit)
        this.#log.error({ err: error, mode: this.name }, 'cannot compare the virtual servers; trying again')
    }
    // The mode was removed meanwhile.
    if (!this.#audit) return
    this.#audit = this.#clock.after(Math.max(auditEveryMs, servers * auditMsPerServer), () => void this.#auditServers())
  }

  /** With schedulers that this kernel has. */
  async #compileKnown(services: CompiledServices, kernel: Pick<Programmed, 'others' | 'held'>): Promise<IpvsWanted> {
    const wanted = this.#compile(services, kernel)
    this.#schedulers.note([...kernel.held.virtuals.values()].map(({ scheduler }) => scheduler))
    const asked = [...wanted.virtuals.values()].map(({ server }) => server.scheduler)
    const lacking = await this.#schedulers.learn(this.#ready().ipvs, asked)
    for (const scheduler of lacking)
      this.#log.warn(
        { mode: this.name, scheduler },
        `this kernel has no scheduler ${scheduler} (module ip_vs_${scheduler}): Services that ask for it have rr or wrr`,
      )
    return lacking.length === 0 ? wanted : this.#compile(services, kernel)
  }

  #compile(services: CompiledServices, { others, held }: Pick<Programmed, 'others' | 'held'>): IpvsWanted {
    const { scheduler } = this.#settings
    const { missing } = this.#schedulers
    return compileIpvs(services, { others, scheduler, missing, table: held.table }, this.#memo)
  }

  #schedule(): void {
    this.#timer?.cancel()
    const ms = this.#draining.nextLookMs(this.#intervalMs)
    this.#timer = ms === undefined ? undefined : this.#clock.after(ms, () => void this.#lookAtDraining())
  }

  #stopTimers(): void {
    this.#audit?.cancel()
    this.#audit = undefined
    this.#draining.clear()
    this.#schedule()
  }

  async #lookAtDraining(): Promise<void> {
    try {
      await this.#exclusive(async () => {
        const gone = await this.#draining.look(this.#ready().ipvs)
        if (this.#programmed && gone.size > 0)
          this.#programmed = { ...this.#programmed, held: withoutReals(this.#programmed.held, gone) }
        this.#schedule()
      })
    } catch (error) {
      this.#log.error({ err: error, mode: this.name }, 'cannot look at real servers that drain; trying again')
      // One of them may be gone.
      this.#noteDrift()
      this.#timer = this.#clock.after(this.#intervalMs, () => void this.#lookAtDraining())
    }
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }
}

function instead({ message }: IpvsUnavailableError): string {
  return `${message}; modes nftables and iptables do without IPVS`
}

/** Whether IPVS holds something else than was programmed. Real servers that drain go by themselves. */
function differs(
  virtuals: readonly VirtualServerState[],
  { held, wanted }: Pick<Programmed, 'held' | 'wanted'>,
  draining: IpvsDraining,
): boolean {
  const { table, vips } = held
  const { servers } = compareHeld({ table, vips, virtuals: byKey(virtuals) }, wanted, { counted: true })
  const leaving = new Set(draining.reals.map(({ virtual, real }) => `${virtualKey(virtual.at)} ${realKey(real)}`))
  return servers.commands.some(
    (command) => command.op !== 'delete-real' || !leaving.has(`${virtualKey(command.at)} ${realKey(command.real)}`),
  )
}

function isSame(a: ReadonlySet<IpAddress>, b: ReadonlySet<IpAddress>): boolean {
  return a.size === b.size && a.isSubsetOf(b)
}
