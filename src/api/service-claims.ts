import { NumberPool } from '../base/number-pool.ts'
import { addressAt, cidrContains, cidrFamily, cidrSize, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, ipToBigInt, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { listAt, objectAt, textAt, type KubeObject } from './kube-object.ts'

/** Where Services get their addresses and ports. */
export interface ClaimOptions {
  /** Networks of the cluster IPs, at most one per family, the primary first. */
  readonly serviceCIDRs: readonly Cidr[]
  /** Addresses that no Service is given, like that of the DNS server. One may still ask for them. */
  readonly reserved?: readonly IpAddress[]
  /** Both ends included. @default 30000 to 32767 */
  readonly nodePorts?: { readonly first: number; readonly last: number }
  /** Networks of the outside addresses of type LoadBalancer. Without any, others must give them. */
  readonly loadBalancerCIDRs?: readonly Cidr[]
}

/** Addresses and node ports of a Service. */
export interface ForeignClaim {
  readonly addresses: readonly IpAddress[]
  readonly nodePorts: readonly number[]
}

interface AddressRange {
  readonly cidr: Cidr
  readonly pool: NumberPool
}

/** More addresses of one network are not given out. */
const maxAddresses = 1 << 20

/**
 * Who has which cluster IP, node port and outside address: an index over the Services of the store, which follows each
 * change within its transaction. So what is given out is free, also between writes of one commit, and after a crash it is
 * what the store says.
 */
export class ServiceClaims {
  readonly families: readonly IpFamily[]
  readonly #nodePorts: { readonly first: number; readonly last: number }
  readonly #ports: NumberPool
  readonly #cluster: readonly AddressRange[]
  readonly #balancer: readonly AddressRange[]
  /** Every address that a Service has, in a range or not, with its Service. */
  readonly #owners = new Map<IpAddress, string>()
  readonly #portOwners = new Map<number, string>()
  /** What Services have that are not in the store, by their names. */
  readonly #foreign = new Map<string, ForeignClaim>()

  constructor(options: ClaimOptions) {
    this.families = options.serviceCIDRs.map(cidrFamily)
    this.#nodePorts = options.nodePorts ?? { first: 30_000, last: 32_767 }
    const size = this.#nodePorts.last - this.#nodePorts.first + 1
    this.#ports = new NumberPool(size, { low: Math.min(Math.max(16, size >> 5), 128, size >> 1) })
    const reserved = options.reserved ?? []
    this.#cluster = options.serviceCIDRs.map((cidr) => openRange(cidr, reserved))
    this.#balancer = (options.loadBalancerCIDRs ?? []).map((cidr) => openRange(cidr, []))
  }

  /** The networks of cluster IPs. */
  get clusterCIDRs(): readonly Cidr[] {
    return this.#cluster.map(({ cidr }) => cidr)
  }

  /** `30000-32767` */
  get nodePortRange(): string {
    return `${this.#nodePorts.first}-${this.#nodePorts.last}`
  }

  /** Follows one change of the store. */
  replace(resource: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    if (resource !== 'services') return
    if (before) this.#change(before, 'release')
    if (after) this.#change(after, 'hold')
  }

  /** What a Service has that is in no store, but on the same machine; undefined: nothing any more. */
  setForeign(service: string, claim: ForeignClaim | undefined): void {
    const before = this.#foreign.get(service)
    const owner = `${service} of another source`
    if (before) this.#claim(owner, before, 'release')
    if (claim) {
      this.#foreign.set(service, claim)
      this.#claim(owner, claim, 'hold')
    } else this.#foreign.delete(service)
  }

  /** The Service that has an address, but for one: `shop/web`. */
  ownerOf(ip: IpAddress, but: string): string | undefined {
    const owner = this.#owners.get(ip)
    return owner === but ? undefined : owner
  }

  portOwnerOf(port: number, but: string): string | undefined {
    const owner = this.#portOwners.get(port)
    return owner === but ? undefined : owner
  }

  isNodePort(port: number): boolean {
    return port >= this.#nodePorts.first && port <= this.#nodePorts.last
  }

  /** Whether an address is of the networks of cluster IPs. */
  isClusterAddress(ip: IpAddress): boolean {
    return this.#cluster.some(({ cidr }) => cidrContains(cidr, ip))
  }

  isLoadBalancerAddress(ip: IpAddress): boolean {
    return this.#balancer.some(({ cidr }) => cidrContains(cidr, ip))
  }

  /** A free cluster IP for a Service; undefined when none is left, or none of this family. It is held when the Service is stored. */
  findClusterIp(family: IpFamily, service: string): IpAddress | undefined {
    return this.#find(this.#cluster, family, `${service} ip${family}`)
  }

  findLoadBalancerIp(family: IpFamily, service: string): IpAddress | undefined {
    return this.#find(this.#balancer, family, `${service} lb${family}`)
  }

  /** A free node port; `taken` are those that the same Service was just given. */
  findNodePort(purpose: string, taken: ReadonlySet<number>): number | undefined {
    for (const port of taken) if (this.isNodePort(port)) this.#ports.hold(port - this.#nodePorts.first)
    const number = this.#ports.find(purpose)
    for (const port of taken) if (this.isNodePort(port)) this.#ports.release(port - this.#nodePorts.first)
    return number === undefined ? undefined : this.#nodePorts.first + number
  }

  #find(ranges: readonly AddressRange[], family: IpFamily, purpose: string): IpAddress | undefined {
    for (const { cidr, pool } of ranges) {
      const number = cidrFamily(cidr) === family ? pool.find(purpose) : undefined
      if (number !== undefined) return addressAt(cidr, BigInt(number))
    }
    return undefined
  }

  #change(service: KubeObject, what: 'hold' | 'release'): void {
    const key = `${service.metadata.namespace}/${service.metadata.name}`
    this.#claim(key, { addresses: addressesOf(service), nodePorts: nodePortsOf(service) }, what)
  }

  #claim(key: string, { addresses, nodePorts }: ForeignClaim, what: 'hold' | 'release'): void {
    for (const ip of addresses) {
      if (what === 'hold') this.#owners.set(ip, key)
      else if (this.#owners.get(ip) === key) this.#owners.delete(ip)
      for (const { cidr, pool } of [...this.#cluster, ...this.#balancer]) {
        if (!cidrContains(cidr, ip)) continue
        const number = ipToBigInt(ip) - ipToBigInt(cidr.address)
        if (number < BigInt(pool.size)) pool[what](Number(number))
      }
    }
    for (const port of new Set(nodePorts)) {
      if (what === 'hold') this.#portOwners.set(port, key)
      else if (this.#portOwners.get(port) === key) this.#portOwners.delete(port)
      if (this.isNodePort(port)) this.#ports[what](port - this.#nodePorts.first)
    }
  }
}

/** Node ports of a stored Service, that for health checks included. */
export function nodePortsOf(service: KubeObject): readonly number[] {
  const ports = listAt(service.spec, 'ports').map((port) => objectAt({ port }, 'port')['nodePort'])
  const all = [...ports, service.spec?.['healthCheckNodePort']]
  return all.filter((port): port is number => typeof port === 'number' && port > 0)
}

/** Addresses of a stored Service that must be its alone. */
function addressesOf(service: KubeObject): readonly IpAddress[] {
  if (service.spec?.['type'] === 'ExternalName') return []
  const ingress = listAt(objectAt(service.status, 'loadBalancer'), 'ingress').map((entry) => textAt(entry, 'ip'))
  const all = [...listAt(service.spec, 'clusterIPs'), ...ingress]
  return all.flatMap((ip) => (typeof ip === 'string' && ip !== '' && ip !== 'None' ? [parseIp(ip)] : []))
}

/** All addresses but the network's own, its first, its last (IPv4: broadcast) and the reserved ones. */
function openRange(network: Cidr, reserved: readonly IpAddress[]): AddressRange {
  const cidr = networkOf(network)
  const whole = cidrSize(cidr)
  const size = whole > BigInt(maxAddresses) ? maxAddresses : Number(whole)
  // A network of one or two addresses is meant to be used whole.
  const excluded = new Set(size > 2 ? [0, 1] : [])
  if (size > 2 && whole === BigInt(size)) excluded.add(size - 1)
  for (const ip of reserved) {
    if (ipFamilyOf(ip) === cidrFamily(cidr) && cidrContains(cidr, ip)) {
      excluded.add(Number(ipToBigInt(ip) - ipToBigInt(cidr.address)))
    }
  }
  return { cidr, pool: new NumberPool(size, { low: Math.min(Math.max(16, size >> 4), 256, size >> 1), excluded }) }
}
