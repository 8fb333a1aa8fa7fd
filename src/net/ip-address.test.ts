import { assert, constantFrom, property, tuple, uint8Array } from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  compareIp,
  ipFamilyOf,
  ipFromBigInt,
  ipFromBytes,
  ipToBigInt,
  ipToBytes,
  parseIp,
  writeIp,
} from './ip-address.ts'
import { ParseError } from './parse-error.ts'

const anyBytes = constantFrom(4, 16).chain((length) => uint8Array({ minLength: length, maxLength: length }))

describe('parseIp()', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['FD00::0001', 'fd00::1'],
    ['fd00:0:0:0:0:0:0:1', 'fd00::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::', '::'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
  ])('writes %s as %s', (text, expected) => {
    expect(parseIp(text)).toBe(expected)
  })

  test.each([
    '',
    'web',
    '10.0.0',
    '10.0.0.256',
    '010.0.0.1',
    '10.0.0.1/8',
    'fe80::1%eth0',
    'fd00::/64',
    ':::',
    '1::2::3',
  ])('refuses "%s" and names it', (text) => {
    expect(() => parseIp(text)).toThrow(ParseError)
    expect(() => parseIp(text)).toThrow(`"${text}" is not an IP address`)
  })
})

describe('ipFromBytes()', () => {
  test('gives the address whose bytes ipToBytes() writes, for any bytes', () => {
    assert(
      property(anyBytes, (bytes) => {
        const ip = ipFromBytes(bytes)
        expect([...ipToBytes(ip)]).toEqual([...bytes])
        expect(ipFamilyOf(ip)).toBe(bytes.length === 4 ? 4 : 6)
      }),
    )
  })

  test('gives text that parseIp() leaves as it is, IPv4-mapped addresses apart', () => {
    assert(
      property(anyBytes, (bytes) => {
        const ip = ipFromBytes(bytes)
        const mapped =
          bytes.length === 16 && bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 255 && bytes[11] === 255
        if (!mapped) expect(parseIp(ip)).toBe(ip)
      }),
    )
  })

  test('refuses other lengths', () => {
    expect(() => ipFromBytes(new Uint8Array(5))).toThrow('4 or 16 bytes, not 5')
  })
})

describe('ipFromBigInt()', () => {
  test('undoes ipToBigInt()', () => {
    assert(
      property(anyBytes, (bytes) => {
        const ip = ipFromBytes(bytes)
        expect(ipFromBigInt(ipToBigInt(ip), ipFamilyOf(ip))).toBe(ip)
      }),
    )
  })
})

describe('compareIp()', () => {
  test('orders as the numbers do, IPv4 first', () => {
    assert(
      property(tuple(anyBytes, anyBytes), ([a, b]) => {
        const [x, y] = [ipFromBytes(a), ipFromBytes(b)]
        const expected =
          ipFamilyOf(x) === ipFamilyOf(y)
            ? Number(ipToBigInt(x) > ipToBigInt(y)) - Number(ipToBigInt(x) < ipToBigInt(y))
            : ipFamilyOf(x) - ipFamilyOf(y)
        expect(Math.sign(compareIp(x, y))).toBe(Math.sign(expected))
      }),
    )
  })
})

describe('writeIp()', () => {
  test('writes at the offset and returns the length', () => {
    const into = new Uint8Array(20)
    expect(writeIp(parseIp('10.1.2.3'), into, 1)).toBe(4)
    expect(Array.from(into.subarray(0, 6))).toEqual([0, 10, 1, 2, 3, 0])
    expect(writeIp(parseIp('::1'), into, 4)).toBe(16)
    expect(into[19]).toBe(1)
  })
})
