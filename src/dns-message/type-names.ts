import { ParseError } from '../net/parse-error.ts'

/** Record types by name (IANA "DNS Parameters") that people ask for; others are written `TYPE65534` (RFC 3597). */
const typeNumbers: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  RP: 17,
  AAAA: 28,
  LOC: 29,
  SRV: 33,
  NAPTR: 35,
  DNAME: 39,
  DS: 43,
  SSHFP: 44,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  NSEC3: 50,
  TLSA: 52,
  SVCB: 64,
  HTTPS: 65,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
  URI: 256,
  CAA: 257,
}

const typeNames: ReadonlyMap<number, string> = new Map(
  Object.entries(typeNumbers).map(([name, number]) => [number, name]),
)

/** `AAAA`, or `TYPE65534` for a type without a name here. */
export function typeName(type: number): string {
  return typeNames.get(type) ?? `TYPE${type}`
}

/** The number of a type by its name, in any case, or of `TYPE65534`. Throws {@link ParseError}. */
export function parseType(text: string): number {
  const name = text.toUpperCase()
  const number = typeNumbers[name] ?? Number(/^TYPE(\d{1,5})$/.exec(name)?.[1] ?? Number.NaN)
  if (Number.isInteger(number) && number <= 65_535) return number
  throw new ParseError(`"${text}" is not a record type (expected like A, AAAA, SRV, PTR or TYPE65)`)
}
