import type { LanSettings, NetworkSettings } from '../model/network.ts'
import { formatCidr } from '../net/cidr.ts'
import { AttachError, type AttachRequest, type PortChanges } from './attach-request.ts'
import type { BridgeNetworks, BridgeNetworksOptions, NetworkStatus } from './bridge-networks.ts'
import { attachBuiltIn, isBuiltIn, refreshBuiltIn } from './built-in-networks.ts'
import { NetworkConflictError } from './check-network.ts'
import { reclaimLeases } from './decide-networks.ts'
import type { EndpointState } from './endpoint-state.ts'
import { openLanNetworks, type LanNetworks, type LanNetworkStatus } from './lan-networks.ts'
import { leaseKey, type Lease, type LeaseJournal, type LeaseKey } from './leases.ts'
import type { Owner } from './names.ts'
import { openBridgeNetworks, openJournal } from './open-bridge-networks.ts'
import type { EndpointNetworks, Resolvers } from './endpoint-networks.ts'

/** What {@link openHostNetworks} needs. */
export interface HostNetworksOptions extends Omit<
  BridgeNetworksOptions,
  'networks' | 'optional' | 'journal' | 'elsewhere'
> {
  /** Of any driver. The first bridge carries the service addresses. */
  readonly networks: readonly NetworkSettings[]
  /** Networks that are left out, with an error in the log, when they cannot be had. */
  readonly optional?: readonly NetworkSettings[]
}

/** All networks of a host, whichever driver makes them; their leases are in one journal. */
export class HostNetworks implements EndpointNetworks, AsyncDisposable {
  readonly bridges: BridgeNetworks
  readonly lan: LanNetworks
  readonly #journal: LeaseJournal
  readonly #options: HostNetworksOptions
  readonly #listeners: Set<(owner: Owner) => void>

  /** Use {@link openHostNetworks}. */
  constructor(
    parts: {
      readonly bridges: BridgeNetworks
      readonly lan: LanNetworks
      readonly journal: LeaseJournal
      readonly listeners: Set<(owner: Owner) => void>
    },
    options: HostNetworksOptions,
  ) {
    this.bridges = parts.bridges
    this.lan = parts.lan
    this.#journal = parts.journal
    this.#listeners = parts.listeners
    this.#options = options
  }

  /** All leases, by `network/owner`. */
  get leases(): ReadonlyMap<LeaseKey, Lease> {
    return this.#journal.leases
  }

  /** Another number after each change of {@link leases}. */
  get leaseRevision(): number {
    return this.#journal.revision
  }

  /** The names of all networks that pods can be in, besides `host` and `none`. */
  get names(): readonly string[] {
    return [...this.bridges.networks, ...this.lan.networks].map(({ name }) => name)
  }

  /** Networks with the use of their pools. */
  status(): (NetworkStatus | LanNetworkStatus)[] {
    return [...this.bridges.status(), ...this.lan.status()]
  }

  /** What the kernel has of a network's endpoints, with counters. Throws NetlinkError. */
  async inspect(name: string): Promise<ReadonlyMap<LeaseKey, EndpointState>> {
    return this.lan.has(name) ? await this.lan.inspect(name) : await this.bridges.inspect(name)
  }

  /** Makes one more network. On failure nothing of it is left. Throws NetworkError, NetlinkError, NftablesError. */
  async add(settings: NetworkSettings): Promise<void> {
    const { name } = settings
    if (this.names.includes(name)) throw new NetworkConflictError('name', `network ${name} exists already`)
    if (isLan(settings)) await this.lan.add(settings)
    else await this.bridges.add(settings)
  }

  /** Takes a network away that has no endpoints; one that is not there is no error. Throws NetworkError, NetlinkError. */
  async remove(name: string): Promise<void> {
    if (this.lan.has(name)) this.lan.remove(name)
    else await this.bridges.remove(name)
  }

  /** As {@link BridgeNetworks.attach}, in a network of any driver. */
  async attach(request: AttachRequest): Promise<Lease> {
    const { network } = request
    if (isBuiltIn(network)) return await attachBuiltIn(network, request, { ...this.#options, journal: this.#journal })
    if (this.lan.has(network)) return await this.lan.attach(request)
    if (this.names.includes(network)) return await this.bridges.attach(request)
    const known = [...this.names, 'host', 'none'].join(', ')
    throw new AttachError(`there is no network "${network}" (expected one of: ${known})`)
  }

  /** Takes the endpoint away; one that is not there is no error. Throws NetlinkError; then it can be tried again. */
  async detach(owner: Owner, network: string): Promise<void> {
    if (isBuiltIn(network)) await this.#journal.remove([leaseKey({ owner, network })])
    else if (this.lan.has(network)) await this.lan.detach(owner, network)
    else await this.bridges.detach(owner, network)
  }

  /** Changes what leads to an endpoint. Throws {@link AttachError}, NftablesError. */
  async changePorts(endpoint: { owner: Owner; network: string }, changes: PortChanges): Promise<Lease> {
    const { network, owner } = endpoint
    const lease = this.leases.get(leaseKey(endpoint))
    if (!lease || (!isBuiltIn(network) && !this.lan.has(network))) {
      return await this.bridges.changePorts(endpoint, changes)
    }
    if (changes.publish.length === 0 && changes.withdraw.length === 0) return lease
    throw new AttachError(
      `${owner} has no published ports in network ${network}, which is no bridge: all are open there`,
    )
  }

  /** Makes the inside of an owner's endpoints what it should be, after one of them came or went. Throws NetlinkError. */
  async refresh(owner: Owner): Promise<void> {
    await this.bridges.refresh(owner)
    await this.lan.refresh(owner)
  }

  resolvers(owner: Owner): Resolvers {
    const leases = [...this.leases.values()].filter((lease) => lease.owner === owner)
    if (leases.some(({ network }) => !isBuiltIn(network) && !this.lan.has(network))) return 'cluster'
    const dhcp = leases.map((lease) => this.lan.dhcpLease(lease)).find((lease) => lease && lease.dnsServers.length > 0)
    return dhcp ? { addresses: dhcp.dnsServers, domain: dhcp.domain } : 'host'
  }

  watchAddresses(listener: (owner: Owner) => void): void {
    this.#listeners.add(listener)
  }

  /** Stops looking. The kernel keeps everything, so that pods go on while the daemon restarts. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.lan[Symbol.asyncDispose]()
    await this.bridges[Symbol.asyncDispose]()
    await this.#journal[Symbol.asyncDispose]()
  }
}

/**
 * Decides the networks, reclaims leases that nobody holds any more, and makes the kernel's part, adopting what is right
 * already. Throws NetworkError for settings that cannot be used, before anything was changed.
 */
export async function openHostNetworks(options: HostNetworksOptions): Promise<HostNetworks> {
  const { reserved = [], optional = [] } = options
  const bridgeSettings = options.networks.filter(isBridge)
  const optionalBridges = optional.filter(isBridge)
  await using stack = new AsyncDisposableStack()
  const journal = stack.use(await openJournal(options))
  // Before pools are filled with what is in use.
  await reclaimLeases(journal, options)
  const listeners = new Set<(owner: Owner) => void>()
  let bridges: BridgeNetworks | undefined
  const settled = [...bridgeSettings, ...optionalBridges].flatMap(({ name, subnets }) =>
    subnets.map((range) => ({ range, what: `subnet ${formatCidr(range)} of network ${name}` })),
  )
  const lan = stack.use(
    await openLanNetworks({
      ...options,
      networks: options.networks.filter(isLan),
      optional: optional.filter(isLan),
      journal,
      reserved: () => [...reserved, ...(bridges ? bridges.subnets : settled)],
      leadsOutElsewhere: (lease) => bridges?.leadsOut(lease) ?? [],
      onAddresses: (owner) => {
        for (const listener of listeners) listener(owner)
      },
    }),
  )
  bridges = stack.use(
    await openBridgeNetworks({
      ...options,
      networks: bridgeSettings,
      optional: optionalBridges,
      journal,
      elsewhere: {
        has: (network) => isBuiltIn(network) || lan.has(network),
        leadsOut: (lease) => lan.leadsOut(lease),
        get reserved() {
          return lan.reserved
        },
      },
    }),
  )
  await refreshBuiltIn({ ...options, journal })
  await lan.follow()
  const opened = new HostNetworks({ bridges, lan, journal, listeners }, options)
  stack.move()
  return opened
}

function isLan(settings: NetworkSettings): settings is LanSettings {
  return settings.driver === 'macvlan' || settings.driver === 'ipvlan'
}

function isBridge(settings: NetworkSettings): settings is Exclude<NetworkSettings, LanSettings> {
  return !isLan(settings)
}
