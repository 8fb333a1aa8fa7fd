import { addressAt, cidrContains, cidrFamily, cidrSize, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, ipToBigInt, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { parsePort, type Port } from '../net/port.ts'
import { objectKey, type ObjectKey } from '../model/object-key.ts'
import type { Service } from '../model/service.ts'
import { requestedFamilies } from './endpoint-slices-for.ts'
import { NumberPool } from '../base/number-pool.ts'

/** Where addresses and ports come from. */
export interface AllocatorOptions {
  /** Networks of the cluster IPs, at most one per family. */
  readonly serviceCIDRs: readonly Cidr[]
  /** Addresses that no Service is given, like that of the DNS server. */
  readonly reserved?: readonly IpAddress[]
  /** Both ends included. @default 30000 to 32767 */
  readonly nodePorts?: { readonly first: number; readonly last: number }
}

/** A Service that changed; undefined when it is gone. */
export type ServiceChange = readonly [key: ObjectKey, service: Service | undefined]

/** What an {@link Allocator} made of some changes. */
export interface Allocation {
  /** By key: the Service with its addresses and ports, undefined when it is gone. More than was asked when others had to move. */
  readonly services: ReadonlyMap<ObjectKey, Service | undefined>
  /** Keys of Services that were given another address or port than before, since somebody chose theirs by hand. */
  readonly moved: readonly ObjectKey[]
}

const nothing: ReadonlyMap<string, Claim> = new Map()

/** Linear probing looks at this many addresses at most, however big the network is. */
const maxAddresses = 1 << 20

/** One number that a Service holds. */
interface Claim {
  readonly pool: NumberPool
  readonly number: number
}

interface Entry {
  readonly input: Service
  readonly output: Service
  /** Given by us, by what for (`ip4`, `port 0`). */
  readonly given: ReadonlyMap<string, Claim>
}

/**
 * Gives cluster IPs and node ports to Services that need one and name none, as the API server of Kubernetes does. What a
 * Service gets follows from its name, unless the place is taken; it keeps that as long as it lives, whoever else comes,
 * except for one who chose the same by hand.
 */
export class Allocator {
  readonly #addresses = new Map<IpFamily, { readonly cidr: Cidr; readonly pool: NumberPool }>()
  readonly #ports: NumberPool
  readonly #firstPort: number
  readonly #lastPort: number
  readonly #entries = new Map<ObjectKey, Entry>()
  /** Who was given what, to find them when somebody chooses it by hand. */
  readonly #given = new Map<NumberPool, Map<number, ObjectKey>>()

  constructor(options: AllocatorOptions) {
    for (const cidr of options.serviceCIDRs) {
      this.#addresses.set(cidrFamily(cidr), { cidr: networkOf(cidr), pool: addressPool(cidr, options.reserved ?? []) })
    }
    const { first, last } = options.nodePorts ?? { first: 30_000, last: 32_767 }
    const size = last - first + 1
    this.#firstPort = first
    this.#lastPort = last
    this.#ports = new NumberPool(size, { low: Math.min(Math.max(16, size >> 5), 128, size >> 1) })
  }

  /** Takes Services that changed. What was given does not depend on the order within `changes`. */
  update(changes: Iterable<ServiceChange>): Allocation {
    const wanted = new Map<ObjectKey, { service: Service; before: Entry | undefined }>()
    const services = new Map<ObjectKey, Service | undefined>()
    for (const [key, service] of changes) {
      const before = this.#entries.get(key)
      if (before) this.#forget(key, before)
      if (service) wanted.set(key, { service, before })
      else services.set(key, undefined)
    }
    // Those who chose by hand come first, and push out whoever was given the same.
    const displaced = new Set<ObjectKey>()
    for (const { service } of wanted.values()) {
      for (const { pool, number } of this.#explicitClaims(service)) {
        pool.hold(number)
        const owner = this.#given.get(pool)?.get(number)
        if (owner !== undefined) displaced.add(owner)
      }
    }
    for (const key of displaced) {
      const before = this.#entries.get(key)
      if (!before) continue
      this.#forget(key, before)
      for (const { pool, number } of this.#explicitClaims(before.input)) pool.hold(number)
      wanted.set(key, { service: before.input, before })
    }
    // Then those who have something to keep, then the rest, each by name so that the order of the changes is nothing.
    const byName = [...wanted].sort(([a], [b]) => (a < b ? -1 : 1))
    const keeping = byName.filter(([, { before }]) => before !== undefined && before.given.size > 0)
    const others = byName.filter(([, { before }]) => before === undefined || before.given.size === 0)
    for (const [key, { service, before }] of [...keeping, ...others])
      services.set(key, this.#give(key, service, before))
    return { services, moved: [...displaced] }
  }

  #give(key: ObjectKey, service: Service, before: Entry | undefined): Service {
    const given = new Map<string, Claim>()
    const claim = (purpose: string, pool: NumberPool): number | undefined => {
      const old = before?.given.get(purpose)
      const number = old?.pool === pool && pool.isFree(old.number) ? old.number : pool.find(`${key} ${purpose}`)
      if (number === undefined) return undefined
      pool.hold(number)
      given.set(purpose, { pool, number })
      let owners = this.#given.get(pool)
      if (!owners) this.#given.set(pool, (owners = new Map()))
      owners.set(number, key)
      return number
    }
    const clusterIPs = this.#addressesFor(service, claim)
    const ports = this.#portsFor(service, claim)
    const healthCheckNodePort = this.#healthPortFor(service, claim)
    const asGiven = given.size === 0 && ports === service.ports
    const output = asGiven ? service : { ...service, clusterIPs, ports, healthCheckNodePort }
    const unchanged = before?.input === service && sameClaims(before.given, given)
    const result = unchanged ? before.output : output
    this.#entries.set(key, { input: service, output: result, given: given.size === 0 ? nothing : given })
    return result
  }

  #addressesFor(service: Service, claim: (purpose: string, pool: NumberPool) => number | undefined) {
    if (service.type === 'ExternalName' || service.headless || service.clusterIPs.length > 0) return service.clusterIPs
    const ips: IpAddress[] = []
    for (const family of requestedFamilies(service)) {
      const range = this.#addresses.get(family)
      const number = range && claim(`ip${family}`, range.pool)
      if (number !== undefined) ips.push(addressAt(range!.cidr, BigInt(number)))
    }
    return ips
  }

  #portsFor(service: Service, claim: (purpose: string, pool: NumberPool) => number | undefined) {
    const { type, ports } = service
    if (type !== 'NodePort' && type !== 'LoadBalancer') return ports
    const wants = type === 'NodePort' || service.allocateLoadBalancerNodePorts !== false
    const isAsItShould = ({ nodePort }: { nodePort: Port | undefined }): boolean =>
      nodePort === undefined ? !wants : this.#isNodePort(nodePort)
    if (ports.every(isAsItShould)) return ports
    return ports.map((port) => {
      // Out of the range as the API server has it: a node port of 22 would take the machine's ssh away.
      if (isAsItShould(port)) return port
      const number = wants ? claim(`port ${port.protocol} ${port.port}`, this.#ports) : undefined
      return { ...port, nodePort: number === undefined ? undefined : this.#port(number) }
    })
  }

  #healthPortFor(service: Service, claim: (purpose: string, pool: NumberPool) => number | undefined) {
    const wants = service.type === 'LoadBalancer' && service.externalTrafficPolicy === 'Local'
    if (!wants || service.healthCheckNodePort !== undefined) return service.healthCheckNodePort
    const number = claim('health check', this.#ports)
    return number === undefined ? undefined : this.#port(number)
  }

  #isNodePort(port: Port): boolean {
    return port >= this.#firstPort && port <= this.#lastPort
  }

  #port(number: number): Port {
    return parsePort(this.#firstPort + number)
  }

  #forget(key: ObjectKey, entry: Entry): void {
    for (const { pool, number } of this.#explicitClaims(entry.input)) pool.release(number)
    for (const { pool, number } of entry.given.values()) {
      pool.release(number)
      this.#given.get(pool)?.delete(number)
    }
    this.#entries.delete(key)
  }

  #explicitClaims(service: Service): Claim[] {
    const claims: Claim[] = []
    for (const ip of service.clusterIPs) {
      const range = this.#addresses.get(ipFamilyOf(ip))
      if (!range || !cidrContains(range.cidr, ip)) continue
      const number = Number(ipToBigInt(ip) - ipToBigInt(range.cidr.address))
      if (number < range.pool.size) claims.push({ pool: range.pool, number })
    }
    for (const port of [...service.ports.map((port) => port.nodePort), service.healthCheckNodePort]) {
      const number = port === undefined ? -1 : port - this.#firstPort
      if (number >= 0 && number < this.#ports.size) claims.push({ pool: this.#ports, number })
    }
    return claims
  }
}

/** What is still missing after an {@link Allocator}: why a Service has no address. Undefined when all is well. */
export function missingAllocation(service: Service): string | undefined {
  if (service.type === 'ExternalName' || service.headless) return undefined
  if (service.clusterIPs.length === 0)
    return `${objectKey(service)} has no cluster IP: none is free in the service networks`
  const noPort = service.ports.some((port) => port.nodePort === undefined)
  return service.type === 'NodePort' && noPort ? `${objectKey(service)} has no node port: none is free` : undefined
}

/** Which node ports an {@link Allocator} did not give as they were asked for. Undefined when all is well. */
export function refusedNodePorts(asked: Service, given: Service): string | undefined {
  const refused = asked.ports.flatMap(({ nodePort }, index) => {
    const instead = given.ports[index]?.nodePort
    if (nodePort === undefined || nodePort === instead) return []
    return [
      `spec.ports[${index}].nodePort: ${nodePort} is not in the range of node ports (${instead === undefined ? 'it has none' : `it has ${instead}`} instead)`,
    ]
  })
  return refused.length > 0 ? refused.join('; ') : undefined
}

/** All addresses but the network's own, its first, its last (IPv4: broadcast) and the reserved ones. */
function addressPool(cidr: Cidr, reserved: readonly IpAddress[]): NumberPool {
  const whole = cidrSize(cidr)
  const size = whole > BigInt(maxAddresses) ? maxAddresses : Number(whole)
  const base = ipToBigInt(networkOf(cidr).address)
  const excluded = new Set([0, 1])
  if (whole === BigInt(size)) excluded.add(size - 1)
  for (const ip of reserved) if (cidrContains(cidr, ip)) excluded.add(Number(ipToBigInt(ip) - base))
  return new NumberPool(size, { low: Math.min(Math.max(16, size >> 4), 256, size >> 1), excluded })
}

function sameClaims(a: ReadonlyMap<string, Claim>, b: ReadonlyMap<string, Claim>): boolean {
  if (a.size !== b.size) return false
  for (const [purpose, claim] of a) {
    const other = b.get(purpose)
    if (other?.pool !== claim.pool || other.number !== claim.number) return false
  }
  return true
}
