import { type IpAddress, ipFamilyOf, ipToBytes } from '../net/ip-address.ts'
import type { Name } from './name.ts'

/** Record types by number (IANA "DNS Parameters"): those that this server makes, or treats apart from the others. */
export const recordTypes = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  RRSIG: 46,
  HTTPS: 65,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  MAILB: 253,
  MAILA: 254,
  ANY: 255,
} as const

/** Classes by number (RFC 1035 section 3.2.4). */
export const recordClasses = { IN: 1, CH: 3, ANY: 255 } as const

/** Response codes by name (RFC 1035 section 4.1.1, RFC 6891 section 9). */
export const rcodes = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const

/** The records of one owner, type and class: what RFC 2181 section 5 calls an RRset, the unit that is kept or dropped whole. */
export interface RecordSet {
  readonly owner: Name
  readonly type: number
  readonly class: number
  readonly ttl: number
  /** One entry per record. */
  readonly rdata: readonly Rdata[]
}

/** Pieces of RDATA in order. A {@link Name} may be compressed when written; names that must not be are given as bytes. */
export type Rdata = readonly (Uint8Array | Name)[]

/** What a response says, without the parts that belong to one transaction (id, question, EDNS). */
export interface Answer {
  readonly rcode: number
  readonly authoritative: boolean
  /** RFC 4035 section 3.2.3; only ever copied from an upstream. */
  readonly authenticData: boolean
  readonly answer: readonly RecordSet[]
  readonly authority: readonly RecordSet[]
  readonly additional: readonly RecordSet[]
  /** Why it is so, for people (RFC 8914); told to clients that speak EDNS. */
  readonly extendedError?: ExtendedError
  /** Who says so, for those who count answers; never sent. */
  readonly from?: string
  /** Which other server said it first; never sent. */
  readonly via?: string
  /** Seconds that it was remembered; never sent. */
  readonly age?: number
}

export interface ExtendedError {
  /** One of {@link extendedErrors}. */
  readonly code: number
  readonly text: string
}

/** Codes of RFC 8914 section 4 (IANA "Extended DNS Error Codes"). */
export const extendedErrors = {
  OTHER: 0,
  STALE_ANSWER: 3,
  NOT_READY: 14,
  PROHIBITED: 18,
  STALE_NXDOMAIN_ANSWER: 19,
  NOT_SUPPORTED: 21,
  NO_REACHABLE_AUTHORITY: 22,
} as const

/** An answer without any record. */
export function emptyAnswer(rcode: number, extendedError?: ExtendedError): Answer {
  const empty = { rcode, authoritative: false, authenticData: false, answer: [], authority: [], additional: [] }
  return extendedError ? { ...empty, extendedError } : empty
}

export interface RecordOptions {
  readonly owner: Name
  readonly ttl: number
}

/** The A set and the AAAA set of some addresses; a family without an address has no set. */
export function addressSets(addresses: readonly IpAddress[], { owner, ttl }: RecordOptions): RecordSet[] {
  const sets: RecordSet[] = []
  for (const family of [4, 6] as const) {
    const rdata = addresses.filter((ip) => ipFamilyOf(ip) === family).map((ip): Rdata => [ipToBytes(ip)])
    const type = family === 4 ? recordTypes.A : recordTypes.AAAA
    if (rdata.length > 0) sets.push({ owner, type, class: recordClasses.IN, ttl, rdata })
  }
  return sets
}

export interface SrvTarget {
  readonly priority: number
  readonly weight: number
  readonly port: number
  readonly target: Name
}

/** RFC 2782, which forbids to compress the target. */
export function srvSet(targets: readonly SrvTarget[], { owner, ttl }: RecordOptions): RecordSet {
  const rdata = targets.map(({ priority, weight, port, target }): Rdata => {
    const fixed = Buffer.allocUnsafe(6)
    fixed.writeUInt16BE(priority, 0)
    fixed.writeUInt16BE(weight, 2)
    fixed.writeUInt16BE(port, 4)
    return [fixed, target.wire]
  })
  return { owner, type: recordTypes.SRV, class: recordClasses.IN, ttl, rdata }
}

/** A set whose records are one name each: CNAME, NS or PTR. */
export function nameSet(
  type: typeof recordTypes.CNAME | typeof recordTypes.NS | typeof recordTypes.PTR,
  targets: readonly Name[],
  { owner, ttl }: RecordOptions,
): RecordSet {
  return { owner, type, class: recordClasses.IN, ttl, rdata: targets.map((target): Rdata => [target]) }
}

/** A set of one record that is a list of character-strings of at most 255 octets (RFC 1035 section 3.3): TXT or HINFO. */
export function textSet(
  type: typeof recordTypes.TXT | typeof recordTypes.HINFO,
  strings: readonly string[],
  { owner, ttl, class: recordClass = recordClasses.IN }: RecordOptions & { readonly class?: number },
): RecordSet {
  const parts = strings.map((text) => {
    const bytes = Buffer.from(text, 'utf8').subarray(0, 255)
    return Buffer.concat([Uint8Array.of(bytes.length), bytes])
  })
  return { owner, type, class: recordClass, ttl, rdata: [[Buffer.concat(parts)]] }
}

export interface SoaFields extends RecordOptions {
  readonly primary: Name
  readonly mailbox: Name
  readonly serial: number
  readonly refresh: number
  readonly retry: number
  readonly expire: number
  readonly minimum: number
}

/** RFC 1035 section 3.3.13. */
export function soaSet(fields: SoaFields): RecordSet {
  const numbers = Buffer.allocUnsafe(20)
  const { serial, refresh, retry, expire, minimum } = fields
  for (const [i, value] of [serial, refresh, retry, expire, minimum].entries())
    numbers.writeUInt32BE(value >>> 0, i * 4)
  return {
    owner: fields.owner,
    type: recordTypes.SOA,
    class: recordClasses.IN,
    ttl: fields.ttl,
    rdata: [[fields.primary, fields.mailbox, numbers]],
  }
}
