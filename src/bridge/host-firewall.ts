import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import type { DiffOptions } from '../nftables/diff.ts'
import { compileBridgeTable } from './bridge-table.ts'
import { choosePorts } from './choose-ports.ts'
import { forgetUntranslated, WithdrawnConnections } from './forget-connections.ts'
import type { BridgeKernel } from './kernel.ts'
import { KeptTable } from './kept-table.ts'
import type { Lease } from './leases.ts'
import { LoopbackRelays, planRelays } from './loopback-relay.ts'
import { bridgeTable } from './names.ts'
import type { Network } from './network.ts'
import type { Publication, PublishRequest } from './publication.ts'
import { compileSourceGuard } from './source-guard.ts'

/** What a {@link HostFirewall} needs. */
export interface HostFirewallOptions {
  /** As they are at the moment of asking. */
  readonly networks: () => readonly Network[]
  readonly leases: () => Iterable<Lease>
  readonly nft: NftClient
  readonly kernel: BridgeKernel
  readonly log: Log
  readonly clock?: Clock
}

/**
 * Our two tables: `inet fairlead-bridge` (masquerade, published ports, who reaches pods) and `bridge fairlead-bridge` (who
 * may send what). Both follow networks and leases: change those, then call {@link update}.
 */
export class HostFirewall implements AsyncDisposable {
  readonly #options: HostFirewallOptions
  readonly #table: KeptTable
  readonly #guard: KeptTable
  readonly #relays: LoopbackRelays
  readonly #withdrawn: WithdrawnConnections
  /** Addresses whose publications ended, until the last connections by them are ended. */
  readonly #ending = new Map<IpAddress, Promise<void>>()

  constructor(options: HostFirewallOptions) {
    const { networks, leases } = options
    this.#options = options
    this.#relays = new LoopbackRelays(options.log)
    this.#withdrawn = new WithdrawnConnections(options.kernel.conntrack)
    this.#table = new KeptTable({
      ...options,
      family: 'inet',
      name: bridgeTable,
      compile: () => compileBridgeTable(networks(), leases()),
    })
    this.#guard = new KeptTable({
      ...options,
      family: 'bridge',
      name: bridgeTable,
      compile: () => compileSourceGuard(networks(), leases()),
    })
  }

  /** How often a table was put back. */
  get repairs(): number {
    return this.#table.repairs + this.#guard.repairs
  }

  /** Chooses and checks the host's ports of an endpoint that is to be. Throws PublishError. */
  choose(network: Network, requests: readonly PublishRequest[]): readonly Publication[] {
    if (requests.length === 0) return []
    const { subnets, gatewayModes, internal } = network
    const present = new Set(subnets.map(({ gateway }) => ipFamilyOf(gateway)))
    const families = internal ? [] : [...present].filter((family) => gatewayModes[family] !== 'isolated')
    return choosePorts(requests, {
      families,
      taken: Iterator.from(this.#options.leases()).flatMap(({ owner, published = [] }) =>
        published.map((publication) => ({ owner, publication })),
      ),
      probe: this.#options.kernel.probePort,
    })
  }

  /** Reads both tables and makes them what they should be. Throws NftablesError. */
  async sync(options: DiffOptions = {}): Promise<void> {
    await this.#table.sync(options)
    await this.#guard.sync(options)
    this.#relay()
  }

  /** Brings what has changed since to the kernel, each table in one transaction. Throws NftablesError. */
  async update(): Promise<void> {
    await Promise.all([this.#table.update(), this.#guard.update()])
    this.#relay()
  }

  /** In another namespace than this process's own, where only tests have it play the host, nothing is relayed. */
  #relay(): void {
    const { kernel, networks, leases } = this.#options
    if (kernel.handle === undefined) this.#relays.set(planRelays(networks(), leases()))
  }

  /**
   * After {@link update}: ends connections that began before a port was published, or whose port is not published any more. The
   * kernel looks through its whole table for them, which takes 10 ms and more.
   */
  async forget(lease: Lease, why: 'published' | 'withdrawn'): Promise<void> {
    if (!lease.published?.length) return
    if (why === 'published') return await this.#forget(lease, why)
    const ended = this.#forget(lease, why).finally(() => {
      for (const ip of lease.ips) if (this.#ending.get(ip) === ended) this.#ending.delete(ip)
    })
    for (const ip of lease.ips) this.#ending.set(ip, ended)
    await ended
  }

  /** Before an address gets publications again: resolves when all connections by former ones are ended. */
  async forgotten({ ips }: Pick<Lease, 'ips'>): Promise<void> {
    for (const ip of ips) await this.#ending.get(ip)
  }

  async #forget(lease: Lease, why: 'published' | 'withdrawn'): Promise<void> {
    const { kernel, log } = this.#options
    const { conntrack, rtnetlink } = kernel
    try {
      if (why === 'withdrawn') await this.#withdrawn.forget(lease)
      else if (lease.published?.some(({ protocol }) => protocol === 'udp') === true) {
        const addresses = (await rtnetlink.addresses.list()).map(({ address }) => address.address)
        await forgetUntranslated(conntrack, lease.published, new Set(addresses))
      }
    } catch (error) {
      // They end by themselves, after minutes.
      log.warn({ owner: lease.owner, err: error }, `Cannot delete old connections of the ports of ${lease.owner}`)
    }
  }

  /** Writes the tables again whenever another process changed them, from now on. */
  follow(): void {
    this.#table.follow()
    this.#guard.follow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#ending.values())
    await this.#table[Symbol.asyncDispose]()
    await this.#guard[Symbol.asyncDispose]()
    this.#relays[Symbol.dispose]()
  }
}
