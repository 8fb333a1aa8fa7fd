import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { networkOf, parseCidr } from '../net/cidr.ts'
import { ipFromBigInt, parseIp } from '../net/ip-address.ts'
import { macFromBytes, parseMac } from '../net/mac-address.ts'
import { arpProbe, decodeArp, encodeArp, showsConflict } from './arp-packet.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'
import { decodeMessage, dhcpMessageTypes, encodeMessage, type DhcpMessage } from './message.ts'
import type { DhcpOptions } from './options.ts'
import { decodeUdpPacket, encodeUdpPacket } from './udp-packet.ts'

const u8 = fc.integer({ min: 0, max: 0xff })
const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.nat(0xffff_ffff)
const ip = u32.map((value) => ipFromBigInt(BigInt(value), 4))
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes)
const text = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 600 })
  .map((codes) => String.fromCharCode(...codes))
const bytes = fc.uint8Array({ minLength: 1, maxLength: 600 })
const ips = fc.array(ip, { minLength: 1, maxLength: 100 })
const prefix = fc.integer({ min: 0, max: 32 })
const routes = fc.array(fc.record({ destination: fc.record({ address: ip, prefix }).map(networkOf), gateway: ip }), {
  minLength: 1,
  maxLength: 60,
})
const options: fc.Arbitrary<Omit<DhcpOptions, 'messageType'>> = fc.record(
  {
    subnetMask: ip, routers: ips, dnsServers: ips, hostname: text, domain: text, mtu: u16, broadcast: ip,
    requestedAddress: ip, leaseSeconds: u32, server: ip, requestedOptions: bytes, errorText: text,
    maxMessageSize: u16, renewSeconds: u32, rebindSeconds: u32, vendorClass: text, clientId: bytes, routes,
  },
  { requiredKeys: [] },
) // prettier-ignore
const message: fc.Arbitrary<DhcpMessage> = fc.record({
  type: fc.constantFrom(...dhcpMessageTypes),
  xid: u32,
  secs: u16,
  broadcast: fc.boolean(),
  ciaddr: ip,
  yiaddr: ip,
  siaddr: ip,
  giaddr: ip,
  chaddr: mac,
  options,
})

/** A well-formed ack with these bytes as its options, behind the message type. */
function ack(
  optionBytes: readonly number[],
  fields: { file?: readonly number[]; sname?: readonly number[] } = {},
): Buffer {
  const head = encodeMessage({
    type: 'ack', xid: 1, secs: 0, broadcast: false, ciaddr: parseIp('0.0.0.0'), yiaddr: parseIp('10.0.0.9'),
    siaddr: parseIp('0.0.0.0'), giaddr: parseIp('0.0.0.0'), chaddr: parseMac('02:00:00:00:00:01'), options: {},
  }).subarray(0, 243) // prettier-ignore
  head.set(fields.sname ?? [], 44)
  head.set(fields.file ?? [], 108)
  return Buffer.concat([head, Buffer.from(optionBytes)])
}

describe('decodeMessage', () => {
  test('reads what encodeMessage() wrote', () => {
    fc.assert(
      fc.property(message, (value) => {
        expect(decodeMessage(encodeMessage(value))).toEqual(value)
      }),
    )
  })

  test('any bytes are a message or a DhcpMessageError', () => {
    const whole = fc.uint8Array({ maxLength: 700 })
    const behindHeader = fc.uint8Array({ maxLength: 400 }).map((tail) => ack([...tail]))
    const damaged = fc.tuple(message, u16, u8).map(([value, at, byte]) => {
      const encoded = encodeMessage(value)
      encoded[at % encoded.length] = byte
      return encoded.subarray(0, 240 + (at % 400))
    })
    fc.assert(
      fc.property(fc.oneof(whole, behindHeader, damaged), (input) => {
        try {
          decodeMessage(Buffer.from(input))
        } catch (error) {
          expect(error).toBeInstanceOf(DhcpMessageError)
        }
      }),
      { numRuns: 500 },
    )
  })

  test.each([
    { what: 'an option that is longer than the message', bytes: [51, 4, 0, 0, 1], error: 'option 51 is longer' },
    { what: 'an option without a length', bytes: [51], error: 'option 51 is longer' },
    { what: 'a lease time of 3 bytes', bytes: [51, 3, 0, 0, 1, 255], error: '(leaseSeconds) must have 4 bytes' },
    { what: 'a server of 8 bytes', bytes: [54, 4, 1, 1, 1, 1, 54, 4, 1, 1, 1, 1, 255], error: '(server) must have 4' },
    { what: 'routers of 5 bytes', bytes: [3, 5, 1, 2, 3, 4, 5, 255], error: 'a multiple of 4' },
    { what: 'no routers', bytes: [3, 0, 255], error: 'a multiple of 4' },
    { what: 'an MTU of 1 byte', bytes: [26, 1, 5, 255], error: 'must have 2 bytes' },
    { what: 'an empty domain', bytes: [15, 1, 0, 255], error: 'at least one character' },
    { what: 'a route with 33 bits', bytes: [121, 9, 33, 1, 2, 3, 4, 1, 2, 3, 4, 255], error: 'prefix of 33 bits' },
    { what: 'half a route', bytes: [121, 5, 24, 10, 0, 0, 10, 255], error: 'ends within a route' },
    { what: 'a message type that there is not', bytes: [53, 1, 9, 255], error: 'must have 1 byte' },
    { what: 'an overload of 4', bytes: [52, 1, 4, 255], error: 'overload' },
    {
      what: 'an overloaded field that is cut off',
      bytes: [52, 1, 1, 255],
      file: [3, 200],
      error: 'option 3 is longer',
    },
  ])('refuses $what', ({ bytes: tail, file, error }) => {
    expect(() => decodeMessage(ack(tail, file ? { file } : {}))).toThrow(error)
  })

  test.each([
    { what: 'pads and unknown options', bytes: [0, 0, 224, 2, 1, 2, 0, 26, 2, 5, 220, 255], expected: { mtu: 1500 } },
    { what: 'no end mark', bytes: [26, 2, 5, 220], expected: { mtu: 1500 } },
    { what: 'a NUL behind a text', bytes: [15, 3, 97, 98, 0, 255], expected: { domain: 'ab' } },
    { what: 'nothing behind the end mark', bytes: [255, 26, 9], expected: {} },
    { what: 'options in sname and file', bytes: [52, 1, 3, 255], expected: { mtu: 1500, domain: 'a' } },
    {
      what: 'routes, their host bits cleared',
      bytes: [121, 13, 20, 10, 1, 47, 10, 0, 0, 1, 0, 10, 0, 0, 2, 255],
      expected: {
        routes: [
          { destination: parseCidr('10.1.32.0/20'), gateway: '10.0.0.1' },
          { destination: parseCidr('0.0.0.0/0'), gateway: '10.0.0.2' },
        ],
      },
    },
  ])('takes $what', ({ bytes: tail, expected }) => {
    const fields = { file: [26, 2, 5, 220, 255], sname: [15, 1, 97, 255] }
    expect(decodeMessage(ack(tail, fields)).options).toEqual(expected)
  })

  test.each([
    { what: 'a short message', change: (b: Buffer) => b.subarray(0, 239), error: 'at least 240 bytes' },
    { what: 'other hardware', change: (b: Buffer) => b.fill(6, 1, 2), error: 'other than Ethernet' },
    { what: 'BOOTP', change: (b: Buffer) => b.fill(0, 236, 240), error: 'BOOTP' },
    { what: 'an ack from a client', change: (b: Buffer) => b.fill(1, 0, 1), error: 'wrong side' },
    { what: 'a message without a type', change: (b: Buffer) => b.fill(0, 240), error: 'none given' },
  ])('refuses $what', ({ change, error }) => {
    expect(() => decodeMessage(change(ack([255])))).toThrow(error)
  })
})

describe('decodeUdpPacket', () => {
  const packet = fc.record({
    source: ip,
    destination: ip,
    sourcePort: u16,
    destinationPort: u16,
    payload: fc.uint8Array({ maxLength: 300 }).map((value) => Buffer.from(value)),
  })

  test('reads what encodeUdpPacket() wrote, with padding of the link behind it', () => {
    fc.assert(
      fc.property(packet, (value) => {
        const padded = Buffer.concat([encodeUdpPacket(value), Buffer.alloc(18)])
        expect(decodeUdpPacket(padded)).toEqual(value)
      }),
    )
  })

  test('a bit that changes in the header, or an end that is cut off, is a DhcpMessageError', () => {
    fc.assert(
      fc.property(packet, fc.nat(159), fc.nat(), (value, bit, length) => {
        const bytes = encodeUdpPacket(value)
        expect(() => decodeUdpPacket(bytes.subarray(0, length % bytes.length))).toThrow(DhcpMessageError)
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        expect(() => decodeUdpPacket(bytes)).toThrow(DhcpMessageError)
      }),
    )
  })

  test('any bytes are a packet or a DhcpMessageError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (input) => {
        for (const decode of [decodeUdpPacket, decodeArp]) {
          try {
            decode(Buffer.from(input))
          } catch (error) {
            expect(error).toBeInstanceOf(DhcpMessageError)
          }
        }
      }),
    )
  })
})

describe('showsConflict', () => {
  const own = { address: parseIp('10.0.0.9'), mac: parseMac('02:00:00:00:00:01') }
  const other = parseMac('02:00:00:00:00:02')
  const [zero, third] = [parseIp('0.0.0.0'), parseIp('10.0.0.3')]
  test.each([
    { what: 'its holder answers', kind: 'reply', senderMac: other, senderIp: own.address, expected: true },
    {
      what: 'another one asks for it without an address',
      kind: 'request',
      senderMac: other,
      senderIp: zero,
      expected: true,
    },
    { what: 'its holder asks for it', kind: 'request', senderMac: other, senderIp: own.address, expected: true },
    { what: 'a neighbour looks for its holder', kind: 'request', senderMac: other, senderIp: third, expected: false },
    { what: 'our own probe comes back', kind: 'request', senderMac: own.mac, senderIp: zero, expected: false },
  ] as const)('$what: $expected', ({ kind, senderMac, senderIp, expected }) => {
    const bytes = encodeArp({ kind, senderMac, senderIp, targetIp: own.address })
    expect(showsConflict(decodeArp(bytes), own)).toBe(expected)
  })

  test('arpProbe() claims nothing', () => {
    expect(decodeArp(arpProbe(own.mac, own.address))).toMatchObject({ senderIp: '0.0.0.0', targetIp: '10.0.0.9' })
  })
})
