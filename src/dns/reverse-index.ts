import type { ObjectKey } from '../model/object-key.ts'
import type { Pointer } from './compile-service.ts'
import { type Name, type NameKey, parentKey } from './name.ts'
import { reverseKey, reverseZones } from './reverse-name.ts'

interface Claim {
  readonly service: ObjectKey
  readonly target: Name
  readonly kind: Pointer['kind']
}

/** Which names addresses have. Several Services may claim one address; nothing that is claimed by nobody is kept. */
export class ReverseIndex {
  readonly #claims = new Map<NameKey, readonly Claim[]>()
  /** How many claimed addresses lie below a shorter name. */
  readonly #below = new Map<NameKey, number>()

  add(service: ObjectKey, pointers: readonly Pointer[]): void {
    for (const { address, target, kind } of pointers) {
      const key = reverseKey(address)
      const claims = this.#claims.get(key)
      if (!claims) this.#countAncestors(key, 1)
      this.#claims.set(key, [...(claims ?? []), { service, target, kind }])
    }
  }

  remove(service: ObjectKey, pointers: readonly Pointer[]): void {
    for (const { address } of pointers) {
      const key = reverseKey(address)
      const claims = this.#claims.get(key)
      if (!claims) continue
      const left = claims.filter((claim) => claim.service !== service)
      if (left.length > 0) this.#claims.set(key, left)
      else {
        this.#claims.delete(key)
        this.#countAncestors(key, -1)
      }
    }
  }

  /** The names of an address: of a cluster IP the one Service, else one per Service and endpoint name. Empty when unknown. */
  targets(key: NameKey): Name[] {
    const claims = this.#claims.get(key) ?? []
    const clusterIp = claims.find((claim) => claim.kind === 'clusterIP')
    if (clusterIp) return [clusterIp.target]
    return [...new Map(claims.map(({ target }) => [target.key, target])).values()]
  }

  /** Whether names are known below a name that has none itself (RFC 8020). */
  hasBelow(key: NameKey): boolean {
    return this.#below.has(key)
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
