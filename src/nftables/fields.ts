import type { Expression } from './objects.ts'

/**
 * What an {@link Expression} is to the kernel and to nft: how it is loaded, how long it is, nft's number for its type
 * (shown by `nft list`, no matter to the kernel), and how `typeof` is kept in a set's user data.
 */
export interface Field {
  /** nft's own words: `ip daddr`. */
  readonly text: string
  /** Bytes, before padding to four. */
  readonly length: number
  /** enum datatypes of nft (include/datatype.h). */
  readonly type: number
  readonly load: FieldLoad
  /** The network protocol that this field only makes sense for. */
  readonly family?: 'ip' | 'ip6' | 'arp'
  /** Fields of packets are in network order, what the kernel computes is in host order. */
  readonly bigEndian: boolean
  /** These bits of it only. */
  readonly mask?: number
}

export type FieldLoad =
  /** base: NFT_PAYLOAD_*_HEADER. `description` and `template`: nft's numbers of header and field (include/proto.h). */
  | {
      readonly kind: 'payload'
      readonly base: 0 | 1 | 2
      readonly offset: number
      readonly description: number
      readonly template: number
    }
  /** NFT_META_* */
  | { readonly kind: 'meta'; readonly key: number }
  /** NFT_CT_* */
  | { readonly kind: 'ct'; readonly key: number }
  /** NFT_FIB_RESULT_*, NFTA_FIB_F_* */
  | { readonly kind: 'fib'; readonly result: number; readonly flags: number }
  | { readonly kind: 'numgen'; readonly modulus: number }

/** How a field's value reads; see `format-value.ts`. nft's datatype numbers. */
export const dataTypes = {
  nfproto: 2,
  integer: 4,
  ipv4: 7,
  ipv6: 8,
  etherAddress: 9,
  etherType: 10,
  protocol: 12,
  port: 13,
  mark: 19,
  classId: 23,
  ctState: 26,
  ctDirection: 27,
  ctStatus: 28,
  icmpv6Type: 29,
  addressType: 38,
  interfaceName: 41,
} as const

const ip = { family: 'ip', length: 4, type: dataTypes.ipv4, bigEndian: true } as const
const ip6 = { family: 'ip6', length: 16, type: dataTypes.ipv6, bigEndian: true } as const
const port = { length: 2, type: dataTypes.port, bigEndian: true } as const
const host = { bigEndian: false } as const

const linkLayer = (offset: number, template: number) =>
  ({ kind: 'payload', base: 0, offset, description: 17, template }) as const
const network = (offset: number, description: number, template: number) =>
  ({ kind: 'payload', base: 1, offset, description, template }) as const
const transport = (offset: number, template: number) =>
  ({ kind: 'payload', base: 2, offset, description: 11, template }) as const
const icmpv6 = (offset: number, template: number) =>
  ({ kind: 'payload', base: 2, offset, description: 6, template }) as const
const meta = (key: number) => ({ kind: 'meta', key }) as const
const ct = (key: number) => ({ kind: 'ct', key }) as const

const fields = {
  'ip saddr': { ...ip, load: network(12, 12, 11) },
  'ip daddr': { ...ip, load: network(16, 12, 12) },
  'ip6 saddr': { ...ip6, load: network(8, 13, 8) },
  'ip6 daddr': { ...ip6, load: network(24, 13, 9) },
  'ether daddr': { length: 6, type: dataTypes.etherAddress, bigEndian: true, load: linkLayer(0, 1) },
  'ether saddr': { length: 6, type: dataTypes.etherAddress, bigEndian: true, load: linkLayer(6, 2) },
  'arp saddr ip': { ...ip, family: 'arp', load: network(14, 15, 8) },
  'meta protocol': { length: 2, type: dataTypes.etherType, bigEndian: true, load: meta(1) },
  'meta l4proto': { ...host, length: 1, type: dataTypes.protocol, load: meta(16) },
  'meta nfproto': { ...host, length: 1, type: dataTypes.nfproto, load: meta(15) },
  'meta mark': { ...host, length: 4, type: dataTypes.mark, load: meta(3) },
  'meta priority': { ...host, length: 4, type: dataTypes.classId, load: meta(2) },
  iifname: { ...host, length: 16, type: dataTypes.interfaceName, load: meta(6) },
  oifname: { ...host, length: 16, type: dataTypes.interfaceName, load: meta(7) },
  'th sport': { ...port, load: transport(0, 1) },
  'th dport': { ...port, load: transport(2, 2) },
  'icmpv6 type': { family: 'ip6', length: 1, type: dataTypes.icmpv6Type, bigEndian: true, load: icmpv6(0, 1) },
  'icmpv6 taddr': { ...ip6, load: icmpv6(8, 9) },
  'ct state': { ...host, length: 4, type: dataTypes.ctState, load: ct(0) },
  'ct status': { ...host, length: 4, type: dataTypes.ctStatus, load: ct(2) },
  'ct direction': { ...host, length: 1, type: dataTypes.ctDirection, load: ct(1) },
  'fib daddr type': {
    ...host,
    length: 4,
    type: dataTypes.addressType,
    load: { kind: 'fib', result: 3, flags: 2 },
  },
} as const satisfies Record<Exclude<Expression, object>, Omit<Field, 'text'>>

const byText = Object.fromEntries(Object.entries(fields).map(([text, field]) => [text, { text, ...field }])) as Record<
  string,
  Field
>

/** The names of all fields but numgen. */
export const fieldNames = Object.keys(fields) as (keyof typeof fields)[]

export function fieldOf(expression: Expression): Field {
  if (typeof expression === 'string') return byText[expression] as Field
  if ('priorityMask' in expression) {
    const priority = byText['meta priority'] as Field
    const mask = expression.priorityMask
    return { ...priority, text: `${priority.text} & ${formatClassId(mask)}`, mask }
  }
  const modulus = expression.numgenRandom
  return {
    text: `numgen random mod ${modulus}`,
    ...host,
    length: 4,
    type: dataTypes.integer,
    load: { kind: 'numgen', modulus },
  }
}

/** A traffic control class as nft prints it: `f1a0:2`. */
export function formatClassId(value: number): string {
  return `${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`
}

/** Bytes in registers: a multiple of four. */
export function paddedLength(field: Field): number {
  return (field.length + 3) & ~3
}

/** Bytes of a whole key or of data in registers. */
export function registerLength(expressions: readonly Expression[]): number {
  return expressions.reduce((sum, expression) => sum + paddedLength(fieldOf(expression)), 0)
}

/** Bytes that the kernel keeps: one field has its own length, several are padded each. */
export function kernelLength(expressions: readonly Expression[]): number {
  const [only] = expressions
  return expressions.length === 1 && only !== undefined ? fieldOf(only).length : registerLength(expressions)
}

/** nft's type number of a key or of data: six bits a field. Beyond five fields nft loses the first ones. */
export function concatType(expressions: readonly Expression[]): number {
  return expressions.reduce<number>((type, expression) => ((type << 6) | fieldOf(expression).type) >>> 0, 0)
}

/** `ip daddr . th dport` */
export function formatKey(expressions: readonly Expression[]): string {
  return expressions.map((expression) => fieldOf(expression).text).join(' . ')
}
