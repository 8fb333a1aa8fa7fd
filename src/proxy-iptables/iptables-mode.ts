import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { IptablesClient, StartedRestore } from '../iptables/client.ts'
import { countRules, formatRestore } from '../iptables/save-format.ts'
import type { Ruleset, TableChanges } from '../iptables/objects.ts'
import { TableWatch } from '../iptables/table-watch.ts'
import { ipFamilies, ipFamilyOf, type IpFamily } from '../net/ip-address.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type {
  Dataplane,
  Evidence,
  ExplainHost,
  PacketAtNode,
  Plan,
  ProbeResult,
  SyncOptions,
  SyncResult,
} from '../proxy/dataplane.ts'
import { changeFamily, programmedFamily, type ProgrammedFamily } from './iptables-changes.ts'
import { findServiceRules, toolName } from './iptables-cleanup.ts'
import { explainRules } from './iptables-explain.ts'
import { isServiceChain } from './iptables-names.ts'
import type { IptablesParts } from './iptables-parts.ts'
import {
  awaitedLater,
  IptablesWriter,
  setChanges,
  type SetChanges,
  type WriteCost,
  type Writing,
} from './iptables-writer.ts'
import { SetWatch } from './set-watch.ts'
import { clusterIpSet, clusterIpsOf, changeTables, contextOf, manyEndpoints, touchedTables } from './iptables-tables.ts'

/** Sources that take longer may take for ever; a process that waits for them is nothing to find on a node. */
const longestWaitMs = 60_000

/** What is remembered between syncs. */
interface Programmed {
  readonly services: CompiledServices
  readonly families: readonly ProgrammedFamily[]
}

/** The iptables mode: kube-proxy's chains, names and comments, one iptables-restore for each sync and family. */
export class IptablesMode implements Dataplane, Disposable {
  readonly name = 'iptables'
  readonly #open: () => Promise<IptablesParts>
  readonly #log: Log
  readonly #clock: Clock
  #parts: Promise<IptablesParts> | undefined
  #watch: TableWatch | undefined
  #setWatch: SetWatch | undefined
  /** Undefined until the first sync, and after anything that makes us unsure of the kernel. */
  #programmed: Programmed | undefined
  /** Somebody else changed the tables since the last sync. */
  #drift: { readonly by: string | undefined } | undefined
  #listener: (() => void) | undefined
  /** Whether there was a sync, or another change of ours. */
  #begun = false
  /** What {@link prepare} began to read; undefined once it was used, or once we heard of a change by others. */
  #reads: readonly Promise<Ruleset>[] | undefined
  /** Tools that wait for the first sync, one for each family; none where Services are there already. */
  #started: readonly StartedRestore[] = []
  #waiting: Timer | undefined

  /** `open` finds the tools: `() => openIptablesParts({ log })`. It is tried again at the next call when it fails. */
  constructor(open: () => Promise<IptablesParts>, options: { readonly log: Log; readonly clock?: Clock }) {
    this.#open = open
    this.#log = options.log
    this.#clock = options.clock ?? systemClock
  }

  async probe(): Promise<ProbeResult> {
    try {
      const { limits } = await this.#ready()
      return { usable: true, limits: [...iptablesLimits, ...limits] }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return { usable: false, reason: `iptables cannot be used: ${reason}`, limits: iptablesLimits }
    }
  }

  /**
   * Finds the tools, and begins to read what is there, for the first sync: from then on the tables change. Where no Services are there,
   * the tools that are to write them are started, too.
   */
  async prepare(): Promise<void> {
    const parts = await this.#ready()
    if (this.#begun || this.#reads) return
    const reads = readAll(parts)
    this.#reads = reads
    Promise.all(reads).then(
      (all) => {
        if (this.#reads !== reads || this.#started.length > 0 || all.some(hasServiceChains)) return
        this.#started = parts.clients.map((client) => client.startRestore())
        this.#waiting = this.#clock.after(longestWaitMs, () => this.#takeStarted()[Symbol.dispose]())
      },
      () => {
        // It may go better next time; if not, the sync says why.
        if (this.#reads === reads) this.#reads = undefined
      },
    )
  }

  async plan(services: CompiledServices): Promise<Plan> {
    const parts = await this.#ready()
    const lines: string[] = []
    let rules = 0
    let elements = 0
    for (const client of parts.clients) {
      const { changes } = await differences(client.save(), services, { parts, family: client.family })
      const text = formatRestore(changes, client.variant)
      rules += countRules(changes)
      if (text !== '') lines.push(`# ${toolName(client)}-restore --noflush`, ...text.trimEnd().split('\n'))
      const { add, remove } = await setChanges(parts, services, client.family)
      const { name } = clusterIpSet(client.family)
      for (const ip of add) lines.push(`# ipset add ${name} ${ip}`)
      for (const ip of remove) lines.push(`# ipset del ${name} ${ip}`)
      elements += add.length + remove.length
    }
    return { lines, elements, rules }
  }

  async sync(services: CompiledServices, options: SyncOptions = {}): Promise<SyncResult> {
    this.#begun = true
    const parts = await this.#ready()
    const reads = options.verify ? undefined : this.#reads
    this.#reads = undefined
    using waiting = this.#takeStarted()
    const before = this.#programmed
    const trusted = before && !this.#drift && !options.verify ? before : undefined
    const useful = trusted && trusted.services.settings === services.settings ? trusted : undefined
    // Until this sync has succeeded, nothing is known: one family may be written and the other not.
    this.#programmed = undefined
    this.#setWatch?.pause()
    const enough = useful?.families.every(({ context }) => context.terse === isLarge(services, context.family))
    const result = await (useful && enough === true
      ? this.#syncChanges(parts, services, { before: useful, ...options })
      : this.#syncAll(parts, services, { before, reads: reads ?? readAll(parts), started: waiting.tools, ...options }))
    if (parts.sets) await this.#setWatch?.expect(parts.clients.map(({ family }) => clusterIpSet(family).name))
    if (this.#drift) this.#listener?.()
    return result
  }

  async explain(services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence> {
    const parts = await this.#ready()
    const family = ipFamilyOf(packet.destination)
    const client = parts.clients.find((some) => some.family === family)
    if (!client) return { lines: [], differences: [`there are no IPv${family} tables here`] }
    const rules = client.save()
    const { changes } = await differences(rules, services, { parts, family })
    const clusterIps = (await parts.sets?.read(clusterIpSet(family).name)) ?? new Set()
    return explainRules(packet, host, { rules: await rules, changes, clusterIps })
  }

  watch(listener: () => void): void {
    this.#listener = listener
  }

  async cleanup(): Promise<void> {
    this.#begun = true
    this.#reads = undefined
    this.#takeStarted()[Symbol.dispose]()
    const parts = await this.#ready()
    this.#programmed = undefined
    for (const { client, ours, changes } of await findServiceRules(await allClients(parts))) {
      if (ours) await parts.restores.during(() => client.restore(changes))
    }
    for (const family of ipFamilies) await parts.sets?.destroy(clusterIpSet(family).name)
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    this.#reads = undefined
    this.#takeStarted()[Symbol.dispose]()
    this.#watch?.[Symbol.dispose]()
    this.#watch = undefined
    this.#setWatch?.[Symbol.dispose]()
    this.#setWatch = undefined
    const parts = this.#parts
    this.#parts = undefined
    // One that is still being opened is closed when it is there; if it fails, there is nothing to close.
    parts?.then(
      (opened) => opened[Symbol.dispose](),
      () => undefined,
    )
  }

  async #ready(): Promise<IptablesParts> {
    const opening = (this.#parts ??= this.#open())
    try {
      const parts = await opening
      // Nobody would stop a watch that is begun after the end.
      if (this.#parts !== opening) throw new Error('the iptables mode was closed meanwhile')
      this.#watch ??= new TableWatch({
        ...parts,
        tables: touchedTables,
        clock: this.#clock,
        onChange: (by) => this.#noteDrift(by),
      })
      const { sets } = parts
      if (sets) {
        this.#setWatch ??= new SetWatch(sets, { clock: this.#clock, onChange: () => this.#noteDrift(undefined) })
      }
      return parts
    } catch (error) {
      if (this.#parts === opening) this.#parts = undefined
      throw error
    }
  }

  /** The tools that wait: whoever takes them ends those that are not wanted. */
  #takeStarted(): { readonly tools: readonly StartedRestore[] } & Disposable {
    const tools = this.#started
    this.#started = []
    this.#waiting?.cancel()
    return {
      tools,
      [Symbol.dispose]: () => {
        for (const tool of tools) tool[Symbol.dispose]()
      },
    }
  }

  #noteDrift(by: string | undefined): void {
    this.#reads = undefined
    if (!this.#programmed && this.#drift) return
    this.#drift = { by }
    if (this.#programmed) this.#listener?.()
  }

  /** Reads the kernel and brings all of it to what is wanted. */
  async #syncAll(
    parts: IptablesParts,
    services: CompiledServices,
    {
      before,
      reads,
      started,
      signal,
    }: {
      readonly before: Programmed | undefined
      readonly reads: readonly Promise<Ruleset>[]
      readonly started: readonly StartedRestore[]
      readonly signal?: AbortSignal
    },
  ): Promise<SyncResult> {
    const drift = this.#drift
    // A change that comes while we read is noted anew, and leads to another sync.
    this.#drift = undefined
    try {
      const writer = new IptablesWriter(parts, signal)
      const { cost } = writer
      const families: ProgrammedFamily[] = []
      let last: Writing = { handedOver: Promise.resolve(), done: Promise.resolve() }
      try {
        for (const [i, client] of parts.clients.entries()) {
          const { family } = client
          const reading = reads[i]!
          const former = last
          // With nothing there, there is something to write for sure.
          const startsEarly = !hasServiceChains(await reading)
          const prepare = async (): Promise<readonly TableChanges[]> => {
            // Made while the tool works on the family before, but not while it waits for us.
            await former.handedOver
            const { changes, wanted } = await differences(reading, services, { parts, family })
            families.push(wanted)
            // Makes what else would be made when it is read.
            if (i > 0) countRules(changes)
            // One tool at a time, for they share a lock.
            await former.done
            return changes
          }
          // Rules may only name a set that exists.
          await parts.sets?.create(clusterIpSet(family))
          last = writer.write(started[i] ?? client, awaitedLater(prepare()), { services, startsEarly })
        }
      } finally {
        await last.done
      }
      this.#programmed = { services, families }
      const repaired = before !== undefined && drift !== undefined && (cost.rules > 0 || cost.elements > 0)
      if (repaired) this.#logRepair(drift.by, cost)
      const servicesChanged = before
        ? SharedMap.changedKeys(before.services.services, services.services).size
        : services.services.size
      return { kind: 'full', servicesChanged, repaired, ...cost }
    } catch (error) {
      this.#drift ??= drift
      throw error
    }
  }

  /** Writes what the changed Services need, and looks at nothing else. */
  async #syncChanges(
    parts: IptablesParts,
    services: CompiledServices,
    { before, signal }: { readonly before: Programmed; readonly signal?: AbortSignal },
  ): Promise<SyncResult> {
    const writer = new IptablesWriter(parts, signal)
    const keys = SharedMap.changedKeys(before.services.services, services.services)
    const families: ProgrammedFamily[] = []
    for (const [i, programmed] of before.families.entries()) {
      const client = parts.clients[i]
      if (!client) throw new Error('the families of the iptables tools changed')
      const { family } = client
      const { add, remove } = changedClusterIps(before.services, services, { keys, family })
      await writer.addToSet(family, add)
      const { changes, after } = changeFamily(programmed, services)
      await writer.restore(client, changes)
      await writer.removeFromSet(family, remove)
      families.push(after)
    }
    this.#programmed = { services, families }
    return { kind: 'change', servicesChanged: keys.size, repaired: false, ...writer.cost }
  }

  #logRepair(by: string | undefined, { rules, elements }: WriteCost): void {
    this.#log.warn(
      { mode: this.name, rules, elements, process: by },
      `repaired: ${elements} elements, ${rules} rules by ${by ?? 'an unknown process'}`,
    )
  }
}

/** What the rules of one family lack, and what to remember once they have it. */
async function differences(
  reading: Promise<Ruleset>,
  services: CompiledServices,
  { parts, family }: { readonly parts: IptablesParts; readonly family: IpFamily },
): Promise<{ readonly changes: readonly TableChanges[]; readonly wanted: ProgrammedFamily }> {
  const context = contextOf(services, { family, terse: isLarge(services, family) })
  const wanted = programmedFamily(services, context, parts.features)
  const current = await awaitedLater(reading)
  return { changes: changeTables(current, { ...wanted, variant: parts.nft ? 'nft' : 'legacy' }), wanted }
}

/** Whether somebody programmed Services, ever. */
function hasServiceChains(current: Ruleset): boolean {
  return [...current.values()].some((chains) => [...chains.keys()].some(isServiceChain))
}

/** What is in the kernel, family by family. */
function readAll({ clients }: IptablesParts): readonly Promise<Ruleset>[] {
  return clients.map((client) => awaitedLater(client.save()))
}

/** Clients of both kinds of tools. */
async function allClients(parts: IptablesParts): Promise<readonly IptablesClient[]> {
  return [...parts.clients, ...(await parts.others())]
}

/** Cluster IPs that come and go. Two Services may share one, with different ports. */
function changedClusterIps(
  before: CompiledServices,
  after: CompiledServices,
  { keys, family }: { readonly keys: ReadonlySet<string>; readonly family: IpFamily },
): SetChanges {
  const pick = (from: CompiledServices) => [...keys].flatMap((key) => from.services.get(key) ?? [])
  const was = clusterIpsOf(pick(before), family)
  const is = clusterIpsOf(pick(after), family)
  const gone = [...was.keys()].filter((ip) => !is.has(ip))
  // Nobody counts who has them, and they seldom go.
  const used = gone.length > 0 ? clusterIpsOf(after.services.values(), family) : is
  return { add: [...is.keys()].filter((ip) => !was.has(ip)), remove: gone.filter((ip) => !used.has(ip)) }
}

/** Whether kube-proxy would leave out the comments of endpoints. */
function isLarge(services: CompiledServices, family: IpFamily): boolean {
  let count = 0
  for (const { frontends } of services.services.values()) {
    for (const frontend of frontends) {
      if (frontend.kind !== 'cluster-ip' || frontend.family !== family || frontend.verdict.kind !== 'balance') continue
      count += new Set(frontend.verdict.slots).size
      if (count > manyEndpoints) return true
    }
  }
  return false
}

/** What this mode does not do as the others, each with its reason. */
const iptablesLimits: readonly string[] = [
  'session affinity: the kernel remembers the last 100 clients of each endpoint (ip_list_tot of xt_recent)',
  'algorithm maglev: another hash than in the other modes, so a client reaches another endpoint through nodes of another mode',
]
