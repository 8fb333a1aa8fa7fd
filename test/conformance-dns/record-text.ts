import { isIPv6 } from 'node:net'
import { type Name, nameText, parseName, readName } from '../../src/dns-message/name.ts'
import { ipFromBytes, ipToBytes, parseIp } from '../../src/net/ip-address.ts'
import { ParseError } from '../../src/net/parse-error.ts'
import { classNumbers, nameOf, numberOf, typeNumbers } from './codes.ts'

/** A record of a case: `web.example. 5 IN A 192.0.2.1`. */
export interface ExpectedRecord {
  readonly owner: Name
  readonly ttl: { readonly min: number; readonly max: number }
  readonly type: number
  readonly class: number
  /** Wire format, names not compressed. */
  readonly rdata: Buffer
  /** As in the file. */
  readonly text: string
}

type Field = 'ip4' | 'ip6' | 'u16' | 'u32' | 'timer' | 'name' | 'string' | 'strings'

/** RDATA in presentation format (RFC 1035 section 5, RFC 2782, RFC 3403). Other types are `\# LENGTH HEX` (RFC 3597). */
const rdataFields: Readonly<Record<number, readonly Field[]>> = {
  1: ['ip4'],
  2: ['name'],
  5: ['name'],
  // "A SOA's serial and times are not compared."
  6: ['name', 'name', 'timer', 'timer', 'timer', 'timer', 'timer'],
  12: ['name'],
  13: ['string', 'string'],
  15: ['u16', 'name'],
  16: ['strings'],
  17: ['name', 'name'],
  28: ['ip6'],
  33: ['u16', 'u16', 'u16', 'name'],
  35: ['u16', 'u16', 'string', 'string', 'string', 'name'],
  39: ['name'],
  99: ['strings'],
}

const anyTtl = { min: 0, max: 0xffff_ffff }

/** Reads a record. Throws {@link ParseError}. */
export function parseRecord(text: string): ExpectedRecord {
  const [owner, ttl, className, typeName, ...data] = tokenize(text)
  if (!owner || !ttl || !className || !typeName || data.length === 0)
    throw new ParseError(`"${text}" is not a record (expected like web.example. 5 IN A 192.0.2.1)`)
  const type = numberOf(typeName.text, typeNumbers, 'TYPE')
  const recordClass = numberOf(className.text, classNumbers, 'CLASS')
  if (type === undefined) throw new ParseError(`"${typeName.text}" in "${text}" is not a record type`)
  if (recordClass === undefined) throw new ParseError(`"${className.text}" in "${text}" is not a class`)
  return {
    owner: parseName(owner.text),
    ttl: parseTtl(ttl.text, text),
    type,
    class: recordClass,
    rdata: encodeRdata(type, data, text),
    text,
  }
}

/** RDATA in presentation format: names in lower case, an SOA's numbers as stars. Throws {@link MessageError}, {@link RangeError}. */
export function formatRdata(type: number, message: Uint8Array, range: { start: number; end: number }): string {
  const fields = rdataFields[type]
  const generic = () => {
    const bytes = Buffer.from(message.subarray(range.start, range.end))
    return `\\# ${bytes.length} ${bytes.toString('hex')}`.trim()
  }
  if (!fields) return generic()
  const view = Buffer.from(message.buffer, message.byteOffset, message.byteLength)
  const words: string[] = []
  let at = range.start
  const readString = () => {
    const length = view.readUInt8(at)
    words.push(quote(view.subarray(at + 1, at + 1 + length)))
    at += length + 1
  }
  for (const field of fields) {
    switch (field) {
      case 'ip4':
      case 'ip6': {
        const size = field === 'ip4' ? 4 : 16
        if (range.end - at !== size) return generic()
        words.push(ipFromBytes(view.subarray(at, at + size)))
        at += size
        break
      }
      case 'u16':
        words.push(String(view.readUInt16BE(at)))
        at += 2
        break
      case 'u32':
        words.push(String(view.readUInt32BE(at)))
        at += 4
        break
      case 'timer':
        words.push('*')
        at += 4
        break
      case 'name': {
        const { name, end } = readName(view, at)
        words.push(nameText(name).toLowerCase())
        at = end
        break
      }
      case 'string':
        readString()
        break
      case 'strings':
        while (at < range.end) readString()
        break
      default:
        return field satisfies never
    }
  }
  if (at !== range.end) throw new RangeError(`RDATA of ${nameOf(type, typeNumbers, 'TYPE')} has another length`)
  return words.join(' ')
}

function encodeRdata(type: number, tokens: readonly Token[], text: string): Buffer {
  const fields = rdataFields[type]
  if (tokens[0]?.text === '\\#') return encodeGeneric(tokens, text)
  if (!fields)
    throw new ParseError(`"${text}": RDATA of type ${type} is written as \\# LENGTH HEX (RFC 3597 section 5)`)
  const expected = fields[0] === 'strings' ? tokens.length : fields.length
  if (tokens.length !== expected)
    throw new ParseError(`"${text}" has ${tokens.length} fields of RDATA, not ${expected}`)
  const kinds = fields[0] === 'strings' ? tokens.map((): Field => 'string') : fields
  return Buffer.concat(kinds.map((field, i) => encodeField(field, tokens[i] ?? { text: '', bytes: Buffer.alloc(0) })))
}

function encodeField(field: Field, { text, bytes }: Token): Uint8Array {
  switch (field) {
    case 'ip4': {
      const address = ipToBytes(parseIp(text))
      if (address.length !== 4) throw new ParseError(`"${text}" is not an IPv4 address`)
      return address
    }
    case 'ip6': {
      if (!isIPv6(text)) throw new ParseError(`"${text}" is not an IPv6 address`)
      const address = ipToBytes(parseIp(text))
      // An IPv4-mapped one is kept short inside of fairlead.
      return address.length === 16 ? address : Buffer.concat([Buffer.from('00000000000000000000ffff', 'hex'), address])
    }
    case 'u16':
    case 'u32':
    case 'timer': {
      const value = field === 'timer' && text === '*' ? 0 : Number(text)
      const size = field === 'u16' ? 2 : 4
      if (!/^(\d+|\*)$/.test(text) || !(value < 256 ** size))
        throw new ParseError(`"${text}" is not a ${size * 8}-bit number`)
      const buffer = Buffer.alloc(size)
      buffer.writeUIntBE(value, 0, size)
      return buffer
    }
    case 'name':
      return parseName(text).wire
    case 'string':
    case 'strings':
      if (bytes.length > 255) throw new ParseError(`"${text}" is longer than 255 octets`)
      return Buffer.concat([Uint8Array.of(bytes.length), bytes])
    default:
      return field satisfies never
  }
}

function encodeGeneric(tokens: readonly Token[], text: string): Buffer {
  const hex = tokens
    .slice(2)
    .map((token) => token.text)
    .join('')
  const bytes = Buffer.from(hex, 'hex')
  if (bytes.length * 2 !== hex.length || bytes.length !== Number(tokens[1]?.text))
    throw new ParseError(`"${text}": the length after \\# is not that of the hexadecimal octets`)
  return bytes
}

function parseTtl(text: string, record: string): ExpectedRecord['ttl'] {
  if (text === '*') return anyTtl
  const match = /^(<=)?(\d{1,10})$/.exec(text)
  if (!match) throw new ParseError(`"${text}" in "${record}" is not a TTL (expected like 5, <=5 or *)`)
  const max = Number(match[2])
  return { min: match[1] === undefined ? max : 0, max }
}

interface Token {
  /** Escapes kept, for names. */
  readonly text: string
  /** Escapes resolved, for character-strings. */
  readonly bytes: Buffer
}

/** Words, and texts in quotes. Throws {@link ParseError}. */
function tokenize(line: string): Token[] {
  const pattern = /\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^\s"\\]|\\.)+))/gy
  const tokens: Token[] = []
  const text = line.trim()
  while (pattern.lastIndex < text.length) {
    const start = pattern.lastIndex
    const match = pattern.exec(text)
    if (!match) throw new ParseError(`"${line}" cannot be read from octet ${start} on`)
    const word = match[1] ?? match[2] ?? ''
    const bytes = word.replaceAll(/\\(\d{3})|\\(.)/g, (_all, digits: string | undefined, char: string | undefined) =>
      digits === undefined ? (char ?? '') : String.fromCharCode(Number(digits)),
    )
    tokens.push({ text: word, bytes: Buffer.from(bytes, 'latin1') })
  }
  return tokens
}

function quote(bytes: Buffer): string {
  let text = ''
  for (const byte of bytes) {
    if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`
    else text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\${String(byte).padStart(3, '0')}`
  }
  return `"${text}"`
}
