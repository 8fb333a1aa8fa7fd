import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock, type Clock } from '../base/clock.ts'
import { cidrContains, formatCidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { createEndpoint } from './apply.ts'
import type { HostWish } from './decide-networks.ts'
import { AddressPool } from './ipam.ts'
import { leaseKey, type LeaseJournal, type Lease, type LeaseKey } from './leases.ts'
import { LinkDeletions } from './link-deletions.ts'
import { MasqueradeTable } from './masquerade-table.ts'
import { hostLinkName, isOurs, type Owner } from './names.ts'
import { stableMac, type Network } from './network.ts'
import { planEndpoint, planHost, type HostPlan } from './plan.ts'
import { reconcileHost } from './reconcile.ts'

/** What `openBridgeNetworks` needs. */
export interface BridgeNetworksOptions extends HostWish {
  /** Leases and picked subnets are kept here. */
  readonly stateDir: string
  /** The caller's, of the same namespace as `kernel`: it is not disposed here. */
  readonly nft: NftClient
  readonly clock?: Clock
}

/** What to attach. */
export interface AttachRequest {
  readonly owner: Owner
  readonly network: string
  /** Path of the namespace, which must exist. */
  readonly netns: string
  /** Static addresses, at most one per family; a family without one gets the next of the pool. */
  readonly ips?: readonly IpAddress[]
  /** Default: derived from the address, so that neighbours who remember an address remember the right MAC. */
  readonly mac?: MacAddress
}

/** A network, and how full its pools are. */
export interface NetworkStatus {
  readonly network: Network
  readonly endpoints: number
  readonly pools: readonly { readonly subnet: string; readonly used: number; readonly size: number }[]
}

/** An attach or detach that cannot be done as asked; nothing was changed. */
export class AttachError extends Error {
  override readonly name = 'AttachError'
}

/** The bridge networks of a host: it makes them, attaches endpoints, and keeps the kernel as it should be until disposed. */
export class BridgeNetworks implements AsyncDisposable {
  readonly networks: readonly Network[]
  readonly #options: BridgeNetworksOptions
  readonly #journal: LeaseJournal
  /** By network, one pool per subnet. */
  readonly #pools: ReadonlyMap<string, readonly AddressPool[]>
  /** Ports that are being made or removed. */
  readonly #busy = new Set<string>()
  /** Of each reconciliation under way: the ports that were busy at any moment of it, which it must not judge. */
  readonly #judgements = new Set<Set<string>>()
  readonly #deletions: LinkDeletions
  readonly #table: MasqueradeTable
  readonly #runner: BoundedRunner
  #following = false
  #repairs = 0

  /** Use `openBridgeNetworks`. */
  constructor(networks: readonly Network[], journal: LeaseJournal, options: BridgeNetworksOptions) {
    this.networks = networks
    this.#journal = journal
    this.#options = options
    this.#pools = new Map(networks.map((network) => [network.name, poolsOf(network, journal, options)]))
    this.#deletions = new LinkDeletions(options.kernel.rtnetlink)
    this.#table = new MasqueradeTable(networks, options)
    this.#runner = new BoundedRunner({
      run: async (reason) => {
        await this.#reconcile({ everyEndpoint: reason === 'verify' })
      },
      clock: options.clock ?? systemClock,
      onError: (error, { failures, retryInMs }) =>
        options.log.error({ err: error, failures, retryInMs }, 'Cannot repair the bridge networks, trying again'),
    })
  }

  /** All leases, by `network/owner`. */
  get leases(): ReadonlyMap<LeaseKey, Lease> {
    return this.#journal.leases
  }

  /** How often something that another program changed was put back. */
  get repairs(): number {
    return this.#repairs + this.#table.repairs
  }

  /** The state that the kernel should have: what `fairlead plan` prints. */
  get plan(): HostPlan {
    const { serviceAddresses = [] } = this.#options
    return planHost({ networks: this.networks, leases: this.leases.values(), serviceAddresses })
  }

  /** Networks with the use of their pools. */
  status(): NetworkStatus[] {
    return this.networks.map((network) => ({
      network,
      endpoints: Iterator.from(this.leases.values())
        .filter((lease) => lease.network === network.name)
        .toArray().length,
      pools: (this.#pools.get(network.name) ?? []).map(({ subnet, used, size }) => {
        return { subnet: formatCidr(subnet), used, size }
      }),
    }))
  }

  /**
   * Gives an owner an endpoint in a network: a lease first, then the kernel's part; on failure neither is left. Throws
   * {@link AttachError}, PoolExhaustedError, AddressUnavailableError, BridgeFullError, NetlinkError.
   */
  async attach(request: AttachRequest): Promise<Lease> {
    const { owner, network: name, netns } = request
    const network = this.networks.find((network) => network.name === name)
    if (!network) {
      const known = this.networks.map((network) => network.name).join(', ')
      throw new AttachError(`there is no network "${name}" (expected one of: ${known})`)
    }
    const key = leaseKey({ network: name, owner })
    const port = hostLinkName(owner)
    if (this.leases.has(key) || this.#busy.has(port)) throw new AttachError(`${owner} has an endpoint already`)
    this.#begin(port)
    try {
      const ips = this.#allocate(network, request.ips ?? [])
      const { machineId, bootId } = this.#options
      const mac = request.mac ?? stableMac(`${machineId} ${name} ${ips.join(' ')}`)
      const lease: Lease = { owner, network: name, ips, mac, netns, bootId }
      try {
        await this.#journal.add([lease])
        await createEndpoint(planEndpoint(network, lease), this.#options)
      } catch (error) {
        await this.#undo(lease, error)
        throw error
      }
      return lease
    } finally {
      this.#busy.delete(port)
    }
  }

  /** Takes the endpoint away. One that is not there is no error. Throws NetlinkError; then it can be tried again. */
  async detach(owner: Owner, network: string): Promise<void> {
    const lease = this.leases.get(leaseKey({ network, owner }))
    if (!lease) return
    const port = hostLinkName(owner)
    if (this.#busy.has(port)) throw new AttachError(`the endpoint of ${owner} is being made or removed`)
    this.#begin(port)
    try {
      await this.#remove(lease)
    } finally {
      this.#busy.delete(port)
    }
  }

  /**
   * Makes the kernel what it should be, and looks into every endpoint's namespace too. Returns what was done, in words;
   * a second call returns nothing. Throws AggregateError with all that failed, after trying everything.
   */
  async reconcile(): Promise<readonly string[]> {
    await this.#table.sync()
    return await this.#reconcile({ everyEndpoint: true })
  }

  /** Repairs, from now on, what other programs change: notices it by netlink, and logs what was repaired. */
  follow(): void {
    if (this.#following) return
    this.#following = true
    const { rtnetlink } = this.#options.kernel
    const bridges = new Set(this.networks.map(({ bridge }) => bridge))
    let indexes = new Set<number>()
    const request = (): void => this.#runner.request()
    const lost = (error: Error): void => {
      this.#options.log.warn({ err: error }, 'Netlink notifications were lost, looking at everything')
      request()
    }
    rtnetlink.links.list().then((links) => {
      for (const { name, index } of links) if (bridges.has(name)) indexes.add(index)
      // A hole between the first look and this one.
      request()
    }, lost)
    rtnetlink.watchLinks(({ kind, link }) => {
      if (bridges.has(link.name)) {
        if (kind === 'set') indexes.add(link.index)
        else indexes = new Set([...indexes].filter((index) => index !== link.index))
        request()
      } else if (isOurs(link) && !this.#busy.has(link.name)) request()
    }, lost)
    rtnetlink.watchAddresses(({ address }) => {
      if (indexes.has(address.link)) request()
    }, lost)
    rtnetlink.watchRoutes(({ kind, route }) => {
      if (kind === 'deleted' && route.dev !== undefined && indexes.has(route.dev)) request()
    }, lost)
    this.#table.follow()
  }

  /** Stops looking. The kernel keeps everything, so that pods go on while the daemon restarts. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#runner.stop()
    await this.#table[Symbol.asyncDispose]()
    await this.#runner.settled()
    await this.#journal[Symbol.asyncDispose]()
  }

  async #reconcile(options: { everyEndpoint: boolean }): Promise<readonly string[]> {
    const { kernel, log } = this.#options
    const busy = new Set(this.#busy)
    this.#judgements.add(busy)
    const { done, errors } = await reconcileHost(this.plan, { kernel, busy, ...options }).finally(() => {
      this.#judgements.delete(busy)
    })
    if (this.#following) {
      if (done.length > 0) this.#repairs++
      for (const action of done) log.warn({ action }, `Repaired what another program changed: ${action}`)
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => error.message).join('; '))
    return done
  }

  #begin(port: string): void {
    this.#busy.add(port)
    for (const judgement of this.#judgements) judgement.add(port)
  }

  #allocate(network: Network, wanted: readonly IpAddress[]): IpAddress[] {
    const pools = this.#pools.get(network.name) ?? []
    for (const ip of wanted) {
      if (pools.some(({ subnet }) => cidrContains(subnet, ip))) continue
      const subnets = pools.map(({ subnet }) => formatCidr(subnet)).join(' or ')
      throw new AttachError(`${ip} is in no subnet of network ${network.name} (expected an address in ${subnets})`)
    }
    const taken: IpAddress[] = []
    try {
      for (const pool of pools) {
        const ip = wanted.find((ip) => ipFamilyOf(ip) === ipFamilyOf(pool.subnet.address))
        if (ip === undefined) taken.push(pool.allocate())
        else {
          pool.reserve(ip)
          taken.push(ip)
        }
      }
      return taken
    } catch (error) {
      for (const ip of taken) this.#release(network.name, ip)
      throw error
    }
  }

  #release(network: string, ip: IpAddress): void {
    for (const pool of this.#pools.get(network) ?? []) pool.release(ip)
  }

  async #remove(lease: Lease): Promise<void> {
    const { rtnetlink } = this.#options.kernel
    const link = await rtnetlink.links.find(hostLinkName(lease.owner))
    if (link) await this.#deletions.delete(link.index)
    try {
      await this.#journal.remove([leaseKey(lease)])
    } catch (error) {
      // The endpoint is gone, that is what counts: a lease without a namespace is reclaimed at the next start.
      const { owner } = lease
      this.#options.log.warn({ owner, err: error }, `Cannot write to disk that the lease of ${owner} has ended`)
    }
    for (const ip of lease.ips) this.#release(lease.network, ip)
  }

  /** After a failed attach. If this fails too, the lease stays and the next start reclaims it. */
  async #undo(lease: Lease, error: unknown): Promise<void> {
    try {
      await this.#remove(lease)
    } catch (undoError) {
      const { owner } = lease
      this.#options.log.error({ owner, err: undoError, after: error }, 'Cannot undo an attach that failed')
    }
  }
}

function poolsOf(network: Network, journal: LeaseJournal, options: BridgeNetworksOptions): AddressPool[] {
  const { serviceAddresses = [] } = options
  const pools = network.subnets.map(({ cidr, gateway }) => new AddressPool(cidr, [gateway, ...serviceAddresses]))
  for (const lease of journal.leases.values()) {
    if (lease.network !== network.name) continue
    for (const ip of lease.ips) pools.find(({ subnet }) => cidrContains(subnet, ip))?.reserve(ip)
  }
  return pools
}
