import { ipFromBytes } from '../net/ip-address.ts'
import { type Name, nameText } from './name.ts'
import { read16 } from './query.ts'
import { type Rdata, type RecordSet, recordTypes } from './record-set.ts'
import { typeName } from './type-names.ts'

/** Records as lines of presentation format, without their class; data of types not known here as RFC 3597 has it. */
export function printRecords(sets: readonly RecordSet[]): string[] {
  return sets.flatMap((set) =>
    set.rdata.map((rdata) => `${nameText(set.owner)} ${set.ttl} ${typeName(set.type)} ${printRdata(set.type, rdata)}`),
  )
}

/** The data of one record. */
export function printRdata(type: number, rdata: Rdata): string {
  const bytes = Buffer.concat(rdata.map((part) => (part instanceof Uint8Array ? part : part.wire)))
  switch (type) {
    case recordTypes.A:
      if (bytes.length === 4) return ipFromBytes(bytes)
      break
    case recordTypes.AAAA:
      if (bytes.length === 16) return ipFromBytes(bytes)
      break
    case recordTypes.SRV:
      return [...numbers16(bytes, 3), nameText(nameAt(bytes, 6))].join(' ')
    case recordTypes.MX:
      return [...numbers16(bytes, 1), nameText(nameAt(bytes, 2))].join(' ')
    case recordTypes.TXT:
    case recordTypes.HINFO:
      return strings(bytes).join(' ')
    case recordTypes.SOA: {
      const end = bytes.length - 20
      const timers = [0, 4, 8, 12, 16].map((at) => (end >= 0 ? bytes.readUInt32BE(end + at) : 0))
      return [...namesOf(rdata), ...timers].join(' ')
    }
    default: {
      const names = namesOf(rdata)
      if (names.length > 0 && names.length === rdata.length) return names.join(' ')
    }
  }
  return `\\# ${bytes.length} ${bytes.toString('hex')}`.trimEnd()
}

function namesOf(rdata: Rdata): string[] {
  return rdata.flatMap((part) => (part instanceof Uint8Array ? [] : [nameText(part)]))
}

function numbers16(bytes: Buffer, count: number): number[] {
  return Array.from({ length: count }, (_, i) => read16(bytes, i * 2))
}

/** Only its wire format counts for printing. */
function nameAt(bytes: Buffer, at: number): Name {
  return { wire: bytes.subarray(at), key: '' }
}

/** Character-strings (RFC 1035 section 3.3) in quotes. */
function strings(bytes: Buffer): string[] {
  const list: string[] = []
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + (bytes[at] ?? 0)
    const text = [...bytes.subarray(at + 1, end)].map((byte) => {
      if (byte === 0x22 || byte === 0x5c) return `\\${String.fromCharCode(byte)}`
      return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\${String(byte).padStart(3, '0')}`
    })
    list.push(`"${text.join('')}"`)
    at = end
  }
  return list
}
