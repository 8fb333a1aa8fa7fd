import { isIP } from 'node:net'
import { isAtOrBelow, type Name, nameText } from '../dns-message/name.ts'
import { rcodes } from '../dns-message/record-set.ts'
import { typeName } from '../dns-message/type-names.ts'
import { addressCidr, type Cidr, cidrContains, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { rcodeName } from './dns-counts.ts'
import type { SeenQuery } from './seen-query.ts'

/** Which queries are logged: those that fit in all that is given. */
export interface QueryFilter {
  readonly clients?: readonly Cidr[]
  /** Names at or below one of these. */
  readonly names?: readonly Name[]
  readonly rcodes?: ReadonlySet<number>
  readonly types?: ReadonlySet<number>
  /** CoreDNS's classes of answers: of what exists, of what does not, and failures. */
  readonly classes?: ReadonlySet<'all' | 'success' | 'denial' | 'error'>
}

/** A line of the log. */
export interface LoggedQuery {
  readonly client: string
  readonly name: string
  readonly type: string
  readonly rcode: string
  /** Who answered: one of `answerers` (dns-counts.ts). */
  readonly by: string
  readonly proto: 'udp' | 'tcp'
  readonly ms: number
  /** It stands for so many. */
  readonly oneIn?: number
}

export interface QueryLogOptions extends QueryFilter {
  readonly write: (line: LoggedQuery) => void
  /** Of so many queries that fit, one is logged; default 1. */
  readonly oneIn?: number
}

/** Writes a line per query. */
export class QueryLog {
  readonly #options: QueryLogOptions
  #left = 0

  constructor(options: QueryLogOptions) {
    this.#options = options
  }

  seen(query: SeenQuery): void {
    const { write, oneIn = 1 } = this.#options
    if (!fits(query, this.#options) || --this.#left > 0) return
    this.#left = oneIn
    const { client, name, type, rcode, from, tcp, seconds } = query
    write({
      client,
      name: nameText(name),
      type: typeName(type),
      rcode: rcodeName(rcode),
      by: from,
      proto: tcp ? 'tcp' : 'udp',
      ms: Math.round(seconds * 1e6) / 1000,
      ...(oneIn > 1 && { oneIn }),
    })
  }
}

function fits({ client, name, type, rcode }: SeenQuery, filter: QueryFilter): boolean {
  const { clients, names, types, classes } = filter
  if (types && !types.has(type)) return false
  if (filter.rcodes && !filter.rcodes.has(rcode)) return false
  if (classes && !classes.has('all') && !classes.has(classOf(rcode))) return false
  if (names && !names.some((zone) => isAtOrBelow(name.key, zone.key))) return false
  if (!clients) return true
  const [plain = ''] = client.split('%')
  return isIP(plain) !== 0 && clients.some((range) => cidrContains(range, parseIp(plain)))
}

/** Only what restricts: an empty list means all. */
export function readQueryFilter(given: {
  readonly clients: readonly Cidr[]
  readonly names: readonly Name[]
  readonly types: readonly number[]
  readonly rcodes: readonly number[]
}): QueryFilter {
  const { clients, names, types, rcodes } = given
  return {
    ...(clients.length > 0 && { clients }),
    ...(names.length > 0 && { names }),
    ...(types.length > 0 && { types: new Set(types) }),
    ...(rcodes.length > 0 && { rcodes: new Set(rcodes) }),
  }
}

/** `10.0.0.0/8`, or one address. Throws {@link ParseError}. */
export function parseClients(text: string): Cidr {
  return text.includes('/') ? parseCidr(text) : addressCidr(parseIp(text))
}

/** `NXDOMAIN`, in any case. Throws {@link ParseError}. */
export function parseRcode(text: string): number {
  const code = new Map(Object.entries(rcodes)).get(text.toUpperCase())
  if (code !== undefined) return code
  throw new ParseError(`"${text}" is not a response code (expected one of ${Object.keys(rcodes).join(', ')})`)
}

/** NODATA counts as a success here: what was sampled says nothing about records. */
function classOf(rcode: number): 'success' | 'denial' | 'error' {
  if (rcode === rcodes.NOERROR) return 'success'
  return rcode === rcodes.NXDOMAIN ? 'denial' : 'error'
}
