import type { ObjectKey } from '../model/object-key.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { type NameKey, parentKey } from '../dns-message/name.ts'
import { reverseKey, reverseZones } from '../dns-message/reverse-name.ts'

interface Claim {
  readonly service: ObjectKey
  /** A cluster IP belongs to the Service alone; an endpoint's address may have names of several Services. */
  readonly kind: 'clusterIP' | 'endpoint'
}

/** The addresses that a Service names. */
export interface ClaimedAddresses {
  readonly clusterIPs: readonly IpAddress[]
  readonly endpoints: readonly IpAddress[]
}

/** Which Services name an address. Nothing that is claimed by nobody is kept. */
export class ReverseIndex {
  readonly #claims = new Map<NameKey, readonly Claim[]>()
  /** How many claimed addresses lie below a shorter name. */
  readonly #below = new Map<NameKey, number>()

  add(service: ObjectKey, { clusterIPs, endpoints }: ClaimedAddresses): void {
    for (const address of clusterIPs) this.#add(reverseKey(address), { service, kind: 'clusterIP' })
    for (const address of endpoints) this.#add(reverseKey(address), { service, kind: 'endpoint' })
  }

  remove(service: ObjectKey, { clusterIPs, endpoints }: ClaimedAddresses): void {
    for (const address of [...clusterIPs, ...endpoints]) this.#remove(reverseKey(address), service)
  }

  /** The Services that name an address; of a cluster IP only the one whose it is. Empty when unknown. */
  services(key: NameKey): ObjectKey[] {
    const claims = this.#claims.get(key) ?? []
    const clusterIp = claims.find((claim) => claim.kind === 'clusterIP')
    return (clusterIp ? [clusterIp] : claims).map((claim) => claim.service)
  }

  /** Whether names are known below a name that has none itself (RFC 8020). */
  hasBelow(key: NameKey): boolean {
    return this.#below.has(key)
  }

  #add(key: NameKey, claim: Claim): void {
    const claims = this.#claims.get(key)
    if (!claims) this.#countAncestors(key, 1)
    this.#claims.set(key, claims ? [...claims, claim] : [claim])
  }

  #remove(key: NameKey, service: ObjectKey): void {
    const claims = this.#claims.get(key)
    if (!claims) return
    const left = claims.filter((claim) => claim.service !== service)
    if (left.length > 0) this.#claims.set(key, left)
    else {
      this.#claims.delete(key)
      this.#countAncestors(key, -1)
    }
  }

  #countAncestors(key: NameKey, change: 1 | -1): void {
    for (let up = parentKey(key); up !== undefined && !isReverseZone(up); up = parentKey(up)) {
      const count = (this.#below.get(up) ?? 0) + change
      if (count > 0) this.#below.set(up, count)
      else this.#below.delete(up)
    }
  }
}

function isReverseZone(key: NameKey): boolean {
  return reverseZones.some((zone) => zone.key === key)
}
