import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { ForeignChange, NftClient, ReadTable } from '../nftables/client.ts'
import { diffTable } from '../nftables/diff.ts'
import { isTableChanged } from '../nftables/nftables-error.ts'
import type { Change, TransactionResult } from '../nftables/transaction.ts'
import { AffinityNumbers } from './affinity-numbers.ts'
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
import type { RecalledSlots } from '../proxy/frontends.ts'
import { anchorTable, anchorTableName } from '../proxy/nftables-anchor.ts'
import { changeTable, countChanges, programmedBy, type ProgrammedTable } from './nftables-changes.ts'
import { readSlots } from './nftables-elements.ts'
import { explainTable } from './nftables-explain.ts'
import { stepsFor } from './nftables-first-steps.ts'
import { planTable } from './nftables-plan.ts'
import { servicesTable } from './nftables-sets.ts'
import { claimNumbers, compileTable } from './nftables-table.ts'

/** The nftables mode: a static ruleset, all else is data. See README.md and docs/packet-path.md. */
export class NftablesMode implements Dataplane {
  readonly name = 'nftables'
  readonly #client: NftClient
  readonly #log: Log
  /** Undefined until the first sync, and after anything that makes us unsure of the kernel. */
  #programmed: ProgrammedTable | undefined
  /** What somebody else changed since the last sync; `lost` when the kernel could not tell us. */
  #drift: ForeignChange | 'lost' | undefined
  /** The table as {@link recall} read it, for the sync that follows. */
  #recalled: ReadTable | undefined
  #listener: (() => void) | undefined
  /** Undefined until the kernel was read for the first time. */
  #numbers: AffinityNumbers | undefined

  constructor(client: NftClient, options: { readonly log: Log }) {
    this.#client = client
    this.#log = options.log
    client.watch({
      onChange: (change) => {
        if (change.table === servicesTable || change.table === anchorTableName) this.#noteDrift(change)
      },
      onLost: () => this.#noteDrift('lost'),
    })
  }

  async probe(): Promise<ProbeResult> {
    try {
      await this.#client.listTables()
      return { usable: true, limits: nftablesLimits }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return { usable: false, reason: `nf_tables cannot be used: ${reason}`, limits: nftablesLimits }
    }
  }

  async plan(services: CompiledServices): Promise<Plan> {
    return planTable(services, await this.#client.read('inet', servicesTable))
  }

  async sync(services: CompiledServices, options: SyncOptions = {}): Promise<SyncResult> {
    const before = this.#programmed
    const trusted =
      before && !this.#drift && !options.verify && before.services.settings === services.settings ? before : undefined
    // Until this sync has succeeded, nothing is known: a transaction may be applied although we see an error (ENOBUFS).
    this.#programmed = undefined
    let result = trusted && (await unlessTableChanged(() => this.#syncChanges(trusted, services)))
    for (let attempt = 1; !result; attempt++) {
      const full = (): Promise<SyncResult> => this.#syncAll(services, before)
      result = attempt < maxAttempts ? await unlessTableChanged(full) : await full()
    }
    // Somebody interfered while we were at it.
    if (this.#drift) this.#listener?.()
    return result
  }

  async recall(): Promise<RecalledSlots | undefined> {
    const table = await this.#client.read('inet', servicesTable)
    this.#recalled = table
    if (!table) return undefined
    return (frontend, which) => readSlots(frontend, which, table.elements)
  }

  async explain(services: CompiledServices, packet: PacketAtNode, host: ExplainHost): Promise<Evidence> {
    const kernel = await this.#client.read('inet', servicesTable)
    const numbers = this.#numbers ?? claimNumbers(new AffinityNumbers(), services, kernel?.elements)
    return explainTable(services, kernel, { numbers, packet, host })
  }

  watch(listener: () => void): void {
    this.#listener = listener
  }

  async cleanup(options: CleanupOptions = {}): Promise<void> {
    this.#programmed = undefined
    this.#numbers = undefined
    const ours = options.keepAnchor ? [servicesTable] : [servicesTable, anchorTableName]
    const found = (await this.#client.listTables()).filter(
      ({ family, name }) => family === 'inet' && ours.includes(name),
    )
    if (found.some(({ name }) => name === servicesTable)) await this.#letGo()
    for (const { name } of found) {
      await this.#client.run({ family: 'inet', table: name, changes: [{ op: 'delete-table' }] })
    }
  }

  /**
   * Lets no more packets into our rules, and waits for those that are in them. When a table goes, the elements of its maps end
   * with the commit, those of its sets a little later: a packet in between has no frontend but a known cluster IP, and
   * would be refused although another mode serves it (nft_delset() in nf_tables_api.c deactivates elements of maps only).
   */
  async #letGo(): Promise<void> {
    const chains = await this.#client.listChains()
    const entrances = chains.filter(({ family, table, hook }) => family === 'inet' && table === servicesTable && hook)
    const changes = entrances.map(({ name }) => ({ op: 'flush-chain', chain: name }) as const)
    await this.#client.run({ family: 'inet', table: servicesTable, changes })
    await sleep(passingMs)
  }

  #noteDrift(drift: ForeignChange | 'lost'): void {
    this.#drift = drift
    this.#recalled = undefined
    if (this.#programmed) this.#listener?.()
  }

  /** Reads the kernel and brings all of it to what is wanted. */
  async #syncAll(services: CompiledServices, before: ProgrammedTable | undefined): Promise<SyncResult> {
    const drift = this.#drift
    // A change that comes while we read is noted anew, and leads to another sync.
    this.#drift = undefined
    try {
      // Rules cannot be compared with the kernel's: after a surprise they are written anew.
      const options = { rewriteRules: drift !== undefined }
      const anchor = diffTable(await this.#client.read('inet', anchorTableName), anchorTable, options)
      if (anchor.length > 0) await this.#client.run({ family: 'inet', table: anchorTableName, changes: anchor })
      const current = this.#recalled ?? (await this.#client.read('inet', servicesTable))
      this.#recalled = undefined
      this.#numbers ??= claimNumbers(new AffinityNumbers(), services, current?.elements)
      const numbers = claimNumbers(this.#numbers, services, undefined)
      const changes = diffTable(current, compileTable(services, numbers), options)
      const cost = { bytes: 0, messages: 0, elements: 0, kernelMs: 0 }
      for (const step of stepsFor(current, changes)) addTo(cost, await this.#run(step))
      numbers.releaseAllBut(services.services.values())
      this.#programmed = programmedBy(services, numbers)
      const { rules } = countChanges(changes)
      const repaired = before !== undefined && drift !== undefined && (drift !== 'lost' || cost.elements > 0)
      if (repaired) this.#logRepair(drift, { elements: cost.elements, rules })
      const servicesChanged = before
        ? SharedMap.changedKeys(before.services.services, services.services).size
        : services.services.size
      return { kind: 'full', servicesChanged, rules, repaired, ...cost }
    } catch (error) {
      this.#drift ??= drift
      throw error
    }
  }

  /** Writes what the changed Services need, and looks at nothing else. */
  async #syncChanges(before: ProgrammedTable, services: CompiledServices): Promise<SyncResult> {
    const { changes, servicesChanged, after } = changeTable(before, services)
    const cost = await this.#run(changes)
    this.#programmed = after()
    return { kind: 'change', servicesChanged, rules: countChanges(changes).rules, repaired: false, ...cost }
  }

  async #run(changes: readonly Change[]): Promise<TransactionResult> {
    if (changes.length === 0) return { bytes: 0, messages: 0, elements: 0, kernelMs: 0 }
    return await this.#client.run({ family: 'inet', table: servicesTable, changes })
  }

  #logRepair(drift: ForeignChange | 'lost', counts: { elements: number; rules: number }): void {
    const by = drift === 'lost' ? undefined : drift.process
    this.#log.warn(
      { mode: this.name, ...counts, process: by?.name, pid: by?.pid },
      `repaired: ${counts.elements} elements, ${counts.rules} rules by ${by?.name ?? 'an unknown process'}`,
    )
  }
}

function addTo(sum: { -readonly [K in keyof TransactionResult]: number }, cost: TransactionResult): void {
  sum.bytes += cost.bytes
  sum.messages += cost.messages
  sum.elements += cost.elements
  sum.kernelMs += cost.kernelMs
}

/** Longer than any packet is on its way through rules, ms. */
const passingMs = 20

/** How often a sync starts again because somebody else changed the table meanwhile. */
const maxAttempts = 5

/** The result; undefined when somebody else changed the table since it was read, so that it must be read again. */
async function unlessTableChanged<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (isTableChanged(error)) return undefined
    throw error
  }
}

/** What this mode does not do, each with its reason. */
const nftablesLimits: readonly string[] = [
  'round-robin: the turn is counted per number of slots, so Services with as many slots share one count',
  'session affinity: 1,000,000 clients per family are remembered; 262,144 Service ports can have it, with 2,047 endpoints each',
]
