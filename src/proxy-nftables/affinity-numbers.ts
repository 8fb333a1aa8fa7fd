import { memberName } from '../proxy/affinity-members.ts'
import type { ServiceFrontends, Affinity, Frontend } from '../proxy/frontends.ts'
import { maxGroups, maxMembers } from './nftables-numbers.ts'
import type { ServiceEndpoint } from '../proxy/select-endpoints.ts'

interface Group {
  readonly number: number
  /** By what is remembered of the endpoint. */
  readonly members: Map<string, number>
  /** The last one given, so that a number is not used again soon: clients may be remembered with it. */
  last: number
}

/**
 * Numbers for groups of session affinity, and for the endpoints in each. The kernel remembers clients by them, so an endpoint
 * keeps its number as long as it is one, wherever its slot is, and a restarted daemon learns them from the kernel.
 */
export class AffinityNumbers {
  readonly #groups = new Map<string, Group>()
  readonly #taken = new Set<number>()
  #last = -1

  /** The group's number; undefined when it was never claimed, or there were too many. */
  groupNumber(affinity: Affinity): number | undefined {
    return this.#groups.get(affinity.group)?.number
  }

  /** The endpoint's number in the group, from 1. */
  memberNumber(affinity: Affinity, endpoint: ServiceEndpoint): number | undefined {
    return this.#groups.get(affinity.group)?.members.get(memberName(affinity, endpoint))
  }

  /** Gives numbers to what has none. Those that exist stay. */
  claim(service: ServiceFrontends): void {
    for (const { affinity, endpoints } of affineFrontends(service)) {
      const group = this.#groups.get(affinity.group) ?? this.#newGroup(affinity.group)
      if (!group) continue
      for (const endpoint of endpoints) {
        const name = memberName(affinity, endpoint)
        if (group.members.has(name) || group.members.size === maxMembers) continue
        group.last = nextFree(group.last, { first: 1, count: maxMembers, taken: new Set(group.members.values()) })
        group.members.set(name, group.last)
      }
    }
  }

  /** What the kernel holds. Ignored where it contradicts what is known. */
  adopt(affinity: Affinity, found: { readonly group: number; readonly members: readonly FoundMember[] }): void {
    let group = this.#groups.get(affinity.group)
    if (!group) {
      if (this.#taken.has(found.group)) return
      group = { number: found.group, members: new Map(), last: 0 }
      this.#groups.set(affinity.group, group)
      this.#taken.add(found.group)
    }
    if (group.number !== found.group) return
    const taken = new Set(group.members.values())
    for (const { endpoint, number } of found.members) {
      const name = memberName(affinity, endpoint)
      if (group.members.has(name) || taken.has(number)) continue
      group.members.set(name, number)
      taken.add(number)
      group.last = Math.max(group.last, number)
    }
  }

  /** Frees what the Service needed before a change and no longer needs after it. */
  release(before: ServiceFrontends | undefined, after: ServiceFrontends | undefined): void {
    const needed = neededBy(after ? [after] : [])
    for (const name of neededBy(before ? [before] : []).keys()) this.#keepIn(name, needed.get(name))
  }

  /** Frees what none of these needs. */
  releaseAllBut(services: Iterable<ServiceFrontends>): void {
    const needed = neededBy(services)
    for (const name of this.#groups.keys()) this.#keepIn(name, needed.get(name))
  }

  #keepIn(name: string, members: ReadonlySet<string> | undefined): void {
    const group = this.#groups.get(name)
    if (!group) return
    if (!members) {
      this.#groups.delete(name)
      this.#taken.delete(group.number)
      return
    }
    for (const member of group.members.keys()) if (!members.has(member)) group.members.delete(member)
  }

  #newGroup(name: string): Group | undefined {
    if (this.#taken.size === maxGroups) return undefined
    this.#last = nextFree(this.#last, { first: 0, count: maxGroups, taken: this.#taken })
    const group = { number: this.#last, members: new Map<string, number>(), last: 0 }
    this.#taken.add(group.number)
    this.#groups.set(name, group)
    return group
  }
}

/** An endpoint, and its number in the kernel. */
export interface FoundMember {
  readonly endpoint: ServiceEndpoint
  readonly number: number
}

/** The views of a frontend with session affinity. */
export function* affineFrontends(
  service: ServiceFrontends,
): Generator<{ frontend: Frontend; affinity: Affinity; endpoints: readonly ServiceEndpoint[] }> {
  for (const frontend of service.frontends) {
    const { affinity } = frontend
    if (!affinity) continue
    for (const verdict of [frontend.verdict, frontend.outside]) {
      if (verdict?.kind === 'balance') yield { frontend, affinity, endpoints: verdict.slots }
    }
  }
}

function neededBy(services: Iterable<ServiceFrontends>): ReadonlyMap<string, ReadonlySet<string>> {
  const needed = new Map<string, Set<string>>()
  for (const service of services) {
    for (const { affinity, endpoints } of affineFrontends(service)) {
      let members = needed.get(affinity.group)
      if (!members) needed.set(affinity.group, (members = new Set()))
      for (const endpoint of endpoints) members.add(memberName(affinity, endpoint))
    }
  }
  return needed
}

/** The next free number after `last`, round and round. There must be one. */
function nextFree(
  last: number,
  { first, count, taken }: { first: number; count: number; taken: ReadonlySet<number> },
): number {
  let number = last
  do number = number + 1 < first + count ? number + 1 : first
  while (taken.has(number))
  return number
}
