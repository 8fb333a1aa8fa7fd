import { MessageError } from './message-error.ts'
import { type Name, readName } from './name.ts'
import { rcodes, recordTypes } from './record-set.ts'

/** A request that can be answered: exactly one question, opcode QUERY. */
export interface Query {
  readonly id: number
  readonly recursionDesired: boolean
  /** RFC 4035 section 3.2.2; copied into the response and upstream. */
  readonly checkingDisabled: boolean
  /** RFC 6840 section 5.7: the client understands AD. */
  readonly authenticData: boolean
  readonly question: Question
  /** Undefined when the request has no OPT record; then the response has none either. */
  readonly edns: Edns | undefined
}

export interface Question {
  /** Case as asked. */
  readonly name: Name
  readonly type: number
  readonly class: number
}

export interface Edns {
  /** What the client can take over UDP, as it said. */
  readonly udpSize: number
  readonly version: number
  readonly dnssecOk: boolean
  /** RFC 7873: the eight octets that the client knows its own requests by. A server part that it may have is not kept. */
  readonly clientCookie?: Uint8Array | undefined
}

/**
 * What a received message is: a query; something to be answered with only a header and an error; or something that must
 * not be answered at all.
 */
export type ParsedRequest =
  | { readonly kind: 'query'; readonly query: Query }
  /** RFC 7873 section 5.4: no question, only a cookie to be had. */
  | { readonly kind: 'cookie'; readonly id: number; readonly flags: number; readonly edns: Edns }
  | { readonly kind: 'error'; readonly id: number; readonly flags: number; readonly rcode: number }
  | { readonly kind: 'drop' }

/** Octets of a message header (RFC 1035 section 4.1.1). */
export const headerSize = 12

/** Header bits of the second 16-bit word. */
export const flagBits = {
  qr: 0x8000,
  opcode: 0x7800,
  aa: 0x0400,
  tc: 0x0200,
  rd: 0x0100,
  ra: 0x0080,
  ad: 0x0020,
  cd: 0x0010,
} as const

/** Reads a request. Never throws. Octets after the last record are ignored. */
export function parseRequest(message: Uint8Array): ParsedRequest {
  if (message.length < headerSize) return { kind: 'drop' }
  const id = read16(message, 0)
  const flags = read16(message, 2)
  // A response. To answer it would let two servers talk to each other for ever.
  if (flags & flagBits.qr) return { kind: 'drop' }
  if (flags & flagBits.opcode) return { kind: 'error', id, flags, rcode: rcodes.NOTIMP }
  try {
    if (read16(message, 4) === 0) {
      const edns = readEdns(message, headerSize)
      if (edns?.clientCookie) return { kind: 'cookie', id, flags, edns }
    }
    // RFC 9619: a query has one question.
    if (read16(message, 4) !== 1) throw new MessageError('QDCOUNT is not 1', 4)
    const { question, end } = readQuestion(message)
    if (question.type === recordTypes.OPT || question.type === recordTypes.TSIG)
      throw new MessageError(`type ${question.type} cannot be asked for`, end)
    const query: Query = {
      id,
      recursionDesired: (flags & flagBits.rd) !== 0,
      checkingDisabled: (flags & flagBits.cd) !== 0,
      authenticData: (flags & flagBits.ad) !== 0,
      question,
      edns: readEdns(message, end),
    }
    return { kind: 'query', query }
  } catch (error) {
    if (error instanceof MessageError) return { kind: 'error', id, flags, rcode: rcodes.FORMERR }
    throw error
  }
}

/** Reads the one question after the header. Throws {@link MessageError}. */
export function readQuestion(message: Uint8Array): { question: Question; end: number } {
  const { name, end } = readName(message, headerSize)
  if (end + 4 > message.length) throw new MessageError('question runs past the end of the message', end)
  return { question: { name, type: read16(message, end), class: read16(message, end + 2) }, end: end + 4 }
}

/** Walks all records for the OPT record: at most one, of the root, in the additional section (RFC 6891 section 6.1.1). */
function readEdns(message: Uint8Array, start: number): Edns | undefined {
  let edns: Edns | undefined
  const beforeAdditional = read16(message, 6) + read16(message, 8)
  const count = beforeAdditional + read16(message, 10)
  for (let i = 0, at = start; i < count; i++) {
    const { name, end } = readName(message, at)
    if (end + 10 > message.length) throw new MessageError('record runs past the end of the message', end)
    const rdata = end + 10
    at = rdata + read16(message, end + 8)
    if (at > message.length) throw new MessageError('RDATA runs past the end of the message', rdata)
    if (read16(message, end) !== recordTypes.OPT) continue
    if (edns) throw new MessageError('second OPT record', end)
    if (i < beforeAdditional || name.wire.length !== 1) throw new MessageError('OPT record in a wrong place', end)
    const options = readOptions(message, rdata, at)
    edns = {
      clientCookie: options.get(ednsOptions.COOKIE)?.slice(0, clientCookieSize),
      udpSize: read16(message, end + 2),
      version: message[end + 5] ?? 0,
      dnssecOk: (read16(message, end + 6) & 0x8000) !== 0,
    }
  }
  return edns
}

/** EDNS options by name (IANA "DNS EDNS0 Option Codes"): those that this server knows. */
export const ednsOptions = { COOKIE: 10, EXTENDED_ERROR: 15 } as const

const clientCookieSize = 8

/** The options by code, the first of each. Unknown ones are ignored (RFC 6891 section 6.1.2), but their lengths must add up. */
function readOptions(message: Uint8Array, start: number, end: number): ReadonlyMap<number, Uint8Array> {
  const options = new Map<number, Uint8Array>()
  for (let at = start; at < end;) {
    const next = at + 4 + read16(message, at + 2)
    if (at + 4 > end || next > end) throw new MessageError('EDNS option runs past its record', at)
    const code = read16(message, at)
    const value = message.subarray(at + 4, next)
    if (code === ednsOptions.COOKIE && !isCookieSize(value.length))
      throw new MessageError(`cookie has ${value.length} octets`, at)
    if (!options.has(code)) options.set(code, value)
    at = next
  }
  return options
}

/** RFC 7873 section 5.2.2: eight octets of the client, and none or 8 to 32 of a server. Anything else is FORMERR. */
function isCookieSize(size: number): boolean {
  return size === clientCookieSize || (size >= 16 && size <= 40)
}

/** Two octets in network byte order; 0 beyond the end. */
export function read16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}
