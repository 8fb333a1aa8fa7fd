import type { Cidr } from '../net/cidr.ts'
import { ipFamilies, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Lease } from './leases.ts'
import { portOf, type Owner } from './names.ts'
import type { NetworkPools } from './network-pools.ts'
import type { Network } from './network.ts'
import {
  leadsOut,
  planBridge,
  planEndpoint,
  planHost,
  type BridgePlan,
  type EndpointPlan,
  type HostPlan,
  type HostWishes,
} from './plan.ts'

/** What {@link BridgePlans} are made of, as it is at the moment of asking. */
export interface BridgePlansOptions {
  readonly pools: NetworkPools
  /** Of all networks of the host, also of those that have no bridge. */
  readonly leases: () => Iterable<Lease>
  readonly serviceAddresses: readonly IpAddress[]
  /** What the host serves to pods of internal networks, too. */
  readonly served: readonly Cidr[]
  /** The families in which a lease of a network without bridge leads out. */
  readonly leadsOutElsewhere: NonNullable<HostWishes['leadsOutElsewhere']>
}

/** What the kernel should have of the bridge networks: all of it, or a part. Changes nothing. */
export class BridgePlans {
  readonly #options: BridgePlansOptions

  constructor(options: BridgePlansOptions) {
    this.#options = options
  }

  /** Everything. */
  get host(): HostPlan {
    const { pools, leases } = this.#options
    return this.#plan(pools.networks, leases())
  }

  /** One bridge. The first network's has the service addresses. */
  bridge(network: Network): BridgePlan {
    const { pools, serviceAddresses } = this.#options
    return planBridge(network, pools.networks[0]?.name === network.name ? serviceAddresses : [])
  }

  /** One endpoint, beside the others of its owner. */
  endpoint(network: Network, lease: Lease): EndpointPlan {
    const leases = this.leasesOf(lease.owner)
    const networks = leases.flatMap(({ network }) => this.#options.pools.get(network) ?? [])
    const { endpoints } = this.#plan(networks, leases)
    return endpoints.find(({ port }) => port === portOf(lease)) ?? planEndpoint(network, lease)
  }

  /** The families in which a lease's endpoint leads out; none for leases of networks without bridge. */
  leadsOut(lease: Lease): readonly IpFamily[] {
    const network = this.#options.pools.get(lease.network)
    return network ? ipFamilies.filter((family) => leadsOut(network, lease, family)) : []
  }

  /** Leases of networks that have a bridge. */
  get ownLeases(): Iterable<Lease> {
    const { pools, leases } = this.#options
    return Iterator.from(leases()).filter(({ network }) => pools.get(network) !== undefined)
  }

  /** All leases of an owner, in the order in which they were made. */
  leasesOf(owner: Owner): readonly Lease[] {
    return Array.from(this.#options.leases()).filter((lease) => lease.owner === owner)
  }

  /** Who has an endpoint in a network. */
  ownersIn(network: string): readonly Owner[] {
    return Array.from(this.#options.leases()).flatMap((lease) => (lease.network === network ? [lease.owner] : []))
  }

  #plan(networks: readonly Network[], leases: Iterable<Lease>): HostPlan {
    const { serviceAddresses, served, leadsOutElsewhere } = this.#options
    return planHost({ networks, leases, serviceAddresses, served, leadsOutElsewhere })
  }
}
