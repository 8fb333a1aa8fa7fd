import { dataTypes, fieldNames, fieldOf, type Field, type FieldLoad } from './fields.ts'
import type { Expression, NftSet } from './objects.ts'

/*
 * User data: bytes that the kernel keeps for nft and never reads. Comments, and what `typeof` said. Type, length, value,
 * one byte each for the first two (struct nftnl_udata of libnftnl); numbers in host order. Layout as nft 1.0.6 writes it.
 */

/** enum nftnl_udata_set_types */
const setUserData = { keyOrder: 0, dataOrder: 1, keyTypeof: 3, dataTypeof: 4, dataInterval: 6, comment: 7 } as const
/** enum expr_types of nft */
const expressionTypes = { verdict: 1, payload: 7, meta: 9, ct: 12, concat: 13, numgen: 23, fib: 26 } as const
/** enum byteorder of nft */
const byteOrders = { invalid: 0, host: 1, big: 2 } as const
const NFTNL_UDATA_TABLE_COMMENT = 0
const NFTNL_UDATA_RULE_COMMENT = 0
/** The longest comment that nft accepts (NFTNL_UDATA_COMMENT_MAXLEN), without its NUL. */
const maxComment = 127
/** NFT_USERDATA_MAXLEN */
const maxUserData = 256

function item(type: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, value.length]), value])
}

function number(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return item(type, bytes)
}

function text(type: number, value: string): Buffer {
  return item(type, Buffer.from(`${value.slice(0, maxComment)}\0`))
}

export function tableUserData(comment: string): Buffer {
  return text(NFTNL_UDATA_TABLE_COMMENT, comment)
}

export function ruleUserData(comment: string): Buffer {
  return text(NFTNL_UDATA_RULE_COMMENT, comment)
}

/** NFTA_SET_USERDATA: byte orders, `typeof`, comment. */
export function encodeSetUserData(set: NftSet): Buffer {
  const parts = [number(setUserData.keyOrder, byteOrder(set.key))]
  if (set.data !== undefined) {
    parts.push(number(setUserData.dataOrder, set.data === 'verdict' ? byteOrders.invalid : byteOrder(set.data)))
  }
  parts.push(item(setUserData.keyTypeof, typeofKey(set.key)))
  if (set.data !== undefined) {
    const verdict = Buffer.concat([number(0, expressionTypes.verdict), item(1, Buffer.alloc(0))])
    parts.push(item(setUserData.dataTypeof, set.data === 'verdict' ? verdict : typeofKey(set.data)))
    parts.push(number(setUserData.dataInterval, 0))
  }
  if (set.comment !== undefined) {
    const room = maxUserData - Buffer.concat(parts).length - 3
    parts.push(text(setUserData.comment, set.comment.slice(0, room)))
  }
  return Buffer.concat(parts)
}

/** The user data of an anonymous set of a rule. */
export function anonymousSetUserData(key: Expression): Buffer {
  return Buffer.concat([
    number(setUserData.keyOrder, byteOrder([key])),
    item(setUserData.keyTypeof, typeofField(fieldOf(key))),
  ])
}

function byteOrder(key: readonly Expression[]): number {
  const [only] = key
  if (key.length !== 1 || only === undefined) return byteOrders.invalid
  return fieldOf(only).bigEndian ? byteOrders.big : byteOrders.host
}

function typeofKey(key: readonly Expression[]): Buffer {
  const [only] = key
  if (key.length === 1 && only !== undefined) return typeofField(fieldOf(only))
  const parts = key.map((expression, index) => item(index, typeofField(fieldOf(expression))))
  return Buffer.concat([number(0, expressionTypes.concat), item(1, Buffer.concat(parts))])
}

function typeofField(field: Field): Buffer {
  return Buffer.concat([number(0, expressionTypes[field.load.kind]), item(1, typeofLoad(field.load))])
}

function typeofLoad(load: FieldLoad): Buffer {
  switch (load.kind) {
    case 'payload':
      return Buffer.concat([number(0, load.description), number(1, load.template)])
    case 'meta':
      return number(0, load.key)
    case 'ct':
      // Direction -1: neither original nor reply.
      return Buffer.concat([number(0, load.key), number(1, -1)])
    case 'fib':
      return Buffer.concat([number(0, load.result), number(1, load.flags)])
    case 'numgen':
      // NFT_NG_RANDOM, modulus, offset
      return Buffer.concat([number(0, 1), number(1, load.modulus), number(2, 0)])
    default:
      return load satisfies never
  }
}

/** The comment in a table's user data. */
export function decodeTableComment(userData: Uint8Array): string | undefined {
  return textOf(items(userData).get(NFTNL_UDATA_TABLE_COMMENT))
}

/** What a set's user data says. `key` or `data` are undefined when `typeof` holds what this library cannot name. */
export function decodeSetUserData(userData: Uint8Array): {
  key: readonly Expression[] | undefined
  data: readonly Expression[] | undefined
  comment: string | undefined
} {
  const found = items(userData)
  return {
    key: readTypeof(found.get(setUserData.keyTypeof)),
    data: readTypeof(found.get(setUserData.dataTypeof)),
    comment: textOf(found.get(setUserData.comment)),
  }
}

const expressionByType = new Map<number, Expression>(
  fieldNames.map((name): [number, Expression] => [fieldOf(name).type, name]).reverse(),
)
expressionByType.set(dataTypes.integer, { numgenRandom: 1 })

/** A guess at the fields behind a type number, for sets that say `type` rather than `typeof`. */
export function keyOfType(type: number): readonly Expression[] | undefined {
  const key: Expression[] = []
  for (let rest = type; rest > 0; rest >>>= 6) {
    const expression = expressionByType.get(rest & 0x3f)
    if (expression === undefined) return undefined
    key.unshift(expression)
  }
  return key.length > 0 ? key : undefined
}

const expressionByTypeof = new Map<string, Expression>(
  fieldNames.map((name) => [typeofField(fieldOf(name)).toString('latin1'), name]),
)

function readTypeof(bytes: Buffer | undefined): readonly Expression[] | undefined {
  if (!bytes) return undefined
  const parts = items(bytes)
  const type = parts.get(0)?.readUInt32LE(0)
  if (type !== expressionTypes.concat) {
    const expression = readTypeofField(bytes)
    return expression === undefined ? undefined : [expression]
  }
  const key: Expression[] = []
  for (const part of items(parts.get(1) ?? Buffer.alloc(0)).values()) {
    const expression = readTypeofField(part)
    if (expression === undefined) return undefined
    key.push(expression)
  }
  return key
}

function readTypeofField(bytes: Buffer): Expression | undefined {
  const parts = items(bytes)
  if (parts.get(0)?.readUInt32LE(0) === expressionTypes.numgen) {
    const modulus = items(parts.get(1) ?? Buffer.alloc(0)).get(1)
    return modulus ? { numgenRandom: modulus.readUInt32LE(0) } : undefined
  }
  return expressionByTypeof.get(bytes.toString('latin1'))
}

function items(bytes: Uint8Array): Map<number, Buffer> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const found = new Map<number, Buffer>()
  for (let at = 0; at + 2 <= buffer.length;) {
    const length = buffer[at + 1] as number
    if (at + 2 + length > buffer.length) break
    found.set(buffer[at] as number, buffer.subarray(at + 2, at + 2 + length))
    at += 2 + length
  }
  return found
}

function textOf(bytes: Buffer | undefined): string | undefined {
  if (!bytes) return undefined
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end)
}
