import { isAtOrBelow, type Name, type NameKey } from '../dns-message/name.ts'
import { reverseZoneOf } from '../dns-message/reverse-name.ts'
import { emptyAnswer, rcodes } from '../dns-message/record-set.ts'
import { type ClusterZone, notReady, type ZoneResult } from './cluster-zone.ts'

/** Which reverse names a cluster answers, as a Corefile says it. */
export interface ReverseScope {
  /** Names outside of these are somebody else's. */
  readonly zones: readonly Name[]
  /** Whether an address of `zones` that nobody here has may have a name elsewhere; false: NXDOMAIN. */
  readonly passesOn: (key: NameKey) => boolean
}

/** A cluster zone whose reverse names are those of a {@link ReverseScope}. */
export class ScopedZone implements Pick<ClusterZone, 'name' | 'answer'> {
  readonly #zone: ClusterZone
  readonly #scope: ReverseScope

  constructor(zone: ClusterZone, scope: ReverseScope) {
    this.#zone = zone
    this.#scope = scope
  }

  get name(): Name {
    return this.#zone.name
  }

  answer(name: Name, type: number): ZoneResult {
    if (!reverseZoneOf(name.key)) return this.#zone.answer(name, type)
    const own = this.#scope.zones.find((zone) => isAtOrBelow(name.key, zone.key))
    if (!own) return { kind: 'foreign' }
    const result = this.#zone.answer(name, type)
    if (result.kind !== 'foreign' || this.#scope.passesOn(name.key)) return result
    if (!this.#zone.synced) return { kind: 'answer', answer: notReady }
    const { authority } = this.#zone.denial
    const soa = authority.map((set) => ({ ...set, owner: own }))
    const answer = { ...emptyAnswer(rcodes.NXDOMAIN), authoritative: true, authority: soa, from: 'kubernetes' }
    return { kind: 'answer', answer }
  }
}
