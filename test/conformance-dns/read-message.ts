import { MessageError } from '../../src/dns-message/message-error.ts'
import { type Name, readName } from '../../src/dns-message/name.ts'
import { formatRdata } from './record-text.ts'

/** A reply, read to its last octet. */
export interface ReplyMessage {
  readonly id: number
  readonly flags: {
    readonly qr: boolean
    readonly aa: boolean
    readonly tc: boolean
    readonly ra: boolean
    readonly z: boolean
  }
  readonly opcode: number
  /** With the upper bits of the OPT record. */
  readonly rcode: number
  /** The question section as it stands; empty in a reply of a header only. */
  readonly question: Buffer
  readonly answer: readonly SeenRecord[]
  readonly authority: readonly SeenRecord[]
  /** Without the OPT record. */
  readonly additional: readonly SeenRecord[]
  readonly edns: SeenEdns | undefined
}

export interface SeenRecord {
  readonly owner: Name
  readonly ttl: number
  readonly type: number
  readonly class: number
  /** Presentation format; see {@link formatRdata}. */
  readonly rdata: string
}

export interface SeenEdns {
  readonly version: number
  readonly do: boolean
  readonly unknownFlags: boolean
  readonly udpSize: number
  readonly options: readonly { readonly code: number; readonly data: Buffer }[]
}

const OPT = 41

/** Reads a reply. Nothing may be left over. Throws {@link MessageError} or RangeError. */
export function readMessage(bytes: Uint8Array): ReplyMessage {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (message.length < 12) throw new MessageError('message is shorter than a header', message.length)
  const flags = message.readUInt16BE(2)
  let at = 12
  for (let left = message.readUInt16BE(4); left > 0; left--) at = readName(message, at).end + 4
  const question = Buffer.from(message.subarray(12, at))
  let edns: SeenEdns | undefined
  let extended = 0
  const sections: SeenRecord[][] = []
  for (const countAt of [6, 8, 10]) {
    const records: SeenRecord[] = []
    for (let left = message.readUInt16BE(countAt); left > 0; left--) {
      const { name: owner, end: fixed } = readName(message, at)
      const start = fixed + 10
      const end = start + message.readUInt16BE(fixed + 8)
      if (end > message.length) throw new MessageError('RDATA runs past the end of the message', start)
      const type = message.readUInt16BE(fixed)
      const ttl = message.readUInt32BE(fixed + 4)
      if (type === OPT) {
        if (edns) throw new MessageError('second OPT record', fixed)
        if (countAt !== 10 || owner.wire.length !== 1) throw new MessageError('OPT record in a wrong place', fixed)
        extended = (ttl >>> 24) << 4
        edns = {
          version: (ttl >>> 16) & 0xff,
          do: (ttl & 0x8000) !== 0,
          unknownFlags: (ttl & 0x7fff) !== 0,
          udpSize: message.readUInt16BE(fixed + 2),
          options: readOptions(message.subarray(start, end)),
        }
      } else {
        const rdata = formatRdata(type, message, { start, end })
        records.push({ owner, ttl, type, class: message.readUInt16BE(fixed + 2), rdata })
      }
      at = end
    }
    sections.push(records)
  }
  if (at !== message.length) throw new MessageError(`${message.length - at} octets follow the last record`, at)
  const [answer = [], authority = [], additional = []] = sections
  return {
    id: message.readUInt16BE(0),
    flags: {
      qr: (flags & 0x8000) !== 0,
      aa: (flags & 0x400) !== 0,
      tc: (flags & 0x200) !== 0,
      ra: (flags & 0x80) !== 0,
      z: (flags & 0x40) !== 0,
    },
    opcode: (flags >>> 11) & 0xf,
    rcode: extended | (flags & 0xf),
    question,
    answer,
    authority,
    additional,
    edns,
  }
}

function readOptions(data: Buffer): SeenEdns['options'] {
  const options: { code: number; data: Buffer }[] = []
  for (let at = 0; at < data.length;) {
    const end = at + 4 + data.readUInt16BE(at + 2)
    if (end > data.length) throw new MessageError('EDNS option runs past its record', at)
    options.push({ code: data.readUInt16BE(at), data: data.subarray(at + 4, end) })
    at = end
  }
  return options
}
