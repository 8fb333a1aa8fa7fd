import { assert, constantFrom, integer, property, uint8Array } from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  addressAt,
  cidrContains,
  cidrSize,
  cidrsOverlap,
  formatCidr,
  lastAddress,
  networkOf,
  parseCidr,
  parseNetwork,
} from './cidr.ts'
import { ipFromBytes, parseIp } from './ip-address.ts'

const anyCidr = constantFrom(4, 16).chain((length) =>
  uint8Array({ minLength: length, maxLength: length }).chain((bytes) =>
    integer({ min: 0, max: length * 8 }).map((prefix) => ({ address: ipFromBytes(bytes), prefix })),
  ),
)

describe('parseCidr()', () => {
  test.each([
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['10.1.2.3/24', '10.1.2.3/24'],
    ['FD00::/64', 'fd00::/64'],
    ['0.0.0.0/0', '0.0.0.0/0'],
  ])('reads %s as %s', (text, expected) => {
    expect(formatCidr(parseCidr(text))).toBe(expected)
  })

  test.each(['10.0.0.0', '10.0.0.0/33', 'fd00::/129', '10.0.0.0/', '/8', '10.0.0.0/-1', '10.0.0/8', '10.0.0.0/8/8'])(
    'refuses "%s" and names it',
    (text) => {
      expect(() => parseCidr(text)).toThrow(`"${text}" is not a network`)
    },
  )
})

describe('parseNetwork()', () => {
  test('refuses host bits and says what was probably meant', () => {
    expect(() => parseNetwork('10.1.2.3/24')).toThrow('expected the network itself: 10.1.2.0/24')
    expect(formatCidr(parseNetwork('10.1.2.0/24'))).toBe('10.1.2.0/24')
  })
})

describe('networkOf()', () => {
  test('keeps both ends of the network inside, and their neighbours outside', () => {
    assert(
      property(anyCidr, (cidr) => {
        const network = networkOf(cidr)
        expect(cidrContains(cidr, network.address)).toBe(true)
        expect(cidrContains(cidr, lastAddress(cidr))).toBe(true)
        expect(addressAt(cidr, cidrSize(cidr) - 1n)).toBe(lastAddress(cidr))
        expect(networkOf(network)).toEqual(network)
      }),
    )
  })
})

describe('cidrContains()', () => {
  test.each([
    ['10.96.0.0/12', '10.111.255.255', true],
    ['10.96.0.0/12', '10.112.0.0', false],
    ['0.0.0.0/0', 'fd00::1', false],
    ['fd00::/8', 'fdff::1', true],
  ])('%s, %s: %s', (network, ip, expected) => {
    expect(cidrContains(parseCidr(network), parseIp(ip))).toBe(expected)
  })
})

describe('cidrsOverlap()', () => {
  test.each([
    ['10.0.0.0/8', '10.1.0.0/16', true],
    ['10.1.0.0/16', '10.0.0.0/8', true],
    ['10.0.0.0/16', '10.1.0.0/16', false],
    ['10.0.0.0/8', 'fd00::/8', false],
  ])('%s, %s: %s', (a, b, expected) => {
    expect(cidrsOverlap(parseCidr(a), parseCidr(b))).toBe(expected)
  })
})
