import { BoundedRunner } from '../base/bounded-runner.ts'
import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { LanSettings } from '../model/network.ts'
import { formatCidr } from '../net/cidr.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import { AttachError, chooseLink, type AttachRequest } from './attach-request.ts'
import { NetworkConflictError, NetworkError } from './check-network.ts'
import type { DhcpEndpoint } from './dhcp-endpoints.ts'
import { readInsideState, type EndpointState } from './endpoint-state.ts'
import { readHostFacts } from './host-facts.ts'
import type { BridgeKernel } from './kernel.ts'
import { LanEndpoints } from './lan-endpoints.ts'
import { driverObstacle } from './lan-link.ts'
import { checkParent, defineLanNetwork, isPassthru, lanLeadsOut, ownMac, type LanNetwork } from './lan-network.ts'
import { leaseKey, type Lease, type LeaseJournal, type LeaseKey } from './leases.ts'
import type { Owner } from './names.ts'
import { NetworkPools } from './network-pools.ts'
import { stableMac, takenOn, type HostFacts } from './network.ts'

/** What {@link openLanNetworks} needs. */
export interface LanNetworksOptions {
  /** Leases of DHCP servers are kept in its folder `dhcp`. */
  readonly stateDir: string
  readonly networks: readonly LanSettings[]
  /** Networks that are left out, with an error in the log, when they cannot be had. */
  readonly optional?: readonly LanSettings[]
  /** The caller's, with the leases of other networks, too. */
  readonly journal: LeaseJournal
  /** Ranges that no subnet may overlap, as they are at the moment of asking. */
  readonly reserved: () => HostFacts['reserved']
  /** The families in which a lease of another network leads out. */
  readonly leadsOutElsewhere: (lease: Lease) => readonly IpFamily[]
  /** Called after the addresses of an endpoint became others by themselves. */
  readonly onAddresses: (owner: Owner) => void
  readonly machineId: string
  readonly bootId: string
  /** The caller's: it is not disposed here. */
  readonly kernel: BridgeKernel
  readonly log: Log
  readonly clock?: Clock
}

/** A network, and how full its pools are. */
export interface LanNetworkStatus {
  readonly network: LanNetwork
  readonly endpoints: number
  readonly pools: readonly { readonly subnet: string; readonly used: number; readonly size: number }[]
}

/** Networks whose pods are on the LAN itself, each with a link of its own (macvlan, ipvlan) on one of the host's. */
export class LanNetworks implements AsyncDisposable {
  readonly #options: LanNetworksOptions
  readonly #pools: NetworkPools<LanNetwork>
  readonly #endpoints: LanEndpoints
  /** Endpoints that are being made or removed. */
  readonly #busy = new Set<LeaseKey>()
  readonly #runner: BoundedRunner
  /** How each parent was when it was last heard of. */
  readonly #parents = new Map<string, string>()
  #following = false

  /** Use {@link openLanNetworks}. */
  constructor(networks: readonly LanNetwork[], options: LanNetworksOptions) {
    this.#options = options
    const { journal, clock = systemClock, log } = options
    this.#pools = new NetworkPools(networks, { leases: journal.leases.values(), serviceAddresses: [] })
    this.#endpoints = new LanEndpoints({
      ...options,
      isBusy: (key) => this.#busy.has(key),
      defaultsOf: (network, lease) => this.#defaultsOf(network, lease),
    })
    this.#runner = new BoundedRunner({
      run: async () => {
        await this.reconcile()
      },
      clock,
      onError: (error, { failures, retryInMs }) =>
        log.error({ err: error, failures, retryInMs }, 'Cannot repair the endpoints on the LAN, trying again'),
    })
  }

  get networks(): readonly LanNetwork[] {
    return this.#pools.networks
  }

  /** Whether there is such a network. */
  has(name: string): boolean {
    return this.#pools.get(name) !== undefined
  }

  /** The families in which a lease's endpoint leads out; none for leases of other networks. */
  leadsOut(lease: Lease): readonly IpFamily[] {
    const network = this.#pools.get(lease.network)
    return network ? lanLeadsOut(network, lease) : []
  }

  /** What no subnet of a bridge may overlap. */
  get reserved(): HostFacts['reserved'] {
    return rangesOf(this.networks)
  }

  /** Networks with the use of their pools. */
  status(): LanNetworkStatus[] {
    return this.networks.map((network) => {
      const { name } = network
      return { network, endpoints: this.#leasesIn(name).length, pools: this.#pools.use(name) }
    })
  }

  /** What the kernel has of a network's endpoints, with counters. Throws NetlinkError. */
  async inspect(name: string): Promise<ReadonlyMap<LeaseKey, EndpointState>> {
    const { kernel } = this.#options
    const network = this.#pools.get(name)
    const states = this.#leasesIn(name).map(async (lease) => {
      return [leaseKey(lease), await readInsideState(lease, { port: network?.parent ?? '', kernel })] as const
    })
    return new Map(await Promise.all(states))
  }

  /** The lease that a DHCP server gave an endpoint. */
  dhcpLease(endpoint: Pick<DhcpEndpoint, 'owner' | 'network'>): ReturnType<LanEndpoints['dhcpLease']> {
    return this.#endpoints.dhcpLease(endpoint)
  }

  /** Makes one more network: nothing in the kernel, before the first pod is in it. Throws NetworkError, NetlinkError. */
  async add(settings: LanSettings): Promise<LanNetwork> {
    const { kernel } = this.#options
    const { name, driver } = settings
    if (this.has(name)) throw new NetworkConflictError('name', `network ${name} exists already`)
    const network = await define(settings, { ...this.#options, others: this.networks })
    checkParent(network, { links: await kernel.rtnetlink.links.list(), others: this.networks })
    const obstacle = await driverObstacle(driver, kernel)
    if (obstacle !== undefined) throw new NetworkError('driver', `network ${name}: ${obstacle}`)
    if (this.has(name)) throw new NetworkConflictError('name', `network ${name} exists already`)
    this.#pools.add(network)
    return network
  }

  /** Takes a network away that has no endpoints; one that is not there is no error. Throws NetworkError. */
  remove(name: string): void {
    const owners = this.#leasesIn(name).map(({ owner }) => owner)
    if (owners.length === 0) return this.#pools.remove(name)
    const some = owners.slice(0, 3).join(', ') + (owners.length > 3 ? ` and ${owners.length - 3} more` : '')
    throw new NetworkConflictError('name', `network ${name} is in use by ${some} (remove or disconnect them first)`)
  }

  /**
   * Gives an owner an endpoint: a lease first, then the link and its addresses; on failure nothing is left. Waits for the DHCP
   * server where there is one. Throws {@link AttachError}, PoolExhaustedError, AddressUnavailableError, NetlinkError.
   */
  async attach(request: AttachRequest): Promise<Lease> {
    const { owner, network: name, netns, aliases = [] } = request
    const network = this.#pools.get(name)
    if (!network) throw new AttachError(`there is no network "${name}"`)
    this.#checkRequest(network, request)
    const key = leaseKey({ network: name, owner })
    const { journal, machineId, bootId } = this.#options
    if (journal.leases.has(key)) throw new AttachError(`${owner} has an endpoint already in network ${name}`)
    if (this.#busy.has(key)) throw new AttachError(`the endpoint of ${owner} is being made or removed`)
    const present = [...journal.leases.values()].filter((lease) => lease.owner === owner)
    const link = chooseLink(request, { network, present })
    this.#busy.add(key)
    try {
      const ips = network.addresses === 'dhcp' ? [] : await this.#allocate(network, request.ips ?? [])
      // A DHCP server gives the same MAC address the same address again: so does a pod of the same name get it.
      const seed = network.addresses === 'dhcp' ? owner : ips.join(' ')
      const mac = request.mac ?? stableMac(`${machineId} ${name} ${seed}`)
      const named = aliases.length > 0 ? { aliases: [...new Set(aliases)] } : {}
      const lease: Lease = { owner, network: name, ips, mac, netns, link, bootId, ...named }
      try {
        await journal.add([lease])
        const made = await this.#endpoints.create(network, lease)
        await journal.add([made])
        return made
      } catch (error) {
        await this.#undo(lease, error)
        throw error
      }
    } finally {
      this.#busy.delete(key)
    }
  }

  /** Takes the endpoint away, and gives its lease back; one that is not there is no error. Throws NetlinkError; then it can be tried again. */
  async detach(owner: Owner, network: string): Promise<void> {
    const key = leaseKey({ network, owner })
    const lease = this.#options.journal.leases.get(key)
    if (!lease) return
    if (this.#busy.has(key)) throw new AttachError(`the endpoint of ${owner} is being made or removed`)
    this.#busy.add(key)
    try {
      await this.#remove(lease)
    } finally {
      this.#busy.delete(key)
    }
  }

  /** Makes the inside of an owner's endpoints what it should be, after one of them came or went. Throws NetlinkError. */
  async refresh(owner: Owner): Promise<void> {
    for (const lease of this.#ownLeases) {
      const network = this.#pools.get(lease.network)
      if (lease.owner !== owner || !network || this.#busy.has(leaseKey(lease))) continue
      await this.#endpoints.reconcile(network, lease)
    }
  }

  /**
   * Looks into every endpoint's namespace and puts back what is missing there; endpoints whose parent is gone wait for it. Returns
   * what was done, in words. Throws AggregateError with all that failed, after trying everything.
   */
  async reconcile(): Promise<readonly string[]> {
    const { kernel, log } = this.#options
    const parents = new Set((await kernel.rtnetlink.links.list()).map(({ name }) => name))
    const done: string[] = []
    const errors: Error[] = []
    for (const lease of this.#ownLeases) {
      const network = this.#pools.get(lease.network)
      if (!network || !parents.has(network.parent) || this.#busy.has(leaseKey(lease))) continue
      try {
        done.push(...(await this.#endpoints.reconcile(network, lease)))
      } catch (error) {
        // Its namespace may have gone with it meanwhile.
        if (!this.#busy.has(leaseKey(lease))) errors.push(error as Error)
      }
    }
    if (this.#following)
      for (const action of done) log.warn({ action }, `Repaired what another program changed: ${action}`)
    if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => error.message).join('; '))
    return done
  }

  /** Takes over the leases of DHCP servers that an earlier daemon left, and repairs, from now on, when a parent goes and comes. */
  async follow(): Promise<void> {
    const { kernel, log } = this.#options
    const kept = this.#ownLeases.flatMap((lease) => {
      const network = this.#pools.get(lease.network)
      return network?.addresses === 'dhcp' ? [[network, lease] as const] : []
    })
    await this.#endpoints.resume(kept)
    for (const action of await this.reconcile().catch((error: unknown) => {
      log.error({ err: error }, `Not everything on the LAN could be made: ${(error as Error).message}`)
      return []
    })) {
      log.info({ action }, `Networks: ${action}`)
    }
    this.#following = true
    kernel.rtnetlink.watchLinks(
      ({ kind, link }) => this.#noteParent(link.name, kind === 'deleted' ? undefined : `${link.index} ${link.up}`),
      () => this.#runner.request(),
    )
  }

  /** Stops looking. Pods keep their links and addresses, so that they go on while the daemon restarts. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#runner.stop()
    await this.#runner.settled()
    await this.#endpoints[Symbol.asyncDispose]()
  }

  #noteParent(name: string, state: string | undefined): void {
    const networks = this.networks.filter(({ parent }) => parent === name).map((network) => network.name)
    if (networks.length === 0 || this.#parents.get(name) === state) return
    if (state !== undefined) {
      this.#parents.set(name, state)
      this.#runner.request()
      return
    }
    this.#parents.delete(name)
    this.#options.log.warn(
      { link: name, networks },
      `Link ${name} is gone, and with it those of the pods in ${networks.join(', ')}, until it is back`,
    )
  }

  #checkRequest(network: LanNetwork, { owner, ips = [], mac, publish = [] }: AttachRequest): void {
    const { name, driver, addresses, parent } = network
    if (publish.length > 0) {
      const reason = 'its pods are on the LAN itself, with all of their ports'
      throw new AttachError(`nothing can be published in ${driver} network ${name}: ${reason} (leave --publish out)`)
    }
    if (addresses === 'dhcp' && ips.length > 0) {
      const advice = 'reserve the address there for a MAC address of your choice, or leave --ip out'
      throw new AttachError(`addresses in network ${name} come from its DHCP server (${advice})`)
    }
    if (mac !== undefined && !ownMac(network)) {
      const reason = `pods in ${driver} network ${name} have the MAC address of ${parent}`
      throw new AttachError(`${owner} cannot have a MAC address of its own: ${reason} (leave --mac out)`)
    }
    const [other] = isPassthru(network) ? this.#leasesIn(name) : []
    if (other) {
      const advice = 'mode bridge shares a link among pods'
      throw new AttachError(
        `network ${name} of mode passthru is taken by ${other.owner}: ${parent} is for one pod (${advice})`,
      )
    }
  }

  /** Never an address that the host itself has on the LAN. */
  async #allocate(network: LanNetwork, wanted: readonly IpAddress[]): Promise<readonly IpAddress[]> {
    const { rtnetlink } = this.#options.kernel
    const hosts = new Set<string>((await rtnetlink.addresses.list()).map(({ address }) => address.address))
    const own = wanted.find((ip) => hosts.has(ip))
    if (own !== undefined)
      throw new AttachError(`${own} is an address of this host (expected one that is free on the LAN)`)
    for (;;) {
      const ips = this.#pools.allocate(network.name, wanted)
      if (!ips.some((ip) => hosts.has(ip))) return ips
      // The host's stays marked as used, and is not met again.
      for (const ip of ips) if (!hosts.has(ip)) this.#pools.release(network.name, ip)
    }
  }

  async #remove(lease: Lease): Promise<void> {
    const { journal, log } = this.#options
    await this.#endpoints.delete(lease)
    try {
      await journal.remove([leaseKey(lease)])
    } catch (error) {
      const { owner } = lease
      log.warn({ owner, err: error }, `Cannot write to disk that the lease of ${owner} has ended`)
    }
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

  /** Of an owner's endpoints, the first that leads out has the default route. */
  #defaultsOf(network: LanNetwork, lease: Lease): { defaults: readonly IpFamily[]; several: boolean } {
    const { journal, leadsOutElsewhere } = this.#options
    const leases = [...journal.leases.values()].filter(({ owner }) => owner === lease.owner)
    const before = leases.slice(
      0,
      Math.max(
        0,
        leases.findIndex((other) => leaseKey(other) === leaseKey(lease)),
      ),
    )
    const taken = new Set(before.flatMap((other) => [...this.leadsOut(other), ...leadsOutElsewhere(other)]))
    return {
      defaults: lanLeadsOut(network, lease).filter((family) => !taken.has(family)),
      several: leases.length > 1,
    }
  }

  get #ownLeases(): Lease[] {
    return [...this.#options.journal.leases.values()].filter(({ network }) => this.has(network))
  }

  #leasesIn(name: string): Lease[] {
    return [...this.#options.journal.leases.values()].filter(({ network }) => network === name)
  }
}

/** Decides the networks. A parent that is not there yet is waited for. Throws NetworkError. */
export async function openLanNetworks(options: LanNetworksOptions): Promise<LanNetworks> {
  const { networks: needed, optional = [], log } = options
  const networks: LanNetwork[] = []
  for (const settings of needed) networks.push(await define(settings, { ...options, others: networks }))
  for (const settings of optional) {
    try {
      networks.push(await define(settings, { ...options, others: networks }))
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error
      log.error({ network: settings.name, err: error }, `Network ${settings.name} cannot be had: ${error.message}`)
    }
  }
  return new LanNetworks(networks, options)
}

/** The subnets may be those that the parent leads to: it is the same LAN. */
async function define(
  settings: LanSettings,
  context: Pick<LanNetworksOptions, 'kernel' | 'machineId' | 'reserved'> & { readonly others: readonly LanNetwork[] },
): Promise<LanNetwork> {
  const { kernel, machineId, others } = context
  const { name, parent } = settings
  if (others.some((other) => other.name === name)) {
    throw new NetworkConflictError('name', `network ${name} exists already`)
  }
  const { routes } = await readHostFacts(kernel, { machineId, previous: [], reserved: [] })
  const reserved = [...context.reserved(), ...rangesOf(others.filter((other) => other.parent === parent))]
  return defineLanNetwork(settings, {
    taken: takenOn({ routes: routes.filter(({ device }) => device !== parent), reserved }),
  })
}

function rangesOf(networks: readonly LanNetwork[]): HostFacts['reserved'] {
  return networks.flatMap(({ name, subnets }) =>
    subnets.map(({ cidr }) => ({ range: cidr, what: `subnet ${formatCidr(cidr)} of network ${name}` })),
  )
}
