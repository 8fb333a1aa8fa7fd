import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { IptablesClient, RestoreResult } from '../iptables/client.ts'
import { isEmptyChange, countRules, formatRestore } from '../iptables/save-format.ts'
import type { TableChanges } from '../iptables/objects.ts'
import { TableWatch } from '../iptables/table-watch.ts'
import { ipFamilies, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
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
import type { IptablesParts } from './iptables-parts.ts'
import { SetWatch } from './set-watch.ts'
import {
  clusterIpSet,
  clusterIpsOf,
  compileTables,
  contextOf,
  diffTables,
  manyEndpoints,
  touchedTables,
} from './iptables-tables.ts'

/** What is remembered between syncs. */
interface Programmed {
  readonly services: CompiledServices
  readonly families: readonly ProgrammedFamily[]
}

/** What writing cost. */
interface Cost {
  bytes: number
  messages: number
  kernelMs: number
  rules: number
  elements: number
}

interface WriteOptions {
  readonly parts: IptablesParts
  readonly cost: Cost
  readonly signal?: AbortSignal
}

interface SetChanges {
  readonly add: readonly IpAddress[]
  readonly remove: readonly IpAddress[]
}

/** From this many on, hearing of them costs more than to ask afterwards whether somebody else changed tables meanwhile. */
const manyRules = 500

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

  async plan(services: CompiledServices): Promise<Plan> {
    const parts = await this.#ready()
    const lines: string[] = []
    let rules = 0
    let elements = 0
    for (const client of parts.clients) {
      const { changes } = await differences(client, services, parts)
      const text = formatRestore(changes)
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
    const parts = await this.#ready()
    const before = this.#programmed
    const trusted = before && !this.#drift && !options.verify ? before : undefined
    const useful = trusted && trusted.services.settings === services.settings ? trusted : undefined
    // Until this sync has succeeded, nothing is known: one family may be written and the other not.
    this.#programmed = undefined
    this.#setWatch?.pause()
    const enough = useful?.families.every(({ context }) => context.terse === isLarge(services, context.family))
    const result = await (useful && enough === true
      ? this.#syncChanges(parts, services, { before: useful, ...options })
      : this.#syncAll(parts, services, { before, ...options }))
    if (parts.sets) await this.#setWatch?.expect(parts.clients.map(({ family }) => clusterIpSet(family).name))
    if (this.#drift) this.#listener?.()
    return result
  }

  async explain(services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence> {
    const parts = await this.#ready()
    const family = ipFamilyOf(packet.destination)
    const client = parts.clients.find((some) => some.family === family)
    if (!client) return { lines: [], differences: [`there are no IPv${family} tables here`] }
    const { changes } = await differences(client, services, parts)
    const clusterIps = (await parts.sets?.read(clusterIpSet(family).name)) ?? new Set()
    return explainRules(packet, host, { rules: await client.save(), changes, clusterIps })
  }

  watch(listener: () => void): void {
    this.#listener = listener
  }

  async cleanup(): Promise<void> {
    const parts = await this.#ready()
    this.#programmed = undefined
    for (const { client, ours, changes } of await findServiceRules(await allClients(parts))) {
      if (ours) await parts.restores.during(() => client.restore(changes))
    }
    for (const family of ipFamilies) await parts.sets?.destroy(clusterIpSet(family).name)
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
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

  #noteDrift(by: string | undefined): void {
    if (!this.#programmed && this.#drift) return
    this.#drift = { by }
    if (this.#programmed) this.#listener?.()
  }

  /** Reads the kernel and brings all of it to what is wanted. */
  async #syncAll(
    parts: IptablesParts,
    services: CompiledServices,
    { before, signal }: { readonly before: Programmed | undefined; readonly signal?: AbortSignal },
  ): Promise<SyncResult> {
    const drift = this.#drift
    // A change that comes while we read is noted anew, and leads to another sync.
    this.#drift = undefined
    try {
      const cost = noCost()
      const families: ProgrammedFamily[] = []
      let written = Promise.resolve()
      try {
        for (const client of parts.clients) {
          const { family } = client
          const set = await setChanges(parts, services, family)
          await parts.sets?.create(clusterIpSet(family))
          const { changes, wanted } = await differences(client, services, parts)
          families.push(wanted)
          // One tool at a time, for they share a lock; the next family is made ready while the tool works.
          await written
          written = this.#write(client, { changes, set }, { parts, cost, ...(signal && { signal }) })
          // It is awaited below; until then its failure is not an unhandled one.
          written.catch(() => {})
        }
      } finally {
        await written
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
    const cost = noCost()
    const keys = SharedMap.changedKeys(before.services.services, services.services)
    const families: ProgrammedFamily[] = []
    for (const [i, programmed] of before.families.entries()) {
      const client = parts.clients[i]
      if (!client) throw new Error('the families of the iptables tools changed')
      const { family } = client
      const { add, remove } = changedClusterIps(before.services, services, { keys, family })
      await this.#addToSet(parts, { family, add, cost })
      const { changes, after } = changeFamily(programmed, services)
      await this.#restore(client, changes, { parts, cost, ...(signal && { signal }) })
      await this.#removeFromSet(parts, { family, remove, cost })
      families.push(after)
    }
    this.#programmed = { services, families }
    return { kind: 'change', servicesChanged: keys.size, repaired: false, ...cost }
  }

  /** Rules and set of a family. Who is in the set says only which rule refuses, so their order does not matter, but for what goes. */
  async #write(
    client: IptablesClient,
    { changes, set }: { readonly changes: readonly TableChanges[]; readonly set: SetChanges },
    options: WriteOptions,
  ): Promise<void> {
    const { family } = client
    const { parts, cost } = options
    const added = this.#addToSet(parts, { family, add: set.add, cost })
    added.catch(() => {})
    await this.#restore(client, changes, options)
    await added
    await this.#removeFromSet(parts, { family, remove: set.remove, cost })
  }

  async #restore(
    client: IptablesClient,
    changes: readonly TableChanges[],
    { parts, cost, signal }: WriteOptions,
  ): Promise<void> {
    const written = changes.filter((change) => !isEmptyChange(change))
    if (written.length === 0) return
    const { nft, restores } = parts
    const restore = (): Promise<RestoreResult> => client.restore(written, { ...(signal && { signal }) })
    // The nft tools commit each table on its own, and the kernel tells of every rule.
    const unheard = nft && countRules(written) >= manyRules
    const result = await restores.during(unheard ? () => nft.quietly(restore, written.length) : restore)
    cost.bytes += result.bytes
    cost.kernelMs += result.ms
    cost.messages++
    cost.rules += countRules(changes)
  }

  async #addToSet(
    { sets }: IptablesParts,
    { family, add, cost }: { family: IpFamily; add: readonly IpAddress[]; cost: Cost },
  ): Promise<void> {
    if (!sets) return
    await sets.create(clusterIpSet(family))
    await sets.add(clusterIpSet(family), add)
    cost.elements += add.length
  }

  async #removeFromSet(
    { sets }: IptablesParts,
    { family, remove, cost }: { family: IpFamily; remove: readonly IpAddress[]; cost: Cost },
  ): Promise<void> {
    if (!sets || remove.length === 0) return
    await sets.remove(clusterIpSet(family), remove)
    cost.elements += remove.length
  }

  #logRepair(by: string | undefined, { rules, elements }: Cost): void {
    this.#log.warn(
      { mode: this.name, rules, elements, process: by },
      `repaired: ${elements} elements, ${rules} rules by ${by ?? 'an unknown process'}`,
    )
  }
}

/** What the rules of one family lack, and what to remember once they have it. */
async function differences(
  client: IptablesClient,
  services: CompiledServices,
  { features }: IptablesParts,
): Promise<{ readonly changes: readonly TableChanges[]; readonly wanted: ProgrammedFamily }> {
  const { family } = client
  const context = contextOf(services, { family, terse: isLarge(services, family) })
  // The tool reads while we compute.
  const saved = client.save()
  saved.catch(() => {})
  const wanted = programmedFamily(services, context, features)
  const tables = compileTables(services, context, wanted.shared)
  return { changes: diffTables(await saved, tables), wanted }
}

/** Clients of both kinds of tools. */
async function allClients(parts: IptablesParts): Promise<readonly IptablesClient[]> {
  return [...parts.clients, ...(await parts.others())]
}

/** What the set of cluster IPs in the kernel lacks, and what it has too much. */
async function setChanges({ sets }: IptablesParts, services: CompiledServices, family: IpFamily): Promise<SetChanges> {
  if (!sets) return { add: [], remove: [] }
  const wanted = clusterIpsOf(services.services.values(), family)
  const current = (await sets.read(clusterIpSet(family).name)) ?? new Set()
  return {
    add: [...wanted.keys()].filter((ip) => !current.has(ip)),
    remove: [...current].filter((ip) => !wanted.has(ip)),
  }
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

function noCost(): Cost {
  return { bytes: 0, messages: 0, kernelMs: 0, rules: 0, elements: 0 }
}

/** What this mode does not do as the others, each with its reason. */
const iptablesLimits: readonly string[] = [
  'session affinity: the kernel remembers the last 100 clients of each endpoint (ip_list_tot of xt_recent)',
  'algorithm maglev: another hash than in the other modes, so a client reaches another endpoint through nodes of another mode',
]
