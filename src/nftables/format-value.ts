import { ipFromBytes } from '../net/ip-address.ts'
import { macFromBytes } from '../net/mac-address.ts'
import { dataTypes, fieldOf, formatClassId, paddedLength, type Field } from './fields.ts'
import type { Expression, RegisterBytes } from './objects.ts'

const protocols = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [33, 'dccp'],
  [50, 'esp'],
  [51, 'ah'],
  [58, 'ipv6-icmp'],
  [108, 'comp'],
  [132, 'sctp'],
  [136, 'udplite'],
])
const etherTypes = new Map([
  [0x0800, 'ip'],
  [0x0806, 'arp'],
  [0x86dd, 'ip6'],
])
const addressTypes = ['unspec', 'unicast', 'local', 'broadcast', 'anycast', 'multicast', 'blackhole']
const ctStates = new Map([
  [0x1, 'invalid'],
  [0x2, 'established'],
  [0x4, 'related'],
  [0x8, 'new'],
  [0x40, 'untracked'],
])
const ctStatuses = new Map([
  [0x1, 'expected'],
  [0x2, 'seen-reply'],
  [0x4, 'assured'],
  [0x8, 'confirmed'],
  [0x10, 'snat'],
  [0x20, 'dnat'],
  [0x200, 'dying'],
])

/** A field's number as nft prints it: `tcp`, `f1a0:2`, `0x00004000`. */
export function formatNumber(field: Field, value: number): string {
  switch (field.type) {
    case dataTypes.protocol:
      return protocols.get(value) ?? String(value)
    case dataTypes.nfproto:
      return value === 2 ? 'ipv4' : value === 10 ? 'ipv6' : String(value)
    case dataTypes.etherType:
      return etherTypes.get(value) ?? `0x${value.toString(16).padStart(4, '0')}`
    case dataTypes.icmpv6Type:
      return value === 136 ? 'nd-neighbor-advert' : String(value)
    case dataTypes.mark:
      return hex32(value)
    case dataTypes.classId:
      if (value === 0) return 'none'
      if (value >>> 0 === 0xffff_ffff) return 'root'
      return formatClassId(value)
    case dataTypes.ctState:
      return formatBits(field, value)
    case dataTypes.ctStatus:
      return formatBits(field, value)
    case dataTypes.ctDirection:
      return value === 0 ? 'original' : value === 1 ? 'reply' : String(value)
    case dataTypes.addressType:
      return addressTypes[value] ?? String(value)
    default:
      return String(value)
  }
}

/** Bits by name where they have names: `established,related`. */
export function formatBits(field: Field, bits: number): string {
  const names = field.type === dataTypes.ctState ? ctStates : field.type === dataTypes.ctStatus ? ctStatuses : undefined
  if (!names) return hex32(bits)
  const words: string[] = []
  let rest = bits
  for (const [bit, name] of names) {
    if ((rest & bit) === 0) continue
    words.push(name)
    rest &= ~bit
  }
  return rest === 0 && words.length > 0 ? words.join(',') : hex32(bits)
}

/** `0x00004000` */
export function hex32(value: number): string {
  return `0x${(value >>> 0).toString(16).padStart(8, '0')}`
}

/** One field out of register bytes, as nft prints it. */
export function formatField(field: Field, bytes: Buffer): string {
  const value = bytes.subarray(0, field.length)
  if (field.type === dataTypes.ipv4 || field.type === dataTypes.ipv6) return ipFromBytes(value)
  if (field.type === dataTypes.etherAddress) return macFromBytes(value)
  if (field.type === dataTypes.interfaceName) return `"${value.toString('latin1').replace(/\0.*$/s, '')}"`
  return formatNumber(field, fieldNumber(field, value))
}

/** A field of at most four bytes as a number. */
export function fieldNumber(field: Field, bytes: Buffer): number {
  return field.bigEndian ? bytes.readUIntBE(0, field.length) : bytes.readUIntLE(0, field.length)
}

/** Splits register bytes into their fields. Bytes that are missing read as zero. */
export function splitRegisterBytes(
  key: readonly Expression[],
  bytes: RegisterBytes,
): readonly { readonly field: Field; readonly bytes: Buffer }[] {
  const all = Buffer.from(bytes, 'latin1')
  let at = 0
  return key.map((expression) => {
    const field = fieldOf(expression)
    const part = Buffer.alloc(paddedLength(field))
    all.copy(part, 0, at, at + part.length)
    at += part.length
    return { field, bytes: part }
  })
}

/** `172.30.0.41 . tcp . 80` */
export function formatRegisterBytes(key: readonly Expression[], bytes: RegisterBytes): string {
  return splitRegisterBytes(key, bytes)
    .map(({ field, bytes }) => formatField(field, bytes))
    .join(' . ')
}
