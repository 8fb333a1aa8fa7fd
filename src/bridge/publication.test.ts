import { describe, expect, test } from 'vitest'
import { parsePublication, formatPublication, parsePublish, publicationsClash } from './publication.ts'

describe('parsePublish()', () => {
  test.each([
    [
      '8080:80',
      { hostIp: undefined, hostPorts: { first: 8080, last: 8080 }, ports: { first: 80, last: 80 }, protocol: 'tcp' },
    ],
    [
      '53:5353/udp',
      { hostIp: undefined, hostPorts: { first: 53, last: 53 }, ports: { first: 5353, last: 5353 }, protocol: 'udp' },
    ],
    [
      '127.0.0.1:8080:80/TCP',
      { hostIp: '127.0.0.1', hostPorts: { first: 8080, last: 8080 }, ports: { first: 80, last: 80 }, protocol: 'tcp' },
    ],
    [
      '[::1]:8080:80',
      { hostIp: '::1', hostPorts: { first: 8080, last: 8080 }, ports: { first: 80, last: 80 }, protocol: 'tcp' },
    ],
    ['[::]::80', { hostIp: '::', hostPorts: undefined, ports: { first: 80, last: 80 }, protocol: 'tcp' }],
    ['127.0.0.1::80', { hostIp: '127.0.0.1', hostPorts: undefined, ports: { first: 80, last: 80 }, protocol: 'tcp' }],
    [':80', { hostIp: undefined, hostPorts: undefined, ports: { first: 80, last: 80 }, protocol: 'tcp' }],
    ['80', { hostIp: undefined, hostPorts: undefined, ports: { first: 80, last: 80 }, protocol: 'tcp' }],
    [
      '8000-8009:80-89',
      { hostIp: undefined, hostPorts: { first: 8000, last: 8009 }, ports: { first: 80, last: 89 }, protocol: 'tcp' },
    ],
    [
      '8000-8009:80',
      { hostIp: undefined, hostPorts: { first: 8000, last: 8009 }, ports: { first: 80, last: 80 }, protocol: 'tcp' },
    ],
  ])('reads %s', (text, expected) => {
    expect(parsePublish(text)).toEqual(expected)
  })

  test.each([
    ['', 'is neither a port nor a range'],
    ['8080:', 'is neither a port nor a range'],
    ['8080:80/sctp', 'expected tcp or udp'],
    ['8080:80/', 'expected tcp or udp'],
    ['0:80', '0 is not a port'],
    ['8080:65536', '65536 is not a port'],
    ['8000-8009:80-85', '10 host ports for 6 ports'],
    ['80-81:80-82', '2 host ports for 3 ports'],
    ['90-80:80', 'ends before it begins'],
    ['::1:8080:80', 'stands in brackets'],
    ['[::1]:80', 'no port after'],
    ['localhost:8080:80', 'not an IP address'],
    ['224.0.0.1:8080:80', 'nothing can be published at 224.0.0.1'],
    ['[fe80::1]:8080:80', 'nothing can be published at fe80::1'],
    ['a:b', 'is neither a port nor a range'],
  ])('refuses %s, naming it', (text, message) => {
    expect(() => parsePublish(text)).toThrow(`--publish ${text}: `)
    expect(() => parsePublish(text)).toThrow(message)
  })
})

const publication = (hostIp: string | undefined, hostPort = 8080, protocol = 'tcp') =>
  parsePublication({ hostIp, hostPort, port: 80, protocol })

describe('publicationsClash()', () => {
  test.each([
    [undefined, undefined, true],
    [undefined, '127.0.0.1', true],
    ['0.0.0.0', '127.0.0.1', true],
    ['0.0.0.0', '::', false],
    ['0.0.0.0', '::1', false],
    ['127.0.0.1', '192.0.2.2', false],
    ['127.0.0.1', '127.0.0.1', true],
  ])('%s and %s: %s', (one, other, expected) => {
    expect(publicationsClash(publication(one), publication(other))).toBe(expected)
    expect(publicationsClash(publication(other), publication(one))).toBe(expected)
  })

  test('other ports and protocols do not clash', () => {
    expect(publicationsClash(publication(undefined), publication(undefined, 8081))).toBe(false)
    expect(publicationsClash(publication(undefined), publication(undefined, 8080, 'udp'))).toBe(false)
  })
})

test('formatPublication() writes addresses as people do', () => {
  expect(formatPublication(publication(undefined))).toBe('*:8080->80/tcp')
  expect(formatPublication(publication('::1'))).toBe('[::1]:8080->80/tcp')
  expect(formatPublication(publication('127.0.0.1', 53, 'udp'))).toBe('127.0.0.1:53->80/udp')
})
