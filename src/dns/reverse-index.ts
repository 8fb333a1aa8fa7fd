import type { ObjectKey } from '../model/object-key.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { type NameKey, parentKey } from '../dns-message/name.ts'
import { reverseAddress, reverseKey, reverseZones } from '../dns-message/reverse-name.ts'

/** The addresses that a Service names. */
export interface ClaimedAddresses {
  readonly clusterIPs: readonly IpAddress[]
  readonly endpoints: readonly IpAddress[]
}

/** Nearly all addresses have one Service: then there is no array. The strings are those of the snapshot, so an address costs a place in a map. */
type Claims = Map<IpAddress, ObjectKey | readonly ObjectKey[]>

/** Which Services name an address. Nothing that is claimed by nobody is kept. */
export class ReverseIndex {
  /** A cluster IP belongs to the Service alone; an endpoint's address may have names of several Services. */
  readonly #clusterIPs: Claims = new Map()
  readonly #endpoints: Claims = new Map()
  /** How many claims lie below a name, which has none itself. */
  readonly #below = new Map<NameKey, number>()

  add(service: ObjectKey, { clusterIPs, endpoints }: ClaimedAddresses): void {
    for (const address of clusterIPs) this.#add(this.#clusterIPs, address, service)
    for (const address of endpoints) this.#add(this.#endpoints, address, service)
  }

  /** Takes back what was added with the same addresses. */
  remove(service: ObjectKey, { clusterIPs, endpoints }: ClaimedAddresses): void {
    for (const address of clusterIPs) this.#remove(this.#clusterIPs, address, service)
    for (const address of endpoints) this.#remove(this.#endpoints, address, service)
  }

  /** The Services that name an address; of a cluster IP only the one whose it is. Empty when unknown. */
  services(key: NameKey): readonly ObjectKey[] {
    const address = reverseAddress(key)
    if (address === undefined) return []
    const [owner] = listOf(this.#clusterIPs.get(address))
    return owner === undefined ? listOf(this.#endpoints.get(address)) : [owner]
  }

  /** Whether names are known below a name that has none itself (RFC 8020). */
  hasBelow(key: NameKey): boolean {
    return this.#below.has(key)
  }

  #add(claims: Claims, address: IpAddress, service: ObjectKey): void {
    const known = listOf(claims.get(address))
    if (known.includes(service)) return
    claims.set(address, known.length === 0 ? service : [...known, service])
    this.#countAncestors(address, 1)
  }

  #remove(claims: Claims, address: IpAddress, service: ObjectKey): void {
    const known = listOf(claims.get(address))
    if (!known.includes(service)) return
    const left = known.filter((other) => other !== service)
    const [first] = left
    if (first === undefined) claims.delete(address)
    else claims.set(address, left.length === 1 ? first : left)
    this.#countAncestors(address, -1)
  }

  #countAncestors(address: IpAddress, change: 1 | -1): void {
    for (let up = parentKey(reverseKey(address)); up !== undefined && !isReverseZone(up); up = parentKey(up)) {
      const count = (this.#below.get(up) ?? 0) + change
      if (count > 0) this.#below.set(up, count)
      else this.#below.delete(up)
    }
  }
}

function listOf(claim: ObjectKey | readonly ObjectKey[] | undefined): readonly ObjectKey[] {
  if (claim === undefined) return []
  return typeof claim === 'string' ? [claim] : claim
}

function isReverseZone(key: NameKey): boolean {
  return reverseZones.some((zone) => zone.key === key)
}
