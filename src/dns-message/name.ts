import { ParseError } from '../net/parse-error.ts'
import { MessageError } from './message-error.ts'

/**
 * A domain name. Both forms are the wire format of RFC 1035 section 3.1 without compression: labels are bytes, so a dot
 * or a zero inside of a label is just another byte and no two names can be mistaken for each other.
 */
export interface Name {
  /** As it was given, upper case kept. */
  readonly wire: Uint8Array
  readonly key: NameKey
}

/** The wire format in lower case (ASCII only, RFC 4343), one UTF-16 unit per octet: equal names are equal keys. */
export type NameKey = string

/** RFC 1035 section 2.3.4. */
const maxLabel = 63
const maxName = 255

/** `.` */
export const rootName: Name = { wire: new Uint8Array(1), key: '\0' }

/**
 * The name made of labels (one UTF-16 unit per octet, as in keys), the most specific first. Undefined when a label is empty or longer than 63 octets, or the
 * name is longer than 255: such a name cannot be asked for, so nothing needs to be known about it.
 */
export function nameOfLabels(labels: readonly string[]): Name | undefined {
  const parts: Uint8Array[] = []
  for (const label of labels) {
    const bytes = Buffer.from(label, 'latin1')
    if (bytes.length === 0 || bytes.length > maxLabel) return undefined
    parts.push(Uint8Array.of(bytes.length), bytes)
  }
  parts.push(Uint8Array.of(0))
  const wire = Buffer.concat(parts)
  return wire.length > maxName ? undefined : { wire, key: keyOf(wire) }
}

/** Parses presentation format (`cart.shop.svc`, with or without the last dot, `\.` and `\065` escapes). Throws {@link ParseError}. */
export function parseName(text: string): Name {
  const labels: number[][] = [[]]
  const bytes = Buffer.from(text === '.' ? '' : text, 'utf8')
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0
    if (byte === 0x2e) labels.push([])
    else if (byte === 0x5c) {
      const digits = /^\d{3}/.exec(bytes.toString('latin1', i + 1, i + 4))?.[0]
      const escaped = digits === undefined ? bytes[i + 1] : Number(digits)
      if (escaped === undefined || escaped > 255) throw new ParseError(`"${text}" is not a domain name (bad escape)`)
      labels.at(-1)?.push(escaped)
      i += digits === undefined ? 1 : 3
    } else labels.at(-1)?.push(byte)
  }
  if (labels.at(-1)?.length === 0) labels.pop()
  const wire: number[] = []
  for (const label of labels) {
    if (label.length === 0 || label.length > maxLabel)
      throw new ParseError(`"${text}" is not a domain name (a label has 1 to 63 octets, not ${label.length})`)
    wire.push(label.length, ...label)
  }
  wire.push(0)
  if (wire.length > maxName)
    throw new ParseError(`"${text}" is not a domain name (${wire.length} octets, at most ${maxName})`)
  return { wire: Uint8Array.from(wire), key: keyOf(Uint8Array.from(wire)) }
}

/** The name in presentation format, with its last dot and with `\DDD` for octets that are not printable. */
export function nameText(name: Name): string {
  if (name.wire.length === 1) return '.'
  let text = ''
  for (let at = 0, length = name.wire[0] ?? 0; length > 0; length = name.wire[at] ?? 0) {
    for (const byte of name.wire.subarray(at + 1, at + 1 + length)) {
      if (byte === 0x2e || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`
      else if (byte > 0x20 && byte < 0x7f) text += String.fromCharCode(byte)
      else text += `\\${String(byte).padStart(3, '0')}`
    }
    text += '.'
    at += length + 1
  }
  return text
}

/**
 * Reads the name at `offset`, following compression pointers, which must go backwards (RFC 1035 section 4.1.4: "prior
 * occurrence"), so that every message ends. `end` is the octet after the name in place. Throws {@link MessageError}.
 */
export function readName(message: Uint8Array, offset: number): { name: Name; end: number } {
  const wire = Buffer.allocUnsafe(maxName)
  let length = 0
  let end = -1
  let at = offset
  // A pointer may only lead before the place where the chain of labels that holds it began.
  let before = offset
  for (;;) {
    const octet = message[at]
    if (octet === undefined) throw new MessageError('name runs past the end of the message', at)
    if (octet === 0) break
    if (octet <= maxLabel) {
      // One octet is kept for the root label.
      if (length + octet + 2 > maxName) throw new MessageError('name is longer than 255 octets', at)
      if (at + octet >= message.length) throw new MessageError('label runs past the end of the message', at)
      for (let i = 0; i <= octet; i++) wire[length++] = message[at + i] ?? 0
      at += octet + 1
      continue
    }
    if (octet < 0xc0) throw new MessageError(`label type 0x${(octet & 0xc0).toString(16)} does not exist`, at)
    const low = message[at + 1]
    if (low === undefined) throw new MessageError('pointer runs past the end of the message', at)
    const target = ((octet & 0x3f) << 8) | low
    if (target >= before || target < 12) throw new MessageError('compression pointer does not go backwards', at)
    if (end < 0) end = at + 2
    before = target
    at = target
  }
  if (end < 0) end = at + 1
  wire[length++] = 0
  const own = Uint8Array.prototype.slice.call(wire, 0, length)
  return { name: { wire: own, key: keyOf(own) }, end }
}

/** The labels of a key in lower case, the most specific first. */
export function labelsOfKey(key: NameKey): string[] {
  const labels: string[] = []
  for (let at = 0; ;) {
    const length = key.charCodeAt(at)
    if (!(length > 0)) return labels
    labels.push(key.slice(at + 1, at + 1 + length))
    at += length + 1
  }
}

/** Whether `key` is `suffix` or a name below it, compared label by label. */
export function isAtOrBelow(key: NameKey, suffix: NameKey): boolean {
  let at = 0
  while (key.length - at > suffix.length) at += key.charCodeAt(at) + 1
  return key.length - at === suffix.length && key.endsWith(suffix)
}

/** The name one label up; undefined for the root. */
export function parentKey(key: NameKey): NameKey | undefined {
  return key.length <= 1 ? undefined : key.slice(key.charCodeAt(0) + 1)
}

/** Length octets are below 64 and so no letters: the whole wire format can be lowered at once. */
function keyOf(wire: Uint8Array): NameKey {
  const lower = Buffer.allocUnsafe(wire.length)
  for (let i = 0; i < wire.length; i++) {
    const byte = wire[i] ?? 0
    lower[i] = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte
  }
  return lower.toString('latin1')
}
