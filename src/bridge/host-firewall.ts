import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { choosePorts } from './choose-ports.ts'
import type { FirewallRules } from './firewall-rules.ts'
import { forgetUntranslated, WithdrawnConnections } from './forget-connections.ts'
import { IptablesFirewall, type IptablesFirewallParts } from './iptables-firewall.ts'
import type { BridgeKernel } from './kernel.ts'
import type { Lease } from './leases.ts'
import { LoopbackRelays, planRelays } from './loopback-relay.ts'
import type { Network } from './network.ts'
import { NftablesFirewall, type FirewallSource } from './nftables-firewall.ts'
import type { Publication, PublishRequest } from './publication.ts'

/** What the rules are written with. */
export interface FirewallTools {
  /** Undefined where the kernel has no nf_tables: then there are `iptables`. */
  readonly nft: NftClient | undefined
  /** With these, networks are guarded by iptables chains instead of a table of our own. */
  readonly iptables?: IptablesFirewallParts | undefined
}

/** What a {@link HostFirewall} needs. */
export interface HostFirewallOptions extends FirewallSource, FirewallTools {
  readonly kernel: BridgeKernel
}

/**
 * Masquerade, published ports, who reaches pods, and who may send what: the rules in the kernel, and what goes with them. It
 * follows networks and leases: change those, then call {@link update}.
 */
export class HostFirewall implements AsyncDisposable {
  readonly #options: HostFirewallOptions
  readonly #rules: FirewallRules
  readonly #relays: LoopbackRelays
  readonly #withdrawn: WithdrawnConnections
  /** Addresses whose publications ended, until the last connections by them are ended. */
  readonly #ending = new Map<IpAddress, Promise<void>>()

  constructor(options: HostFirewallOptions) {
    this.#options = options
    this.#relays = new LoopbackRelays(options.log)
    this.#withdrawn = new WithdrawnConnections(options.kernel.conntrack)
    this.#rules = openRules(options)
  }

  /** How often rules were put back. */
  get repairs(): number {
    return this.#rules.repairs
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

  /** Reads the rules and makes them what they should be. Throws NftablesError, IptablesError. */
  async sync(): Promise<void> {
    await this.#rules.sync()
    this.#relay()
  }

  /** Brings what has changed since to the kernel. Throws NftablesError, IptablesError. */
  async update(): Promise<void> {
    await this.#rules.update()
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

  /** Writes the rules again whenever another process changed them, from now on. */
  follow(): void {
    this.#rules.follow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#ending.values())
    await this.#rules[Symbol.asyncDispose]()
    this.#relays[Symbol.dispose]()
  }
}

function openRules(options: HostFirewallOptions): FirewallRules {
  const { nft, iptables } = options
  if (iptables) return new IptablesFirewall({ ...options, iptables })
  if (nft) return new NftablesFirewall({ ...options, nft })
  throw new Error('bridge networks need nf_tables or iptables')
}
