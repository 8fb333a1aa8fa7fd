/** Record types by name (IANA "DNS Parameters"), as far as cases may name them; others are `TYPE65534`. */
export const typeNumbers: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  NULL: 10,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  RP: 17,
  AAAA: 28,
  LOC: 29,
  SRV: 33,
  NAPTR: 35,
  CERT: 37,
  DNAME: 39,
  OPT: 41,
  DS: 43,
  SSHFP: 44,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  NSEC3: 50,
  NSEC3PARAM: 51,
  TLSA: 52,
  CDS: 59,
  CDNSKEY: 60,
  SVCB: 64,
  HTTPS: 65,
  SPF: 99,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  MAILB: 253,
  MAILA: 254,
  ANY: 255,
  URI: 256,
  CAA: 257,
}

export const classNumbers: Readonly<Record<string, number>> = { IN: 1, CH: 3, HS: 4, NONE: 254, ANY: 255 }

/** Response codes by name, extended ones included (RFC 6891 section 9, RFC 7873 section 8). */
export const rcodeNumbers: Readonly<Record<string, number>> = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  YXDOMAIN: 6,
  YXRRSET: 7,
  NXRRSET: 8,
  NOTAUTH: 9,
  NOTZONE: 10,
  BADVERS: 16,
  BADCOOKIE: 23,
}

/** The number of `A`, or of `TYPE65` with the prefix `TYPE`; undefined when it is neither. */
export function numberOf(name: string, table: Readonly<Record<string, number>>, prefix: string): number | undefined {
  const known = table[name.toUpperCase()]
  if (known !== undefined) return known
  const digits = name.toUpperCase().startsWith(prefix) ? name.slice(prefix.length) : ''
  return /^\d{1,5}$/.test(digits) && Number(digits) <= 0xffff ? Number(digits) : undefined
}

/** The reverse of {@link numberOf}. */
export function nameOf(number: number, table: Readonly<Record<string, number>>, prefix: string): string {
  return Object.entries(table).find(([, value]) => value === number)?.[0] ?? `${prefix}${number}`
}
