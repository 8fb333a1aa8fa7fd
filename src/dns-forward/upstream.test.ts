import { describe, expect, test } from 'vitest'
import { parseName } from '../dns-message/name.ts'
import { parseUpstream, serversFor } from './upstream.ts'

describe('parseUpstream', () => {
  test.each([
    ['10.0.0.53', '10.0.0.53', 53, undefined],
    ['10.0.0.53:5353', '10.0.0.53', 5353, undefined],
    ['fd00::35', 'fd00::35', 53, undefined],
    ['fd00::35:5353', 'fd00::35:5353', 53, undefined],
    ['[fd00::35]:5353', 'fd00::35', 5353, undefined],
    ['[fd00::35]', 'fd00::35', 53, undefined],
    ['tls://9.9.9.9', '9.9.9.9', 853, { serverName: undefined }],
    ['tls://9.9.9.9#dns.quad9.net', '9.9.9.9', 853, { serverName: 'dns.quad9.net' }],
    ['tls://[2620:fe::9]:8853#dns.quad9.net', '2620:fe::9', 8853, { serverName: 'dns.quad9.net' }],
  ])('parseUpstream reads %s', (text, address, port, tls) => {
    expect(parseUpstream(text)).toMatchObject({ address, port, tls })
  })

  test.each([
    '',
    'dns.example',
    '10.0.0',
    '10.0.0.53:0',
    '10.0.0.53:70000',
    '10.0.0.53#name',
    'https://9.9.9.9',
    '10.0.0.53 ',
  ])('parseUpstream refuses "%s"', (text) => expect(() => parseUpstream(text)).toThrow(/not a/))
})

describe('serversFor', () => {
  const rule = (domain: string, server: string) => ({ domain: parseName(domain), servers: [parseUpstream(server)] })
  const rules = [rule('example', '10.0.0.1'), rule('corp.example', '10.0.0.2')]

  test.each([
    ['www.corp.example', '10.0.0.2'],
    ['CORP.example', '10.0.0.2'],
    ['notcorp.example', '10.0.0.1'],
    ['example.com', undefined],
  ])('serversFor finds the longest domain that %s is in', (name, server) => {
    expect(serversFor(parseName(name).key, rules)?.[0]?.key).toBe(server)
  })
})
