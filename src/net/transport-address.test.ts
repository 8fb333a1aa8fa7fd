import { expect, test } from 'vitest'
import { isLoopback, parseIp } from './ip-address.ts'
import { parseTransportAddress } from './transport-address.ts'

test.each([
  ['10.96.0.5:80', { ip: '10.96.0.5', port: 80, protocol: 'tcp' }],
  ['[fd00::5]:53/udp', { ip: 'fd00::5', port: 53, protocol: 'udp' }],
  ['10.96.0.5:80/SCTP', { ip: '10.96.0.5', port: 80, protocol: 'sctp' }],
])('parseTransportAddress() reads %s', (text, expected) => {
  expect(parseTransportAddress(text)).toEqual(expected)
})

test.each(['10.96.0.5', 'fd00::5:80', 'web:80', '10.96.0.5:70000', '10.96.0.5:80/icmp', ''])(
  'parseTransportAddress() refuses "%s" and says what was expected',
  (text) => {
    expect(() => parseTransportAddress(text)).toThrow(`"${text}" (expected an IP address and a port`)
  },
)

test.each([
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['::1', true],
  ['10.0.0.127', false],
  ['::2', false],
])('isLoopback(%s): %s', (text, expected) => {
  expect(isLoopback(parseIp(text))).toBe(expected)
})
