import { MessageError } from './message-error.ts'
import { readName } from './name.ts'
import { flagBits, headerSize, type Question, read16, readQuestion } from './query.ts'
import { type Answer, type Rdata, type RecordSet, rcodes, recordTypes } from './record-set.ts'

/** A response that we received. */
export interface Reply {
  readonly id: number
  /** Undefined in an error of a header only, as servers send it that did not understand the request. */
  readonly question: Question | undefined
  readonly truncated: boolean
  readonly recursionAvailable: boolean
  readonly answer: Answer
}

/** One field of RDATA: so many octets, a character-string, or a name. `bytesName` is a name that must not be compressed. */
type RdataField = number | 'string' | 'name' | 'bytesName'

/**
 * RDATA that may hold compressed names, which mean nothing outside of their message. The types of RFC 1035 may be
 * compressed again; of the others RFC 3597 section 4 says that they shall be read, not written, in that way.
 * What follows the listed fields is copied.
 */
const rdataFields: Readonly<Record<number, readonly RdataField[]>> = {
  2: ['name'], // NS
  3: ['name'], // MD
  4: ['name'], // MF
  5: ['name'], // CNAME
  6: ['name', 'name'], // SOA
  7: ['name'], // MB
  8: ['name'], // MG
  9: ['name'], // MR
  12: ['name'], // PTR
  14: ['name', 'name'], // MINFO
  15: [2, 'name'], // MX
  17: ['bytesName', 'bytesName'], // RP
  18: [2, 'bytesName'], // AFSDB
  21: [2, 'bytesName'], // RT
  26: [2, 'bytesName', 'bytesName'], // PX
  33: [6, 'bytesName'], // SRV
  35: [4, 'string', 'string', 'string', 'bytesName'], // NAPTR
  36: [2, 'bytesName'], // KX
  39: ['bytesName'], // DNAME
}

/** Reads a response whole, without its OPT record, which is meant for us. Throws {@link MessageError}. */
export function parseReply(message: Uint8Array): Reply {
  if (message.length < headerSize) throw new MessageError('message is shorter than a header', message.length)
  const flags = read16(message, 2)
  if (!(flags & flagBits.qr) || flags & flagBits.opcode) throw new MessageError('message is not a response', 2)
  let rcode = flags & 0xf
  const bareError = message.length === headerSize && read16(message, 4) === 0 && !saysSomething(rcode)
  if (read16(message, 4) !== 1 && !bareError) throw new MessageError('QDCOUNT is not 1', 4)
  const { question, end } = bareError ? { question: undefined, end: headerSize } : readQuestion(message)
  let at = end
  const sections: RecordSet[][] = []
  // A truncated response may end anywhere, and is asked again over TCP (RFC 2181 section 9).
  const truncated = (flags & flagBits.tc) !== 0
  for (const countAt of truncated ? [] : [6, 8, 10]) {
    const sets: RecordSet[] = []
    for (let left = read16(message, countAt); left > 0; left--) {
      const record = readRecord(message, at)
      at = record.end
      if (record.set.type === recordTypes.OPT) rcode |= (record.set.ttl >>> 24) << 4
      else addRecord(sets, record.set)
    }
    sections.push(sets)
  }
  const [answer = [], authority = [], additional = []] = sections
  return {
    id: read16(message, 0),
    question,
    truncated,
    recursionAvailable: (flags & flagBits.ra) !== 0,
    answer: {
      // Above 15 it speaks about our OPT record, not about the name.
      rcode: rcode > 15 ? rcodes.SERVFAIL : rcode,
      authoritative: (flags & flagBits.aa) !== 0,
      authenticData: (flags & flagBits.ad) !== 0,
      answer,
      authority,
      additional,
    },
  }
}

/** Whether a response code is about the name, and not about the server or the request. */
function saysSomething(rcode: number): boolean {
  return rcode === rcodes.NOERROR || rcode === rcodes.NXDOMAIN
}

function readRecord(message: Uint8Array, start: number): { set: RecordSet; end: number } {
  const { name: owner, end: fixed } = readName(message, start)
  const rdataStart = fixed + 10
  const end = rdataStart + read16(message, fixed + 8)
  if (rdataStart > message.length || end > message.length)
    throw new MessageError('record runs past the end of the message', fixed)
  const type = read16(message, fixed)
  const ttl = read16(message, fixed + 4) * 0x1_0000 + read16(message, fixed + 6)
  return {
    set: {
      owner,
      type,
      class: read16(message, fixed + 2),
      // RFC 2181 section 8: a TTL with the highest bit set is 0. In an OPT record these are flags.
      ttl: type !== recordTypes.OPT && ttl > 0x7fff_ffff ? 0 : ttl,
      rdata: [readRdata(message, { type, start: rdataStart, end })],
    },
    end,
  }
}

function readRdata(message: Uint8Array, record: { type: number; start: number; end: number }): Rdata {
  const parts: Rdata[number][] = []
  let at = record.start
  for (const field of rdataFields[record.type] ?? []) {
    const from = at
    if (field === 'name' || field === 'bytesName') {
      const { name, end } = readName(message, at)
      parts.push(field === 'name' ? name : name.wire)
      at = end
    } else {
      at += field === 'string' ? (message[at] ?? 0) + 1 : field
      parts.push(message.slice(from, at))
    }
    if (at > record.end) throw new MessageError('RDATA is longer than its length says', from)
  }
  if (at < record.end) parts.push(message.slice(at, record.end))
  return parts
}

/** Adds a record to the set that it belongs to. A set has one TTL (RFC 2181 section 5.2): the lowest. */
function addRecord(sets: RecordSet[], record: RecordSet): void {
  // Signatures of different sets share owner and type, and are sets of their own (RFC 4034 section 3).
  const index =
    record.type === recordTypes.RRSIG
      ? -1
      : sets.findLastIndex(
          (set) => set.owner.key === record.owner.key && set.type === record.type && set.class === record.class,
        )
  const set = sets[index]
  if (set) sets[index] = { ...set, ttl: Math.min(set.ttl, record.ttl), rdata: [...set.rdata, ...record.rdata] }
  else sets.push(record)
}
