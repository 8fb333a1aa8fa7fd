import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock } from '../base/clock.ts'
import type { IptablesClient } from '../iptables/client.ts'
import { diffTable, type WantedTable } from '../iptables/diff.ts'
import type { OwnRestores } from '../iptables/own-restores.ts'
import type { TableChanges } from '../iptables/objects.ts'
import { countRules, isEmptyChange } from '../iptables/save-format.ts'
import { TableWatch, type TableNotifications } from '../iptables/table-watch.ts'
import type { NftClient } from '../nftables/client.ts'
import type { FirewallRules } from './firewall-rules.ts'
import { bridgeTables, compileIptablesFirewall } from './iptables-rules.ts'
import type { KeptTable } from './kept-table.ts'
import { sourceGuard, type FirewallSource } from './nftables-firewall.ts'
import type { IpFamily } from '../net/ip-address.ts'

/** What rules are written with. */
export interface IptablesFirewallParts {
  /** One for each address family that the machine has. */
  readonly clients: readonly IptablesClient[]
  /** Tells when somebody changes the tables of the nft tools; undefined with the legacy ones. */
  readonly notifications: TableNotifications | undefined
  /** Shared with whoever else of this process writes iptables rules. */
  readonly restores: OwnRestores
}

/** What the kernel held after our last restore, of one family. */
type Known = readonly WantedTable[]

/**
 * {@link FirewallRules} as iptables chains, one restore for each change and family. Who may send what is decided about
 * frames, which iptables does not see: where there is nf_tables, a table of family bridge does it as ever; where not, rules
 * in the table raw do what they can.
 */
export class IptablesFirewall implements FirewallRules {
  readonly #options: FirewallSource & { readonly iptables: IptablesFirewallParts }
  readonly #guard: KeptTable | undefined
  readonly #runner: BoundedRunner
  readonly #known = new Map<IpFamily, Known>()
  /** The last change that was begun, and the one that waits for it: whoever comes meanwhile is served by the latter. */
  #running: Promise<void> = Promise.resolve()
  #waiting: Promise<void> | undefined
  #watch: TableWatch | undefined
  #changedBy: string | undefined
  #repairs = 0

  constructor(
    options: FirewallSource & { readonly iptables: IptablesFirewallParts; readonly nft: NftClient | undefined },
  ) {
    this.#options = options
    const { nft, log, clock = systemClock } = options
    this.#guard = nft && sourceGuard({ ...options, nft })
    this.#runner = new BoundedRunner({
      // Also once an hour unasked: a change by others beside one of ours may pass for ours.
      run: () => this.#repair(),
      clock,
      // Most of a run is to wait for tools.
      restFactor: 1,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, 'Cannot write the iptables rules of the networks, trying again'),
    })
  }

  get repairs(): number {
    return this.#repairs + (this.#guard?.repairs ?? 0)
  }

  async sync(): Promise<void> {
    await this.#inTurn(() => this.#readAndWrite())
    await this.#guard?.sync()
  }

  async update(): Promise<void> {
    this.#waiting ??= this.#inTurn(() => {
      this.#waiting = undefined
      return this.#writeChanges()
    })
    try {
      await Promise.all([this.#waiting, this.#guard?.update()])
    } catch (error) {
      // The caller cannot know what else it carried.
      if (this.#watch) this.#runner.request()
      throw error
    }
  }

  follow(): void {
    if (this.#watch) return
    const { iptables, clock = systemClock } = this.#options
    this.#watch = new TableWatch({
      clients: iptables.clients,
      tables: bridgeTables,
      nft: iptables.notifications,
      restores: iptables.restores,
      clock,
      onChange: (by) => {
        this.#changedBy = by
        this.#runner.request()
      },
    })
    this.#guard?.follow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch?.[Symbol.dispose]()
    this.#runner.stop()
    await this.#runner.settled()
    await this.#running.catch(() => {})
    await this.#guard?.[Symbol.asyncDispose]()
  }

  /** Others change these tables all the time; only what was ours counts. */
  async #repair(): Promise<void> {
    const { log } = this.#options
    const by = this.#changedBy
    this.#changedBy = undefined
    let rules = 0
    await this.#inTurn(async () => {
      rules = await this.#readAndWrite()
    })
    if (rules === 0) return
    this.#repairs++
    const who = by ?? 'another program'
    log.warn({ rules, process: by }, `Repaired what another program changed: iptables rules of the networks, by ${who}`)
  }

  #inTurn(work: () => Promise<unknown>): Promise<void> {
    // What failed before was told to whoever asked for it.
    this.#running = this.#running.catch(() => {}).then(async () => void (await work()))
    return this.#running
  }

  /** Returns how many rules and chains were not as they should be. */
  async #readAndWrite(): Promise<number> {
    const { clients } = this.#options.iptables
    // All tables at once: most of the time that a tool takes is its start.
    const saved = await Promise.all(clients.map((client) => client.save()))
    let changed = 0
    for (const [index, client] of clients.entries()) {
      const wanted = this.#compile(client.family)
      const current = saved[index] ?? new Map()
      const changes = wanted.map((table) => diffTable(current.get(table.table), table))
      this.#known.delete(client.family)
      await this.#restore(client, changes)
      this.#known.set(client.family, wanted)
      for (const { chains, deleteChains } of changes) changed += chains.size + (deleteChains?.length ?? 0)
      changed += countRules(changes)
    }
    return changed
  }

  async #writeChanges(): Promise<void> {
    for (const client of this.#options.iptables.clients) {
      const known = this.#known.get(client.family)
      if (!known) {
        await this.#readAndWrite()
        return
      }
      const wanted = this.#compile(client.family)
      const changes = wanted.map((table, index) => diffTable(withJumps(known[index]), table))
      if (changes.every(isEmptyChange)) continue
      this.#known.delete(client.family)
      await this.#restore(client, changes)
      this.#known.set(client.family, wanted)
    }
  }

  #compile(family: IpFamily): readonly WantedTable[] {
    const { networks, leases, peers } = this.#options
    return compileIptablesFirewall(networks(), leases(), {
      family,
      guardSources: this.#guard === undefined,
      ...(peers && { peers: peers() }),
    })
  }

  async #restore(client: IptablesClient, changes: readonly TableChanges[]): Promise<void> {
    if (changes.every(isEmptyChange)) return
    await this.#options.iptables.restores.during(() => client.restore(changes))
  }
}

/** A table as it was written: our chains, and the jumps to them that others' chains had then. */
function withJumps(written: WantedTable | undefined): ReadonlyMap<string, readonly string[]> | undefined {
  if (!written) return undefined
  const chains = new Map([...written.chains].map(([name, rules]) => [name, [...rules]]))
  for (const { chain, rule } of [...written.jumps, ...(written.lastJumps ?? [])]) {
    chains.set(chain, [...(chains.get(chain) ?? []), rule])
  }
  return chains
}
