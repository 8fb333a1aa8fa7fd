import { ipFromBytes, ipToBytes, type IpAddress } from '../net/ip-address.ts'
import { macFromBytes, macToBytes, type MacAddress } from '../net/mac-address.ts'
import { AttributeWriter, NLA_TYPE_MASK } from './attribute-writer.ts'

/** The scalar kinds of attribute payloads, with the TypeScript type that each is read and written as. */
interface ScalarTypes {
  u8: number
  u16: number
  u32: number
  s32: number
  u64: bigint
  u16be: number
  u32be: number
  u64be: bigint
  /** NUL-terminated. */
  string: string
  bytes: Uint8Array
  /** 4 or 16 bytes in network order. */
  ip: IpAddress
  /** 6 bytes. */
  mac: MacAddress
  /** Present or not; no payload. */
  flag: boolean
}

type ScalarType = keyof ScalarTypes

/** One attribute of a table: its id in the kernel's header, and how its payload reads. */
export type AttributeSpec =
  | { readonly id: number; readonly type: ScalarType }
  | { readonly id: number; readonly type: 'nest'; readonly of: AttributeTable }
  /** A nest whose children all have the same kind, e.g. NFTA_LIST_ELEM or numbered elements. */
  | { readonly id: number; readonly type: 'list'; readonly of: AttributeTable; readonly child: number }

/** The attributes of one message or nest, by name. Written once; encoder, decoder and types come out of it. */
export type AttributeTable = { readonly [name: string]: AttributeSpec }

type ValueOf<S extends AttributeSpec> = S extends { type: ScalarType }
  ? ScalarTypes[S['type']]
  : S extends { type: 'nest'; of: infer T extends AttributeTable }
    ? AttributeValues<T>
    : S extends { type: 'list'; of: infer T extends AttributeTable }
      ? readonly AttributeValues<T>[]
      : never

/** What {@link encodeAttributes} takes and {@link decodeAttributes} gives for a table: every attribute is optional. */
export type AttributeValues<T extends AttributeTable> = { readonly [K in keyof T]?: ValueOf<T[K]> | undefined }

/** Writes `values` in the table's order. Undefined values, and flags that are false, are left out. */
export function writeAttributes<T extends AttributeTable>(
  writer: AttributeWriter,
  table: T,
  values: AttributeValues<T>,
): void {
  for (const name in table) {
    const value: unknown = values[name]
    if (value !== undefined) writeOne(writer, table[name] as AttributeSpec, value)
  }
}

/** {@link writeAttributes} into a buffer of its own. */
export function encodeAttributes<T extends AttributeTable>(table: T, values: AttributeValues<T>): Buffer {
  const writer = new AttributeWriter()
  writeAttributes(writer, table, values)
  return writer.bytes()
}

/** Reads the attributes that the table names; others are passed over. Throws {@link AttributeError} on broken lengths. */
export function decodeAttributes<T extends AttributeTable>(table: T, bytes: Uint8Array): AttributeValues<T> {
  const byId = tableIndex(table)
  const values: Record<string, unknown> = {}
  forEachAttribute(bytes, (id, payload) => {
    const name = byId.get(id)
    if (name !== undefined) values[name] = readOne(table[name] as AttributeSpec, payload, name)
  })
  return values as AttributeValues<T>
}

/** Attributes whose lengths or payloads do not fit together. */
export class AttributeError extends Error {
  override readonly name = 'AttributeError'
}

/** Calls `visit` for each attribute in `bytes`, with flag bits taken off the id. */
export function forEachAttribute(bytes: Uint8Array, visit: (id: number, payload: Buffer) => void): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  while (at + 4 <= buffer.length) {
    const length = buffer.readUInt16LE(at)
    if (length < 4 || at + length > buffer.length) {
      throw new AttributeError(`attribute at byte ${at} says ${length} bytes, ${buffer.length - at} are left`)
    }
    visit(buffer.readUInt16LE(at + 2) & NLA_TYPE_MASK, buffer.subarray(at + 4, at + length))
    at += (length + 3) & ~3
  }
}

function writeOne(writer: AttributeWriter, spec: AttributeSpec, value: unknown): void {
  switch (spec.type) {
    case 'u8':
    case 'u16':
    case 'u32':
    case 's32':
    case 'u16be':
    case 'u32be':
      return writer[spec.type](spec.id, value as number)
    case 'u64':
    case 'u64be':
      return writer[spec.type](spec.id, value as bigint)
    case 'string':
      return writer.string(spec.id, value as string)
    case 'bytes':
      return writer.bytesAttribute(spec.id, value as Uint8Array)
    case 'ip':
      return writer.bytesAttribute(spec.id, ipToBytes(value as IpAddress))
    case 'mac':
      return writer.bytesAttribute(spec.id, macToBytes(value as MacAddress))
    case 'flag':
      if (value === true) writer.flag(spec.id)
      return
    case 'nest': {
      const nest = writer.beginNest(spec.id)
      writeAttributes(writer, spec.of, value as AttributeValues<AttributeTable>)
      return writer.endNest(nest)
    }
    case 'list': {
      const list = writer.beginNest(spec.id)
      for (const item of value as readonly AttributeValues<AttributeTable>[]) {
        const child = writer.beginNest(spec.child)
        writeAttributes(writer, spec.of, item)
        writer.endNest(child)
      }
      return writer.endNest(list)
    }
    default:
      return spec satisfies never
  }
}

const payloadLengths: Partial<Record<ScalarType, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  u16be: 2,
  u32be: 4,
  u64be: 8,
}

function readOne(spec: AttributeSpec, payload: Buffer, name: string): unknown {
  const expected = spec.type === 'nest' || spec.type === 'list' ? undefined : payloadLengths[spec.type]
  if (expected !== undefined && payload.length < expected) {
    throw new AttributeError(`attribute ${name} has ${payload.length} bytes, expected ${expected}`)
  }
  switch (spec.type) {
    case 'u8':
      return payload[0]
    case 'u16':
      return payload.readUInt16LE()
    case 'u32':
      return payload.readUInt32LE()
    case 's32':
      return payload.readInt32LE()
    case 'u64':
      return payload.readBigUInt64LE()
    case 'u16be':
      return payload.readUInt16BE()
    case 'u32be':
      return payload.readUInt32BE()
    case 'u64be':
      return payload.readBigUInt64BE()
    case 'string': {
      const end = payload.indexOf(0)
      return payload.toString('utf8', 0, end < 0 ? payload.length : end)
    }
    case 'bytes':
      return Uint8Array.from(payload)
    case 'ip':
      return ipFromBytes(payload)
    case 'mac':
      return macFromBytes(payload)
    case 'flag':
      return true
    case 'nest':
      return decodeAttributes(spec.of, payload)
    case 'list': {
      const items: unknown[] = []
      forEachAttribute(payload, (_id, child) => items.push(decodeAttributes(spec.of, child)))
      return items
    }
    default:
      return spec satisfies never
  }
}

const indexes = new WeakMap<AttributeTable, ReadonlyMap<number, string>>()

function tableIndex(table: AttributeTable): ReadonlyMap<number, string> {
  let index = indexes.get(table)
  if (!index) indexes.set(table, (index = new Map(Object.entries(table).map(([name, spec]) => [spec.id, name]))))
  return index
}
