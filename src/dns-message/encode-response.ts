import { MessageWriter } from './message-writer.ts'
import { type Edns, ednsOptions, flagBits, headerSize, type Query } from './query.ts'
import { type Answer, type ExtendedError, rcodes, type RecordSet, recordTypes } from './record-set.ts'

/**
 * The size of UDP messages that we offer and never exceed: DNS flag day 2020, RFC 9715. Larger ones are fragmented on
 * many paths, and fragments are lost or forged.
 */
export const ownUdpSize = 1232
/** RFC 1035 section 4.2.1: without EDNS, or with an EDNS size below it. */
const classicUdpSize = 512
const maxTcpSize = 65_535
/** Root owner, type, class, TTL and RDLENGTH of an OPT record without options. */
const optSize = 11

export interface EncodeOptions {
  readonly transport: 'udp' | 'tcp'
  /** Whether names that are not ours are looked up for clients. */
  readonly recursionAvailable: boolean
  /** Start of each record set; counted up from response to response, clients spread over the records. */
  readonly rotation: number
  /** RFC 7873: our part of the cookie for this client; undefined when it sent none. */
  readonly serverCookie?: Uint8Array | undefined
}

/**
 * The response to `query` that says `answer`, names compressed, in a buffer of its own. What does not fit is left out
 * in whole record sets: with TC when it is missing from the answer or authority section (RFC 2181 section 9), silently
 * when from the additional section.
 */
export function encodeResponse(query: Query, answer: Answer, options: EncodeOptions): Buffer {
  const limit = options.transport === 'tcp' ? maxTcpSize : udpLimit(query.edns)
  const ednsData = query.edns
    ? encodeEdnsOptions(query.edns, { ...options, extendedError: answer.extendedError })
    : noData
  const reserved = query.edns ? optSize + ednsData.length : 0
  const writer = new MessageWriter(limit - reserved)
  writer.skip(headerSize)
  writer.writeName(query.question.name)
  writer.write16(query.question.type)
  writer.write16(query.question.class)

  let truncated = false
  const counts = [0, 0, 0]
  for (const [section, sets] of [answer.answer, answer.authority, answer.additional].entries()) {
    for (const set of sets) {
      if (truncated) break
      if (writer.tryWrite(() => writeRecordSet(writer, set, options.rotation)))
        counts[section] = (counts[section] ?? 0) + set.rdata.length
      else truncated = section < 2
    }
  }
  const [answers = 0, authorities = 0, additionals = 0] = counts
  if (query.edns) {
    writer.allow(reserved)
    writeOpt(writer, { edns: query.edns, rcode: answer.rcode, options: ednsData })
  }

  let flags = flagBits.qr | (answer.rcode & 0xf)
  if (answer.authoritative) flags |= flagBits.aa
  if (truncated) flags |= flagBits.tc
  if (query.recursionDesired) flags |= flagBits.rd
  if (options.recursionAvailable) flags |= flagBits.ra
  if (query.checkingDisabled) flags |= flagBits.cd
  // RFC 6840 section 5.8: AD only for those who can understand it.
  if (answer.authenticData && (query.authenticData || query.edns?.dnssecOk)) flags |= flagBits.ad
  return writer.finish([query.id, flags, 1, answers, authorities, additionals + (query.edns ? 1 : 0)])
}

/** The response to a request that only wants a cookie (RFC 7873 section 5.4): no question, no record but OPT. */
export function encodeCookieResponse(
  request: { readonly id: number; readonly flags: number; readonly edns: Edns },
  serverCookie: Uint8Array,
): Buffer {
  const { id, flags, edns } = request
  const rcode = edns.version > 0 ? rcodes.BADVERS : rcodes.NOERROR
  const writer = new MessageWriter(classicUdpSize)
  writer.skip(headerSize)
  writeOpt(writer, { edns, rcode, options: encodeEdnsOptions(edns, { serverCookie, extendedError: undefined }) })
  return writer.finish([id, flagBits.qr | (flags & (flagBits.rd | flagBits.cd)) | (rcode & 0xf), 0, 0, 0, 1])
}

/** A response of a header only, for a request that was not understood (RFC 1035 section 4.1.1). */
export function encodeError(id: number, requestFlags: number, rcode: number): Buffer {
  const response = Buffer.alloc(headerSize)
  response.writeUInt16BE(id, 0)
  response.writeUInt16BE(flagBits.qr | (requestFlags & (flagBits.opcode | flagBits.rd | flagBits.cd)) | rcode, 2)
  return response
}

function udpLimit(edns: Edns | undefined): number {
  return edns ? Math.min(Math.max(edns.udpSize, classicUdpSize), ownUdpSize) : classicUdpSize
}

function writeRecordSet(writer: MessageWriter, set: RecordSet, rotation: number): void {
  const count = set.rdata.length
  // The order in a CNAME chain means something, the order within a set never does (RFC 1034 section 3.6).
  for (let i = 0; i < count; i++) {
    writer.writeName(set.owner)
    writer.write16(set.type)
    writer.write16(set.class)
    writer.write32(set.ttl)
    const length = writer.reserve16()
    for (const part of set.rdata[(i + rotation) % count] ?? []) {
      if (part instanceof Uint8Array) writer.writeBytes(part)
      else writer.writeName(part)
    }
    writer.patchLength(length)
  }
}

interface OptRecord {
  readonly edns: Edns
  readonly rcode: number
  readonly options: Uint8Array
}

/** RFC 6891 section 6.1: our size, version 0, DO as asked; options that we do not know are never sent back. */
function writeOpt(writer: MessageWriter, { edns, rcode, options }: OptRecord): void {
  writer.writeBytes(Uint8Array.of(0))
  writer.write16(recordTypes.OPT)
  writer.write16(ownUdpSize)
  writer.write32((((rcode >>> 4) & 0xff) << 24) | (edns.dnssecOk ? 0x8000 : 0))
  writer.write16(options.length)
  writer.writeBytes(options)
}

const noData = new Uint8Array(0)
/** Octets of an extended error's text: enough for a sentence, and a response stays small. */
const maxErrorText = 100

function encodeEdnsOptions(
  edns: Edns,
  answer: { readonly serverCookie?: Uint8Array | undefined; readonly extendedError: ExtendedError | undefined },
): Uint8Array {
  const { serverCookie, extendedError } = answer
  if (!extendedError && !(edns.clientCookie && serverCookie)) return noData
  const parts: Uint8Array[] = []
  if (edns.clientCookie && serverCookie)
    parts.push(ednsOption(ednsOptions.COOKIE, Buffer.concat([edns.clientCookie, serverCookie])))
  if (extendedError) {
    const text = Buffer.from(extendedError.text, 'utf8').subarray(0, maxErrorText)
    const code = Uint8Array.of(extendedError.code >>> 8, extendedError.code & 0xff)
    parts.push(ednsOption(ednsOptions.EXTENDED_ERROR, Buffer.concat([code, text])))
  }
  return Buffer.concat(parts)
}

function ednsOption(code: number, value: Uint8Array): Buffer {
  const option = Buffer.allocUnsafe(4 + value.length)
  option.writeUInt16BE(code, 0)
  option.writeUInt16BE(value.length, 2)
  option.set(value, 4)
  return option
}
