import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import { diffServers, hasConnections, type DrainingReal } from '../ipvs/diff.ts'
import { virtualKey, type Scheduler, type Timeouts, type VirtualServerState } from '../ipvs/objects.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { ReadTable } from '../nftables/client.ts'
import { diffTable } from '../nftables/diff.ts'
import { withFingerprint } from '../nftables/fingerprint.ts'
import { formatTransaction } from '../nftables/format.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { Change } from '../nftables/transaction.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { CleanupOptions, Dataplane, Plan, ProbeResult, SyncOptions, SyncResult } from '../proxy/dataplane.ts'
import { drainingKey, IpvsDraining } from './ipvs-draining.ts'
import { neededSysctls, type IpvsParts } from './ipvs-parts.ts'
import { ipvsSets, ipvsTable } from './ipvs-table.ts'
import { compileIpvs, formatCommand, type IpvsWanted } from './ipvs-wanted.ts'
import { anchorTable, anchorTableName } from '../proxy/nftables-anchor.ts'
import { countChanges } from '../proxy-nftables/nftables-changes.ts'
import { vipDeviceName } from './vip-device.ts'

/** What the operator says of mode ipvs. */
export interface IpvsSettings {
  /** For Services that name none. @default `rr` */
  readonly scheduler?: Scheduler
  /** The machine answers ARP only for addresses of the interface that is asked: MetalLB needs it. @default false */
  readonly strictARP?: boolean
  /** In seconds; 0 leaves the kernel's. @default all 0 */
  readonly timeouts?: Timeouts
}

/** What the kernel holds. */
interface Held {
  readonly virtuals: readonly VirtualServerState[]
  readonly table: ReadTable | undefined
  readonly vips: ReadonlySet<IpAddress>
}

/** What a sync has to do. */
interface Changes {
  readonly servers: ReturnType<typeof diffServers>
  /** Before the servers. */
  readonly rules: readonly Change[]
  /** After them: the names of frontends say which virtual servers are ours, so they go last. */
  readonly late: readonly Change[]
  readonly addVips: readonly IpAddress[]
  readonly removeVips: readonly IpAddress[]
}

interface Programmed {
  readonly services: CompiledServices
  readonly held: Held
  readonly others: ReadonlySet<IpAddress>
}

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
      const { ipvs, nft, device } = this.#ready()
      await ipvs.info()
      await nft.listTables()
      await device.probe()
      return { usable: true, limits: ipvsLimits }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return {
        usable: false,
        reason: `IPVS cannot be used: ${reason}; mode nftables needs neither`,
        limits: ipvsLimits,
      }
    }
  }

  async plan(services: CompiledServices): Promise<Plan> {
    const parts = this.#ready()
    const { held, others } = await this.#read(parts)
    const wanted = compileIpvs(services, { others, scheduler: this.#settings.scheduler })
    const { servers, rules, late, addVips, removeVips } = compare(held, wanted, { counted: true })
    const changes = [...rules, ...late]
    const text = formatTransaction({ family: 'inet', table: ipvsTable, changes })
    const counts = countChanges(changes)
    return {
      lines: [
        ...removeVips.map((ip) => `ip address del ${ip} dev ${vipDeviceName}`),
        ...(text === '' ? [] : text.split('\n')),
        ...servers.commands.map(formatCommand),
        ...addVips.map((ip) => `ip address add ${ip} dev ${vipDeviceName}`),
      ],
      elements: counts.elements + servers.commands.length + addVips.length + removeVips.length,
      rules: counts.rules,
    }
  }

  async sync(services: CompiledServices, options: SyncOptions = {}): Promise<SyncResult> {
    return await this.#exclusive(async () => await this.#syncNow(services, options))
  }

  watch(listener: () => void): void {
    this.#listener = listener
  }

  async cleanup(options: CleanupOptions = {}): Promise<void> {
    await this.#exclusive(async () => {
      const { nft, device, ipvs } = this.#ready()
      this.#programmed = undefined
      this.#stopDraining()
      const names = (await nft.listTables()).filter(({ family }) => family === 'inet').map(({ name }) => name)
      // Without our table nothing here is ours: the device may be a kube-proxy's.
      if (names.includes(ipvsTable)) {
        const table = await nft.read('inet', ipvsTable)
        await device.remove()
        const ours = (await ipvs.list()).filter((virtual) => isOurs(virtual, table))
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
    this.#stopDraining()
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
      const before = this.#programmed
      if (!before) return
      const { own, others } = await parts.device.read()
      if (isSame(own ?? new Set(), before.held.vips) && isSame(others, before.others)) return
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
      const { held, others } = trusted ?? (await this.#read(parts))
      const wanted = compileIpvs(services, { others, scheduler: this.#settings.scheduler })
      const changes = compare(held, wanted, { counted: !trusted })
      const cost = await apply(parts, changes)
      this.#programmed = { services, others, held: after(held, wanted, changes) }
      this.#draining.update(changes.servers.draining, services)
      this.#schedule()
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
    await ipvs.info()
    for (const { name, value } of neededSysctls(parts.kernelRelease, this.#settings)) parts.writeSysctl(name, value)
    const { tcp, tcpFin, udp } = this.#settings.timeouts
    if (tcp + tcpFin + udp > 0) await ipvs.setTimeouts(this.#settings.timeouts)
    const anchor = diffTable(await nft.read('inet', anchorTableName), anchorTable)
    if (anchor.length > 0) await nft.run({ family: 'inet', table: anchorTableName, changes: anchor })
  }

  async #read({ nft, ipvs, device }: IpvsParts): Promise<Pick<Programmed, 'held' | 'others'>> {
    const table = await nft.read('inet', ipvsTable)
    const { own, others } = await device.read()
    return { held: { table, virtuals: await ipvs.list(), vips: own ?? new Set() }, others }
  }

  #schedule(): void {
    this.#timer?.cancel()
    const ms = this.#draining.nextLookMs(this.#intervalMs)
    this.#timer = ms === undefined ? undefined : this.#clock.after(ms, () => void this.#lookAtDraining())
  }

  #stopDraining(): void {
    this.#draining.clear()
    this.#schedule()
  }

  async #lookAtDraining(): Promise<void> {
    try {
      await this.#exclusive(async () => {
        const gone = await this.#draining.look(this.#ready().ipvs)
        if (this.#programmed && gone.size > 0) this.#programmed = withoutReals(this.#programmed, gone)
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

/** What leads from what the kernel holds to what is wanted. `counted`: connections were just counted; else everybody may have some. */
function compare(held: Held, wanted: IpvsWanted, { counted }: { readonly counted: boolean }): Changes {
  const servers = diffServers(held.virtuals, [...wanted.virtuals.values()], {
    drains: (real, { at }) => !('protocol' in at && at.protocol === 'udp') && (!counted || hasConnections(real)),
    isForeign: (virtual) => !isOurs(virtual, held.table),
  })
  const changes = diffTable(held.table, wanted.table)
  const isLate = (change: Change): boolean => change.op === 'delete-elements' && ownershipSets.has(change.set.name)
  return {
    servers,
    rules: changes.filter((change) => !isLate(change)),
    late: changes.filter(isLate),
    addVips: [...wanted.vips].filter((ip) => !held.vips.has(ip)),
    removeVips: [...held.vips].filter((ip) => !wanted.vips.has(ip)),
  }
}

const ownershipSets: ReadonlySet<string> = new Set([ipvsSets[4].frontends.name, ipvsSets[6].frontends.name])

/** Whether our table says that the virtual server is ours: other programs' stay as they are. */
function isOurs({ at }: Pick<VirtualServerState, 'at'>, table: ReadTable | undefined): boolean {
  if ('mark' in at || !table) return false
  const key = registerBytes({ ip: at.ip }, { protocol: at.protocol }, { port: at.port })
  return [...ownershipSets].some((name) => table.elements.get(name)?.has(key) ?? false)
}

/** Addresses go first and come last: while one is here, its virtual servers and rules are, too. */
async function apply({ nft, ipvs, device }: IpvsParts, changes: Changes) {
  const { servers, rules, late, addVips, removeVips } = changes
  if (removeVips.length > 0) await device.change({ add: [], remove: removeVips })
  const counts = countChanges([...rules, ...late])
  const cost = { bytes: 0, messages: 0, kernelMs: 0, rules: counts.rules, elements: 0 }
  const write = async (part: readonly Change[]): Promise<void> => {
    if (part.length === 0) return
    const { bytes, messages, kernelMs, elements } = await nft.run({ family: 'inet', table: ipvsTable, changes: part })
    cost.bytes += bytes
    cost.messages += messages
    cost.kernelMs += kernelMs
    cost.elements += elements
  }
  await write(rules)
  const start = performance.now()
  const { bytes, messages, commands } = await ipvs.run(servers.commands)
  cost.kernelMs += performance.now() - start
  await write(late)
  if (addVips.length > 0) await device.change({ add: addVips, remove: [] })
  cost.bytes += bytes
  cost.messages += messages
  cost.elements += commands + addVips.length + removeVips.length
  return cost
}

const noTraffic = { connections: 0n, packetsIn: 0n, packetsOut: 0n, bytesIn: 0n, bytesOut: 0n }
const uncounted = { active: 0, inactive: 0, persistent: 0 }

/** What the kernel holds once the changes are in it. */
function after(held: Held, wanted: IpvsWanted, { servers }: Changes): Held {
  const draining = Map.groupBy(servers.draining, ({ virtual }) => virtualKey(virtual.at))
  const foreign = held.virtuals.filter(
    (virtual) => !wanted.virtuals.has(virtualKey(virtual.at)) && !isOurs(virtual, held.table),
  )
  const virtuals = [...wanted.virtuals].map(([key, virtual]): VirtualServerState => {
    const stay = (draining.get(key) ?? []).map(({ real }) => ({ ...real, weight: 0 }))
    const reals = virtual.reals.map((real) => ({ ...real, counts: uncounted, traffic: noTraffic }))
    return { ...virtual, reals: [...reals, ...stay], traffic: noTraffic }
  })
  const table = withFingerprint(wanted.table)
  const ruleCounts = new Map(table.chains.map(({ name, rules }) => [name, rules.length]))
  return { virtuals: [...virtuals, ...foreign], table: { ...table, ruleCounts }, vips: wanted.vips }
}

function withoutReals(programmed: Programmed, gone: ReadonlySet<string>): Programmed {
  const virtuals = programmed.held.virtuals.map((virtual) => {
    const reals = virtual.reals.filter((real) => !gone.has(drainingKey({ virtual, real })))
    return reals.length === virtual.reals.length ? virtual : { ...virtual, reals }
  })
  return { ...programmed, held: { ...programmed.held, virtuals } }
}

/** What this mode does not do as the others, each with its reason. */
const ipvsLimits: readonly string[] = [
  'externalTrafficPolicy Local: where this node has endpoints, its own pods and processes get only these too (a virtual server has one list for all clients)',
  'session affinity: clients are remembered by address and port of the Service, so a pod may differ between its addresses and ports',
  'session affinity: a client is remembered as long as one of its connections lingers, two minutes for a closed one (TIME_WAIT), whatever the timeout',
  'session affinity: after another mode, clients are chosen anew',
  'connections that this mode made end when another mode takes over',
]

function isSame(a: ReadonlySet<IpAddress>, b: ReadonlySet<IpAddress>): boolean {
  return a.size === b.size && a.isSubsetOf(b)
}
