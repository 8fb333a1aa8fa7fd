import type { Clock } from '../base/clock.ts'
import type { BridgeSettings } from '../model/network.ts'
import { formatCidr } from '../net/cidr.ts'
import type { IpFamily } from '../net/ip-address.ts'
import { applyHostAction } from './apply.ts'
import { AttachError, checkMac, chooseLink, type AttachRequest, type PortChanges } from './attach-request.ts'
import { NetworkConflictError } from './check-network.ts'
import { PublishError } from './choose-ports.ts'
import { withdrawPublications } from './withdraw-ports.ts'
import { defineAnother, type HostWish } from './decide-networks.ts'
import { FullnessTeller } from './bridge-full.ts'
import { BridgePlans } from './bridge-plans.ts'
import { BridgeRepair } from './bridge-repair.ts'
import { BusyPorts } from './busy-ports.ts'
import type { ClusterPeers } from './cluster-peers.ts'
import { readPeers, writePeers } from './peers-file.ts'
import { EndpointCreations } from './endpoint-creations.ts'
import { readEndpointStates, type EndpointState } from './endpoint-state.ts'
import { enableForwarding } from './forwarding.ts'
import { HostFirewall, type FirewallTools } from './host-firewall.ts'
import { leaseKey, type LeaseJournal, type Lease, type LeaseKey } from './leases.ts'
import { LinkDeletions } from './link-deletions.ts'
import { isNetworkBridge, portOf, type Owner } from './names.ts'
import { NetworkPools } from './network-pools.ts'
import { stableMac, type HostFacts, type Network } from './network.ts'
import { pickedSubnetsFile, writePickedSubnets } from './picked-subnets.ts'
import type { Publication } from './publication.ts'
import type { HostPlan } from './plan.ts'
import { reconcileEndpoint } from './reconcile.ts'

/** What `openBridgeNetworks` needs. What rules are written with is the caller's, of the same namespace as `kernel`: it is not disposed here. */
export interface BridgeNetworksOptions extends HostWish, FirewallTools {
  /** Leases and picked subnets are kept here. */
  readonly stateDir: string
  readonly clock?: Clock
  /** The caller's, with the leases of other networks, too. Default: one of our own. */
  readonly journal?: LeaseJournal
  /** What there is besides bridge networks. */
  readonly elsewhere?: OtherNetworks
}

/** What bridge networks must know of networks that have no bridge, whose leases are in the same journal. */
export interface OtherNetworks {
  has(network: string): boolean
  /** The families in which a lease's endpoint leads out. */
  leadsOut(lease: Lease): readonly IpFamily[]
  /** What no subnet of a bridge may overlap. */
  readonly reserved: HostFacts['reserved']
}

/** A network, and how full its pools are. */
export interface NetworkStatus {
  readonly network: Network
  readonly endpoints: number
  readonly pools: readonly { readonly subnet: string; readonly used: number; readonly size: number }[]
}

/** The bridge networks of a host: it makes them, attaches endpoints, and keeps the kernel as it should be until disposed. */
export class BridgeNetworks implements AsyncDisposable {
  readonly #options: BridgeNetworksOptions
  readonly #journal: LeaseJournal
  readonly #pools: NetworkPools
  readonly #plans: BridgePlans
  readonly #busy = new BusyPorts()
  readonly #creations: EndpointCreations
  readonly #deletions: LinkDeletions
  readonly #firewall: HostFirewall
  readonly #repair: BridgeRepair
  /** Networks come and go one after the other, for each must fit the others. */
  #changing: Promise<unknown> = Promise.resolve()
  readonly #fullness: FullnessTeller
  #peers: ClusterPeers

  /** Use `openBridgeNetworks`. */
  constructor(networks: readonly Network[], journal: LeaseJournal, options: BridgeNetworksOptions) {
    this.#journal = journal
    this.#options = options
    this.#peers = readPeers(options.stateDir, options.log)
    const { kernel, log, clock, serviceAddresses = [], reserved = [], elsewhere } = options
    this.#pools = new NetworkPools(networks, { leases: journal.leases.values(), serviceAddresses })
    this.#plans = new BridgePlans({
      pools: this.#pools,
      leases: () => journal.leases.values(),
      serviceAddresses,
      served: reserved.map(({ range }) => range),
      leadsOutElsewhere: (lease) => elsewhere?.leadsOut(lease) ?? [],
    })
    this.#fullness = new FullnessTeller(log)
    this.#creations = new EndpointCreations(kernel)
    this.#deletions = new LinkDeletions(kernel.rtnetlink)
    this.#firewall = new HostFirewall({
      ...options,
      networks: () => this.networks,
      leases: () => this.#plans.ownLeases,
      peers: () => this.#peers,
    })
    const parts = { pools: this.#pools, plans: this.#plans, busy: this.#busy, deletions: this.#deletions }
    this.#repair = new BridgeRepair({ kernel, log, clock, journal, ...parts })
  }

  /** All networks; the first one carries the service addresses. */
  get networks(): readonly Network[] {
    return this.#pools.networks
  }

  /** Those whose bridges are not being made or removed at the moment. */
  get settledNetworks(): readonly Network[] {
    return this.networks.filter(({ bridge }) => !this.#busy.has(bridge))
  }

  /** The subnets of all networks, as what others must not overlap. */
  get subnets(): HostFacts['reserved'] {
    return this.networks.flatMap(({ name, subnets }) =>
      subnets.map(({ cidr }) => ({ range: cidr, what: `subnet ${formatCidr(cidr)} of network ${name}` })),
    )
  }

  /** All leases, by `network/owner`; with a journal of the caller's, those of other networks, too. */
  get leases(): ReadonlyMap<LeaseKey, Lease> {
    return this.#journal.leases
  }

  /** Another number after each change of {@link leases}. */
  get leaseRevision(): number {
    return this.#journal.revision
  }

  /** How often something that another program changed was put back. */
  get repairs(): number {
    return this.#repair.repairs + this.#firewall.repairs
  }

  /** The state that the kernel should have: what `fairlead plan` prints. */
  get plan(): HostPlan {
    return this.#plans.host
  }

  /** The families in which a lease's endpoint leads out; none for leases of other networks. */
  leadsOut(lease: Lease): readonly IpFamily[] {
    return this.#plans.leadsOut(lease)
  }

  /** The other nodes of the cluster, as they were last known. */
  get peers(): ClusterPeers {
    return this.#peers
  }

  /** Lets the pods of other nodes reach those of this one's network, and the other way round. Throws NftablesError, IptablesError. */
  async setPeers(peers: ClusterPeers): Promise<void> {
    this.#peers = peers
    writePeers(this.#options.stateDir, peers)
    await this.#firewall.update()
  }

  /** Networks with the use of their pools. */
  status(): NetworkStatus[] {
    const endpoints = new Map<string, number>()
    for (const { network } of this.leases.values()) endpoints.set(network, (endpoints.get(network) ?? 0) + 1)
    return this.networks.map((network) => {
      const { name } = network
      return { network, endpoints: endpoints.get(name) ?? 0, pools: this.#pools.use(name) }
    })
  }

  /** What the kernel has of a network's endpoints, with counters. Throws NetlinkError. */
  async inspect(name: string): Promise<ReadonlyMap<LeaseKey, EndpointState>> {
    const leases = [...this.leases.values()].filter(({ network }) => network === name)
    return await readEndpointStates(leases, this.#options.kernel.rtnetlink)
  }

  /** Makes one more network. On failure nothing of it is left. Throws NetworkError, NetlinkError, NftablesError. */
  async add(settings: BridgeSettings): Promise<Network> {
    return await this.#oneAfterTheOther(async () => {
      const { reserved = [], elsewhere } = this.#options
      const all = { ...this.#options, reserved: [...reserved, ...(elsewhere?.reserved ?? [])] }
      const network = await defineAnother(settings, this.networks, all)
      await this.#make(network)
      return network
    })
  }

  /** Takes a network away that has no endpoints; one that is not there is no error. Throws NetworkError, NetlinkError. */
  async remove(name: string): Promise<void> {
    await this.#oneAfterTheOther(async () => {
      const network = this.#pools.get(name)
      if (!network) return
      const owners = this.#plans.ownersIn(name)
      if (owners.length > 0) {
        const some = owners.slice(0, 3).join(', ') + (owners.length > 3 ? ` and ${owners.length - 3} more` : '')
        throw new NetworkConflictError('name', `network ${name} is in use by ${some} (remove or disconnect them first)`)
      }
      await this.#unmake(network)
    })
  }

  /**
   * Gives an owner an endpoint in a network: a lease, and the kernel's part; on failure neither is left. Throws
   * {@link AttachError}, PoolExhaustedError, AddressUnavailableError, BridgeFullError, NetlinkError.
   */
  async attach(request: AttachRequest): Promise<Lease> {
    const { owner, network: name, netns } = request
    const network = this.#pools.get(name)
    if (!network) {
      const known = this.networks.map((network) => network.name).join(', ')
      throw new AttachError(`there is no network "${name}" (expected one of: ${known})`)
    }
    const key = leaseKey({ network: name, owner })
    if (this.leases.has(key)) throw new AttachError(`${owner} has an endpoint already in network ${name}`)
    const link = chooseLink(request, { network, present: this.#plans.leasesOf(owner) })
    if (request.mac !== undefined) checkMac(request.mac, { network, leases: this.leases.values() })
    const port = portOf({ owner, link })
    if (this.#busy.has(port)) throw new AttachError(`an endpoint of ${owner} is being made or removed`)
    this.#busy.begin(port)
    try {
      const published = this.#choosePorts(network, request)
      const ips = this.#pools.allocate(name, request.ips ?? [])
      const { machineId, bootId } = this.#options
      const mac = request.mac ?? stableMac(`${machineId} ${name} ${ips.join(' ')}`)
      const aliases = [...new Set(request.aliases)]
      const lease: Lease = {
        owner,
        network: name,
        ips,
        mac,
        netns,
        link,
        bootId,
        ...(published.length > 0 && { published }),
        ...(aliases.length > 0 && { aliases }),
      }
      try {
        // At the same time: of an endpoint without a lease, and of a lease without an endpoint, the next start leaves nothing.
        const steps = await Promise.allSettled([this.#journal.add([lease]), this.#build(network, lease)])
        for (const step of steps) if (step.status === 'rejected') throw step.reason
      } catch (error) {
        await this.#undo(lease, error)
        throw error
      }
      this.#fullness.note(network, this.#plans.ownersIn(name).length)
      return lease
    } finally {
      this.#busy.end(port)
    }
  }

  /**
   * Attaches many at once: one send for all pairs, one for the inside of each namespace, one write of the journal. (So do
   * calls of {@link attach} at the same time.) Each has its own result, in order.
   */
  async attachMany(requests: readonly AttachRequest[]): Promise<PromiseSettledResult<Lease>[]> {
    return await Promise.allSettled(requests.map((request) => this.attach(request)))
  }

  /** Detaches many at once; each has its own result, in order. */
  async detachMany(
    endpoints: readonly { readonly owner: Owner; readonly network: string }[],
  ): Promise<PromiseSettledResult<void>[]> {
    return await Promise.allSettled(endpoints.map(({ owner, network }) => this.detach(owner, network)))
  }

  /**
   * Takes the endpoint away: its link, its publications and its lease are gone when this resolves, and its addresses free.
   * UDP clients of its publications are forgotten; entries of TCP connections are deleted a moment later. One that is not
   * there is no error. Throws NetlinkError; then it can be tried again.
   */
  async detach(owner: Owner, network: string): Promise<void> {
    const lease = this.leases.get(leaseKey({ network, owner }))
    if (!lease) return
    const port = portOf(lease)
    if (this.#busy.has(port)) throw new AttachError(`the endpoint of ${owner} is being made or removed`)
    this.#busy.begin(port)
    try {
      await this.#remove(lease)
    } finally {
      this.#busy.end(port)
    }
  }

  /**
   * Publishes ports of an endpoint that is there, and ends publications, both in one transaction. On failure nothing has
   * changed. Throws {@link AttachError}, NftablesError.
   */
  async changePorts(endpoint: { owner: Owner; network: string }, { publish, withdraw }: PortChanges): Promise<Lease> {
    const { owner } = endpoint
    const lease = this.leases.get(leaseKey(endpoint))
    const network = this.#pools.get(endpoint.network)
    if (!lease || !network) throw new AttachError(`${owner} has no endpoint in network ${endpoint.network}`)
    const port = portOf(lease)
    if (this.#busy.has(port)) throw new AttachError(`the endpoint of ${owner} is being made, changed or removed`)
    this.#busy.begin(port)
    try {
      const { kept, withdrawn } = withdrawPublications(lease, withdraw)
      const published = this.#choosePorts(network, { publish })
      const { published: _before, ...rest } = lease
      const all = [...kept, ...published]
      const changed: Lease = { ...rest, ...(all.length > 0 && { published: all }) }
      try {
        await this.#journal.add([changed])
        await this.#firewall.update()
      } catch (error) {
        await this.#journal.add([lease])
        throw error
      }
      await this.#firewall.forget({ ...lease, published: withdrawn }, 'withdrawn')
      await this.#firewall.forget({ ...lease, published }, 'published')
      return changed
    } finally {
      this.#busy.end(port)
    }
  }

  /** Makes the inside of an owner's endpoints what it should be, after one of them came or went. Throws NetlinkError. */
  async refresh(owner: Owner): Promise<void> {
    const { kernel } = this.#options
    for (const lease of this.#plans.leasesOf(owner)) {
      const network = this.#pools.get(lease.network)
      if (!network || this.#busy.has(portOf(lease))) continue
      await reconcileEndpoint(this.#plans.endpoint(network, lease), { kernel, attempt: (_, work) => work() })
    }
  }

  /**
   * Makes the kernel what it should be, and looks into every endpoint's namespace too. Returns what was done, in words;
   * a second call returns nothing. Throws AggregateError with all that failed, after trying everything.
   */
  async reconcile(): Promise<readonly string[]> {
    await this.#firewall.sync()
    return await this.#repair.reconcile({ everyEndpoint: true })
  }

  /** Repairs, from now on, what other programs change: notices it by netlink, and logs what was repaired. */
  follow(): void {
    this.#repair.follow()
    this.#firewall.follow()
  }

  /** Stops looking. The kernel keeps everything, so that pods go on while the daemon restarts. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#repair.stop()
    await this.#changing.catch(() => {})
    await this.#firewall[Symbol.asyncDispose]()
    await this.#repair[Symbol.asyncDispose]()
    if (!this.#options.journal) await this.#journal[Symbol.asyncDispose]()
  }

  async #oneAfterTheOther<T>(work: () => Promise<T>): Promise<T> {
    // What failed before was told to whoever asked for it.
    const result = this.#changing.catch(() => {}).then(work)
    this.#changing = result
    return await result
  }

  async #make(network: Network): Promise<void> {
    const { kernel } = this.#options
    const { bridge } = network
    this.#busy.begin(bridge)
    try {
      // One of ours, or its name would not have been accepted: left over, and wanted by nobody until now.
      await this.#deleteBridge(network)
      this.#pools.add(network)
      await enableForwarding(this.plan.sysctls, this.#options)
      await applyHostAction({ kind: 'create-bridge', bridge: this.#plans.bridge(network) }, kernel)
      await this.#firewall.update()
      this.#rememberSubnets()
    } catch (error) {
      await this.#unmake(network)
      throw error
    } finally {
      this.#busy.end(bridge)
    }
  }

  async #unmake(network: Network): Promise<void> {
    this.#busy.begin(network.bridge)
    try {
      this.#pools.remove(network.name)
      await this.#deleteBridge(network)
      await this.#firewall.update()
      this.#rememberSubnets()
    } finally {
      this.#busy.end(network.bridge)
    }
  }

  async #deleteBridge({ name, bridge }: Network): Promise<void> {
    const link = await this.#options.kernel.rtnetlink.links.find(bridge)
    if (link && isNetworkBridge(link, name)) await this.#deletions.delete(link.index)
  }

  #rememberSubnets(): void {
    writePickedSubnets(pickedSubnetsFile(this.#options.stateDir), this.networks)
  }

  #choosePorts(network: Network, request: Pick<AttachRequest, 'publish'>): readonly Publication[] {
    try {
      return this.#firewall.choose(network, request.publish ?? [])
    } catch (error) {
      if (error instanceof PublishError) throw new AttachError(error.message, { cause: error })
      throw error
    }
  }

  /** The kernel's part of an endpoint. */
  async #build(network: Network, lease: Lease): Promise<void> {
    await this.#firewall.forgotten(lease)
    // Before the port is there: it must not send, nor be reached, otherwise than the rules say.
    await this.#firewall.update()
    await this.#creations.create(this.#plans.endpoint(network, lease))
    await this.#firewall.forget(lease, 'published')
  }

  async #remove(lease: Lease): Promise<void> {
    const { rtnetlink } = this.#options.kernel
    const link = await rtnetlink.links.find(portOf(lease))
    if (link) await this.#deletions.delete(link.index)
    const forgotten = this.#journal.remove([leaseKey(lease)]).catch((error: unknown) => {
      // The endpoint is gone, that is what counts: a lease without a namespace is reclaimed at the next start.
      const { owner } = lease
      this.#options.log.warn({ owner, err: error }, `Cannot write to disk that the lease of ${owner} has ended`)
    })
    await Promise.all([forgotten, this.#firewall.update()])
    const ended = this.#firewall.forget(lease, 'withdrawn')
    // A UDP client that goes on sending would go on being sent to the address; other connections die with the endpoint.
    if (lease.published?.some(({ protocol }) => protocol === 'udp') === true) await ended
    for (const ip of lease.ips) this.#pools.release(lease.network, ip)
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
