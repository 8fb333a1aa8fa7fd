import type { IpAddress } from '../net/ip-address.ts'
import { parseIp } from '../net/ip-address.ts'
import { isIP } from 'node:net'
import { labelsOfKey, type Name } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import { addressSets, type Answer, emptyAnswer, rcodes, recordTypes } from '../dns-message/record-set.ts'

/** Names of one label that only some clients know: those of the pods that they share a network with. */
export interface NetworkNames {
  /** What a client may ask for; undefined when the address is no pod's. */
  seenFrom(client: IpAddress): PodNeighbours | undefined
}

/** The pods of one client's networks. */
export interface PodNeighbours {
  /** Addresses of the pods with this name or alias (in lower case); empty when there is none. */
  addressesOf(label: string): readonly IpAddress[]
}

/** Pods may come back at another address at any moment, and the next question costs them a fifth of a millisecond. */
const ttl = 0

/**
 * What is said about an unknown name of one label: nothing else. Other types (NS, DS, DNSKEY, SOA ...) are asked about
 * top-level domains by resolvers that run in pods, and go upstream.
 */
const deniedTypes: ReadonlySet<number> = new Set([recordTypes.A, recordTypes.AAAA, recordTypes.HTTPS, recordTypes.ANY])

/**
 * Answers a question about a name of one label that came from a pod; undefined when it is not such a question. `client` is
 * an address as a socket gives it, which may have a zone (`fe80::1%eth0`).
 */
export function answerNetworkName(question: Question, client: string, names: NetworkNames): Answer | undefined {
  const label = onlyLabel(question.name)
  if (label === undefined || isIP(client) === 0 || client.includes('%')) return undefined
  const neighbours = names.seenFrom(parseIp(client))
  if (!neighbours) return undefined
  const { name, type } = question
  const addresses = neighbours.addressesOf(label)
  if (addresses.length === 0) return deniedTypes.has(type) ? denial(rcodes.NXDOMAIN) : undefined
  const sets = addressSets(addresses, { owner: name, ttl })
  return {
    ...denial(rcodes.NOERROR),
    answer: type === recordTypes.ANY ? sets : sets.filter((set) => set.type === type),
  }
}

/** Without an SOA, so that nobody may remember it (RFC 2308 section 5): a pod of this name may come next. */
function denial(rcode: number): Answer {
  return { ...emptyAnswer(rcode), authoritative: true, from: 'pods' }
}

/** The label in lower case of a name that has just one. */
function onlyLabel({ wire, key }: Name): string | undefined {
  const length = wire[0] ?? 0
  return length > 0 && wire.length === length + 2 ? labelsOfKey(key)[0] : undefined
}
