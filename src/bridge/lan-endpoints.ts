import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { DhcpLease } from '../dhcp/lease.ts'
import type { IpFamily } from '../net/ip-address.ts'
import { applyEndpointActions } from './apply.ts'
import { AttachError } from './attach-request.ts'
import { DhcpEndpoints, NoDhcpLeaseError, type DhcpEndpoint } from './dhcp-endpoints.ts'
import { diffEndpoint, formatAction } from './diff.ts'
import type { BridgeKernel } from './kernel.ts'
import { createLanLink, deleteLanLink, LanLinkError } from './lan-link.ts'
import { planLanEndpoint, type LanNetwork } from './lan-network.ts'
import { leaseKey, type Lease, type LeaseJournal, type LeaseKey } from './leases.ts'
import { podInterface, type Owner } from './names.ts'
import { readNamespace } from './reconcile.ts'

/** What {@link LanEndpoints} needs. */
export interface LanEndpointsOptions {
  readonly stateDir: string
  readonly journal: LeaseJournal
  readonly kernel: BridgeKernel
  readonly log: Log
  readonly clock?: Clock
  /** Whether an endpoint is being made or removed. */
  readonly isBusy: (key: LeaseKey) => boolean
  /** Families whose default route leads through an endpoint, and whether its owner has others. */
  readonly defaultsOf: (network: LanNetwork, lease: Lease) => { defaults: readonly IpFamily[]; several: boolean }
  /** Called after the addresses of an endpoint became others by themselves. */
  readonly onAddresses: (owner: Owner) => void
}

/** The kernel's part of endpoints on the LAN: a link in the pod, and what is on it, by a pool or a DHCP server. */
export class LanEndpoints implements AsyncDisposable {
  readonly #options: LanEndpointsOptions
  readonly #dhcp: DhcpEndpoints
  /** Of endpoints that DHCP serves: their networks. */
  readonly #networks = new Map<LeaseKey, LanNetwork>()

  constructor(options: LanEndpointsOptions) {
    const { stateDir, log, clock } = options
    this.#options = options
    this.#dhcp = new DhcpEndpoints({
      stateDir,
      log,
      ...(clock && { clock }),
      onChange: (endpoint, lease) => void this.#noteLease(endpoint, lease),
      leadsOut: (endpoint) => this.#leadsOut(endpoint),
    })
  }

  /** The lease that is on an endpoint's link. */
  dhcpLease(endpoint: Pick<DhcpEndpoint, 'owner' | 'network'>): DhcpLease | undefined {
    return this.#dhcp.lease(endpoint)
  }

  /**
   * Makes the link and waits for its addresses; returns the lease with those, and with the MAC address that the link has. On
   * failure {@link delete} it. Throws {@link AttachError}, NetlinkError.
   */
  async create(network: LanNetwork, lease: Lease): Promise<Lease> {
    try {
      const mac = await this.#createLink(network, lease)
      const made = { ...lease, mac }
      if (network.addresses === 'pool') {
        await this.#inside(network, made)
        return made
      }
      this.#networks.set(leaseKey(made), network)
      const { address } = await this.#dhcp.attach(dhcpEndpoint(made))
      return { ...made, ips: [address.address] }
    } catch (error) {
      const isRefusal = error instanceof LanLinkError || error instanceof NoDhcpLeaseError
      throw isRefusal ? new AttachError(error.message, { cause: error }) : error
    }
  }

  /** Gives back what DHCP gave, and takes the link away. Throws NetlinkError. */
  async delete(lease: Lease): Promise<void> {
    await this.#dhcp.detach(lease)
    this.#networks.delete(leaseKey(lease))
    await deleteLanLink({ netns: lease.netns, link: lease.link ?? podInterface }, this.#options.kernel)
  }

  /** Puts back what is missing in the endpoint's namespace. Returns what was done, in words. Throws NetlinkError, LanLinkError. */
  async reconcile(network: LanNetwork, lease: Lease): Promise<readonly string[]> {
    const done: string[] = []
    if ((await this.#inside(network, lease, done)) === 'recreate') {
      await this.#createLink(network, lease)
      done.push(`create ${network.driver} link ${lease.link ?? podInterface} of ${lease.owner} on ${network.parent}`)
      await this.#inside(network, lease)
    }
    await this.#dhcp.repair(lease)
    return done
  }

  /** Takes over what an earlier daemon left. */
  async resume(endpoints: readonly (readonly [LanNetwork, Lease])[]): Promise<void> {
    for (const [network, lease] of endpoints) this.#networks.set(leaseKey(lease), network)
    await this.#dhcp.resume(endpoints.map(([, lease]) => dhcpEndpoint(lease)))
  }

  /** Stops, and keeps links, leases and addresses for the next daemon. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dhcp[Symbol.asyncDispose]()
  }

  async #createLink(network: LanNetwork, lease: Lease): Promise<Lease['mac']> {
    const { owner, netns, mac, link = podInterface } = lease
    return await createLanLink(network, { owner, netns, link, mac, mtu: network.mtu }, this.#options.kernel)
  }

  async #inside(network: LanNetwork, lease: Lease, done: string[] = []): Promise<'recreate' | undefined> {
    using namespace = this.#options.kernel.openNamespace(lease.netns)
    const { rtnetlink } = namespace
    const plan = planLanEndpoint(network, lease, this.#options.defaultsOf(network, lease))
    const [state, rules] = await Promise.all([readNamespace(rtnetlink), rtnetlink.rules.list()])
    const actions = diffEndpoint({ ...state, rules }, plan)
    if (actions === 'recreate') return 'recreate'
    if (actions.length === 0) return undefined
    await applyEndpointActions(actions, rtnetlink)
    done.push(`${actions.map(formatAction).join(', ')} in ${lease.netns}`)
    return undefined
  }

  #leadsOut(endpoint: DhcpEndpoint): boolean {
    const { journal, defaultsOf } = this.#options
    const key = leaseKey(endpoint)
    const network = this.#networks.get(key)
    const lease = journal.leases.get(key)
    return !network || !lease || defaultsOf(network, lease).defaults.includes(4)
  }

  /** An address that came, went or changed by itself. While the endpoint is being made, whoever makes it writes it down. */
  async #noteLease(endpoint: DhcpEndpoint, lease: DhcpLease | undefined): Promise<void> {
    const { journal, isBusy, onAddresses, log } = this.#options
    const key = leaseKey(endpoint)
    const present = journal.leases.get(key)
    if (!present || isBusy(key)) return
    const ips = lease ? [lease.address.address] : []
    try {
      if (ips.join() !== present.ips.join()) await journal.add([{ ...present, ips }])
    } catch (error) {
      // The lease file has it, too: the next start finds it there.
      log.warn({ owner: endpoint.owner, err: error }, `Cannot write down the addresses of ${endpoint.owner}`)
    }
    onAddresses(endpoint.owner)
  }
}

function dhcpEndpoint({ owner, network, netns, mac, link = podInterface }: Lease): DhcpEndpoint {
  return { owner, network, netns, link, mac, hostname: owner.slice(owner.lastIndexOf('/') + 1) }
}
