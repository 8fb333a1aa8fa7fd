import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { NftClient } from '../nftables/client.ts'
import { compileBridgeTable } from './bridge-table.ts'
import type { ClusterPeers } from './cluster-peers.ts'
import type { FirewallRules } from './firewall-rules.ts'
import { KeptTable } from './kept-table.ts'
import type { Lease } from './leases.ts'
import { bridgeTable } from './names.ts'
import type { Network } from './network.ts'
import { compileSourceGuard } from './source-guard.ts'

/** What rules are made of, whichever way. */
export interface FirewallSource {
  /** As they are at the moment of asking. */
  readonly networks: () => readonly Network[]
  readonly leases: () => Iterable<Lease>
  /** The other nodes of the cluster. Absent: there are none. */
  readonly peers?: () => ClusterPeers
  readonly log: Log
  readonly clock?: Clock
}

/** {@link FirewallRules} as two tables: `inet fairlead-bridge`, and `bridge fairlead-bridge` for who may send what. */
export class NftablesFirewall implements FirewallRules {
  readonly #table: KeptTable
  readonly #guard: KeptTable

  constructor(options: FirewallSource & { readonly nft: NftClient }) {
    const { networks, leases, peers } = options
    this.#table = new KeptTable({
      ...options,
      family: 'inet',
      name: bridgeTable,
      compile: () => compileBridgeTable(networks(), leases(), peers?.()),
    })
    this.#guard = sourceGuard(options)
  }

  get repairs(): number {
    return this.#table.repairs + this.#guard.repairs
  }

  async sync(): Promise<void> {
    await Promise.all([this.#table.sync(), this.#guard.sync()])
  }

  async update(): Promise<void> {
    await Promise.all([this.#table.update(), this.#guard.update()])
  }

  follow(): void {
    this.#table.follow()
    this.#guard.follow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#table[Symbol.asyncDispose]()
    await this.#guard[Symbol.asyncDispose]()
  }
}

/** The table of family bridge: iptables sees no frames, so whoever has nf_tables has it beside iptables, too. */
export function sourceGuard(options: FirewallSource & { readonly nft: NftClient }): KeptTable {
  const { networks, leases } = options
  return new KeptTable({
    ...options,
    family: 'bridge',
    name: bridgeTable,
    compile: () => compileSourceGuard(networks(), leases()),
  })
}
