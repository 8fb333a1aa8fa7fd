import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ipFromBytes } from '../net/ip-address.ts'
import { macFromBytes } from '../net/mac-address.ts'
import { AttributeWriter, NLA_F_NESTED } from './attribute-writer.ts'
import { AttributeError, decodeAttributes, encodeAttributes, type AttributeTable } from './attributes.ts'

const child = { size: { id: 1, type: 'u16be' }, label: { id: 2, type: 'string' } } as const satisfies AttributeTable
const table = {
  u8: { id: 1, type: 'u8' },
  u16: { id: 2, type: 'u16' },
  u32: { id: 3, type: 'u32' },
  s32: { id: 4, type: 's32' },
  u64: { id: 5, type: 'u64' },
  u16be: { id: 6, type: 'u16be' },
  u32be: { id: 7, type: 'u32be' },
  u64be: { id: 8, type: 'u64be' },
  string: { id: 9, type: 'string' },
  bytes: { id: 10, type: 'bytes' },
  ip: { id: 11, type: 'ip' },
  mac: { id: 12, type: 'mac' },
  flag: { id: 13, type: 'flag' },
  nest: { id: 14, type: 'nest', of: child },
  list: { id: 15, type: 'list', of: child, child: 1 },
} as const satisfies AttributeTable

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const text = fc.string().filter((text) => !text.includes('\0'))
const childValues = fc.record({ size: fc.integer({ min: 0, max: 65_535 }), label: text }, { requiredKeys: [] })
const values = fc.record(
  {
    u8: fc.integer({ min: 0, max: 255 }),
    u16: fc.integer({ min: 0, max: 65_535 }),
    u32,
    s32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    u64,
    u16be: fc.integer({ min: 0, max: 65_535 }),
    u32be: u32,
    u64be: u64,
    string: text,
    bytes: fc.uint8Array({ maxLength: 40 }),
    ip: fc.oneof(bytesOf(4), bytesOf(16)).map((bytes) => ipFromBytes(bytes)),
    mac: bytesOf(6).map((bytes) => macFromBytes(bytes)),
    flag: fc.constant(true),
    nest: childValues,
    list: fc.array(childValues, { maxLength: 4 }),
  },
  { requiredKeys: [] },
)

describe('encodeAttributes and decodeAttributes', () => {
  test('decodeAttributes: gives back what encodeAttributes wrote, for every kind of attribute', () => {
    fc.assert(
      fc.property(values, (values) => {
        expect(decodeAttributes(table, encodeAttributes(table, values))).toEqual(values)
      }),
    )
  })

  test('encodeAttributes: pads every attribute to four bytes', () => {
    fc.assert(fc.property(values, (values) => encodeAttributes(table, values).length % 4 === 0))
  })

  test.each([
    { name: 'u16be', values: { u16be: 0x1234 }, hex: '0600 0600 1234 0000' },
    { name: 'u32', values: { u32: 1 }, hex: '0800 0300 01000000' },
    { name: 'string', values: { string: 'lo' }, hex: '0700 0900 6c6f00 00' },
    { name: 'nest', values: { nest: { size: 1 } }, hex: '0c00 0e80 0600 0100 0001 0000' },
    { name: 'flag', values: { flag: true }, hex: '0400 0d00' },
    { name: 'flag that is false', values: { flag: false }, hex: '' },
    { name: 'undefined value', values: { u8: undefined }, hex: '' },
  ])('encodeAttributes: bytes of a $name', ({ values, hex }) => {
    expect(encodeAttributes(table, values).toString('hex')).toBe(hex.replaceAll(' ', ''))
  })

  test('decodeAttributes: passes over attributes that the table does not name', () => {
    expect(
      decodeAttributes(child, encodeAttributes(table, { u8: 1, ip: ipFromBytes(Buffer.alloc(4)) }).subarray(8)),
    ).toEqual({})
  })

  test.each([
    { what: 'a length over the end', hex: '0900 0100 01000000' },
    { what: 'a length under the header’s', hex: '0300 0100' },
    { what: 'a number that is cut short', hex: '0600 0300 0100 0000' },
    { what: 'a nest whose child runs over its end', hex: '0c00 0e80 0900 0100 00010000' },
  ])('decodeAttributes: refuses $what', ({ hex }) => {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex')
    expect(() => decodeAttributes(table, bytes)).toThrow(AttributeError)
  })

  test('decodeAttributes: random bytes give values or an error, never anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          decodeAttributes(table, bytes)
        } catch (error) {
          if (!(error instanceof Error) || !/^(AttributeError|ParseError)$/.test(error.name)) throw error
        }
      }),
    )
  })
})

describe('AttributeWriter', () => {
  test('endNest: refuses a nest that its 16-bit length cannot say', () => {
    const writer = new AttributeWriter()
    const nest = writer.beginNest(1)
    writer.raw(new Uint8Array(65_532))
    expect(() => writer.endNest(nest)).toThrow(RangeError)
  })

  test('bytesAttribute: refuses a payload that its 16-bit length cannot say', () => {
    expect(() => new AttributeWriter().bytesAttribute(1, new Uint8Array(65_532))).toThrow(RangeError)
  })

  test('beginNest: sets the nested flag', () => {
    const writer = new AttributeWriter()
    writer.endNest(writer.beginNest(5))
    expect(writer.bytes().readUInt16LE(2)).toBe(5 | NLA_F_NESTED)
  })

  test('truncate: what is written next takes the place of what was cut off', () => {
    const writer = new AttributeWriter(16)
    writer.u32(1, 7)
    const before = writer.length
    writer.string(2, 'a longer text than fits')
    writer.truncate(before)
    writer.u8(3, 1)
    expect(writer.bytes().toString('hex')).toBe('08000100070000000500030001000000')
  })
})
