import { cidrContains, cidrFamily, formatCidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { AddressPool, AddressUnavailableError, PoolExhaustedError } from './ipam.ts'
import type { Lease } from './leases.ts'
import type { Network } from './network.ts'

/** The networks of a host by name, with the pools that their endpoints' addresses come from. */
export class NetworkPools<N extends Pick<Network, 'name' | 'subnets'> = Network> {
  readonly #serviceAddresses: readonly IpAddress[]
  readonly #entries = new Map<string, { network: N; readonly pools: readonly AddressPool[] }>()

  constructor(
    networks: Iterable<N>,
    options: { readonly leases: Iterable<Lease>; readonly serviceAddresses: readonly IpAddress[] },
  ) {
    this.#serviceAddresses = options.serviceAddresses
    for (const network of networks) this.add(network)
    for (const { network, ips } of options.leases) for (const ip of ips) this.#poolOf(network, ip)?.reserve(ip)
  }

  /** In the order in which they were added. */
  get networks(): readonly N[] {
    return Array.from(this.#entries.values(), ({ network }) => network)
  }

  get(name: string): N | undefined {
    return this.#entries.get(name)?.network
  }

  /** Adds a network without endpoints. */
  add(network: N): void {
    const pools = network.subnets.map(({ cidr, gateway, range, aux = [] }) => {
      return new AddressPool(cidr, [gateway, ...aux, ...this.#serviceAddresses], range)
    })
    this.#entries.set(network.name, { network, pools })
  }

  /** Puts another version in the place of a network; the subnets must be the same. */
  replace(network: N): void {
    const entry = this.#entries.get(network.name)
    if (entry) entry.network = network
  }

  remove(name: string): void {
    this.#entries.delete(name)
  }

  /** How full each pool is. */
  use(name: string): { readonly subnet: string; readonly used: number; readonly size: number }[] {
    const pools = this.#entries.get(name)?.pools ?? []
    return pools.map(({ subnet, used, size }) => ({ subnet: formatCidr(subnet), used, size }))
  }

  /**
   * One address per family: a wanted one, or else the next of the first pool that has one. Throws PoolExhaustedError or
   * AddressUnavailableError; then none is taken.
   */
  allocate(name: string, wanted: readonly IpAddress[]): IpAddress[] {
    const pools = this.#entries.get(name)?.pools ?? []
    const taken: IpAddress[] = []
    try {
      for (const ip of wanted) {
        const pool = this.#poolOf(name, ip)
        if (!pool) {
          const subnets = pools.map(({ subnet }) => formatCidr(subnet)).join(' or ')
          throw new AddressUnavailableError(
            `${ip} is in no subnet of network ${name} (expected an address in ${subnets})`,
          )
        }
        pool.reserve(ip)
        taken.push(ip)
      }
      for (const family of [4, 6] as const) {
        const own = pools.filter(({ subnet }) => cidrFamily(subnet) === family)
        if (own.length === 0 || taken.some((ip) => own.some(({ subnet }) => cidrContains(subnet, ip)))) continue
        taken.push(allocateFrom(own))
      }
      return taken.toSorted((a, b) => Number(a.includes(':')) - Number(b.includes(':')))
    } catch (error) {
      for (const ip of taken) this.release(name, ip)
      throw error
    }
  }

  /** Gives an address back. One that was not in use is no error. */
  release(name: string, ip: IpAddress): void {
    this.#poolOf(name, ip)?.release(ip)
  }

  #poolOf(name: string, ip: IpAddress): AddressPool | undefined {
    return this.#entries.get(name)?.pools.find(({ subnet }) => cidrContains(subnet, ip))
  }
}

function allocateFrom(pools: readonly AddressPool[]): IpAddress {
  const last = pools.at(-1)
  for (const pool of pools) {
    try {
      return pool.allocate()
    } catch (error) {
      if (!(error instanceof PoolExhaustedError) || pool === last) throw error
    }
  }
  throw new PoolExhaustedError('the network has no pool')
}
