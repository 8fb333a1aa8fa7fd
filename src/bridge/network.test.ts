import { describe, expect, test } from 'vitest'
import type { BridgeSettings } from '../model/network.ts'
import { cidrsOverlap, formatCidr, parseCidr, parseNetwork } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { linkGroup } from './names.ts'
import { NetworkError } from './check-network.ts'
import { defineNetwork, type HostFacts } from './network.ts'

const settings: BridgeSettings = { name: 'default', bridge: 'fl0', subnets: [], masquerade: true }
const host: HostFacts = {
  routes: [
    { destination: parseCidr('0.0.0.0/0'), device: 'eth0' },
    { destination: parseCidr('192.0.2.0/24'), device: 'eth0' },
    { destination: parseCidr('198.51.100.0/24'), device: undefined },
  ],
  links: [{ name: 'eth0', alias: undefined, group: 0 }],
  machineId: '0123456789abcdef',
  reserved: [{ range: parseCidr('10.96.0.0/12'), what: 'Service addresses 10.96.0.0/12' }],
  uplinkMtu: 1500,
  ipv6: true,
  previous: [],
}
const cidrs = (network: { subnets: readonly { cidr: Parameters<typeof formatCidr>[0] }[] }): string[] =>
  network.subnets.map(({ cidr }) => formatCidr(cidr))
const route = (text: string, device = 'tun0') => ({ destination: parseCidr(text), device })

describe('defineNetwork()', () => {
  test('picks a /20 and a ULA /64 with the first address as gateway', () => {
    const network = defineNetwork(settings, host)
    expect(network.subnets.map(({ cidr, gateway }) => [formatCidr(cidr), gateway])).toEqual([
      ['172.29.0.0/20', '172.29.0.1'],
      [expect.stringMatching(/^fd[0-9a-f:]+::\/64$/), expect.stringMatching(/::1$/)],
    ])
    expect(network.mtu).toBe(1500)
  })

  test('decides the same again, and otherwise on another machine or for another name', () => {
    const network = defineNetwork(settings, host)
    expect(defineNetwork(settings, host)).toEqual(network)
    expect(network.mac).toMatch(/^.[26ae]:/)
    const elsewhere = defineNetwork(settings, { ...host, machineId: 'other' })
    expect(elsewhere.mac).not.toBe(network.mac)
    expect(cidrs(elsewhere)[1]).not.toBe(cidrs(network)[1])
    expect(cidrs(defineNetwork({ ...settings, name: 'b', bridge: 'b0' }, host))[1]).not.toBe(cidrs(network)[1])
  })

  test('picks around every route of the host', () => {
    const routes = ['172.16.0.0/12', '10.128.0.0/10', '10.192.5.0/24'].map((text) => route(text))
    const [ipv4] = defineNetwork(settings, { ...host, routes }).subnets
    expect(ipv4 && formatCidr(ipv4.cidr)).toBe('10.192.16.0/20')
    expect(routes.some(({ destination }) => cidrsOverlap(destination, ipv4!.cidr))).toBe(false)
  })

  test('keeps a subnet that was picked before, unless a route took it', () => {
    const previous = [parseNetwork('172.20.16.0/20')]
    expect(cidrs(defineNetwork(settings, { ...host, previous }))[0]).toBe('172.20.16.0/20')
    const routes = [route('172.20.17.0/24')]
    expect(cidrs(defineNetwork(settings, { ...host, previous, routes }))[0]).toBe('172.29.0.0/20')
  })

  test.each([
    ['127.0.0.0/8', 'loopback (127.0.0.0/8)'],
    ['224.1.0.0/24', 'multicast (224.0.0.0/4)'],
    ['fe80::/64', 'link-local (fe80::/10)'],
  ])('refuses subnet %s, which hosts cannot have addresses of', (subnet, reason) => {
    const wanted = { ...settings, subnets: [parseNetwork(subnet)] }
    expect(() => defineNetwork(wanted, { ...host, routes: [] })).toThrow(NetworkError)
    expect(() => defineNetwork(wanted, { ...host, routes: [] })).toThrow(`overlaps ${reason}`)
  })

  test('is not disturbed by the route of its own bridge', () => {
    const routes = [route('172.29.0.0/20', 'fl0')]
    expect(cidrs(defineNetwork(settings, { ...host, routes }))[0]).toBe('172.29.0.0/20')
  })

  test('adopts a bridge that carries its alias', () => {
    const links = [{ name: 'fl0', alias: 'fairlead network default', group: 0 }]
    expect(defineNetwork(settings, { ...host, links }).bridge).toBe('fl0')
  })

  test('adopts a bridge of ours that was cut off before it got its alias, but not one of another network', () => {
    const link = { name: 'fl0', alias: undefined, group: linkGroup }
    expect(defineNetwork(settings, { ...host, links: [link] }).bridge).toBe('fl0')
    const links = [{ ...link, alias: 'fairlead network other' }]
    expect(() => defineNetwork(settings, { ...host, links })).toThrow('its alias is "fairlead network other"')
  })

  test('has several subnets of a family, each with its gateway, range and auxiliary addresses', () => {
    const { subnets } = defineNetwork(
      {
        ...settings,
        subnets: ['10.1.0.0/24', 'fd00:1::/64', '10.2.0.0/24'].map(parseNetwork),
        gateways: [parseIp('10.2.0.254')],
        ipRanges: [parseNetwork('10.2.0.128/28')],
        auxAddresses: { router: parseIp('10.1.0.1'), printer: parseIp('10.2.0.7') },
      },
      host,
    )
    expect(subnets).toEqual([
      { cidr: parseCidr('10.1.0.0/24'), gateway: '10.1.0.2', aux: ['10.1.0.1'] },
      { cidr: parseCidr('10.2.0.0/24'), gateway: '10.2.0.254', range: parseCidr('10.2.0.128/28'), aux: ['10.2.0.7'] },
      { cidr: parseCidr('fd00:1::/64'), gateway: 'fd00:1::1' },
    ])
  })

  test('leaves IPv6 out when the kernel has none, and a family that is not wanted', () => {
    expect(cidrs(defineNetwork(settings, { ...host, ipv6: false }))).toEqual(['172.29.0.0/20'])
    expect(cidrs(defineNetwork({ ...settings, without: [4] }, host))).toHaveLength(1)
  })

  test('takes the MTU of the uplink, within what IPv6 needs', () => {
    expect(defineNetwork(settings, { ...host, uplinkMtu: 1420 }).mtu).toBe(1420)
    expect(defineNetwork(settings, { ...host, uplinkMtu: 576 }).mtu).toBe(1280)
    expect(defineNetwork({ ...settings, mtu: 9000 }, host).mtu).toBe(9000)
  })

  test.each<[string, Partial<BridgeSettings>, string]>([
    ['a name that is no label', { name: 'My Net' }, '"My Net" is not a name'],
    [
      'a bridge name of 16 bytes',
      { bridge: 'abcdefghijklmnop' },
      'bridge "abcdefghijklmnop" of network default cannot',
    ],
    ['a bridge name with a slash', { bridge: 'fl/0' }, 'bridge "fl/0" of network default cannot name a link'],
    ["a bridge that is someone else's", { bridge: 'eth0' }, 'bridge eth0 of network default exists and is not ours'],
    [
      'a subnet on a route',
      { subnets: [parseCidr('192.0.2.0/24')] },
      'subnet 192.0.2.0/24 of network default overlaps route 192.0.2.0/24 dev eth0',
    ],
    [
      'a subnet inside a route without device',
      { subnets: [parseCidr('198.51.100.128/25')] },
      'subnet 198.51.100.128/25 of network default overlaps route 198.51.100.0/24',
    ],
    [
      'a subnet around the Service range',
      { subnets: [parseCidr('10.0.0.0/8')] },
      'subnet 10.0.0.0/8 of network default overlaps Service addresses 10.96.0.0/12',
    ],
    ['host bits', { subnets: [parseCidr('10.1.2.3/24')] }, 'has host bits set (expected 10.1.2.0/24)'],
    [
      'a subnet without room',
      { subnets: [parseCidr('10.1.2.0/31')] },
      'has a prefix of 31 (expected a prefix from 8 to 30',
    ],
    [
      'two subnets that overlap',
      { subnets: [parseCidr('10.1.0.0/16'), parseCidr('10.1.2.0/24')] },
      'subnets 10.1.0.0/16 and 10.1.2.0/24 of network default overlap (expected ranges apart)',
    ],
    [
      'two gateways in one subnet',
      { subnets: [parseCidr('10.1.0.0/24')], gateways: [parseIp('10.1.0.1'), parseIp('10.1.0.2')] },
      'gateways 10.1.0.1 and 10.1.0.2 of network default are in one subnet (expected one at most)',
    ],
    [
      'a range outside',
      { subnets: [parseCidr('10.1.0.0/24')], ipRanges: [parseCidr('10.2.0.0/28')] },
      'range 10.2.0.0/28 of network default is outside of its subnet (expected an address in 10.1.0.0/24)',
    ],
    [
      'a range larger than its subnet',
      { subnets: [parseCidr('10.1.0.0/24')], ipRanges: [parseCidr('10.1.0.0/20')] },
      'range 10.1.0.0/20 of network default is larger than its subnet (expected one in 10.1.0.0/24)',
    ],
    [
      'an auxiliary address outside',
      { subnets: [parseCidr('10.1.0.0/24')], auxAddresses: { router: parseIp('10.1.1.1') } },
      'auxiliary address router 10.1.1.1 of network default is outside of its subnet',
    ],
    [
      'an auxiliary address that is the gateway',
      {
        subnets: [parseCidr('10.1.0.0/24')],
        gateways: [parseIp('10.1.0.9')],
        auxAddresses: { router: parseIp('10.1.0.9') },
      },
      'auxiliary address router (10.1.0.9) of network default is its gateway',
    ],
    ['the name of what is always there', { name: 'host' }, 'network host is always there and cannot be made'],
    [
      'an interface name with a colon',
      { interfaceName: 'eth0:1' },
      'interfaceName "eth0:1" of network default cannot name a link',
    ],
    [
      'a gateway outside',
      { subnets: [parseCidr('10.1.0.0/24')], gateways: [parseIp('10.2.0.1')] },
      'gateway 10.2.0.1 of network default is outside of its subnet (expected an address in 10.1.0.0/24)',
    ],
    [
      'the broadcast address as gateway',
      { subnets: [parseCidr('10.1.0.0/24')], gateways: [parseIp('10.1.0.255')] },
      'gateway 10.1.0.255 of network default is the broadcast address',
    ],
    [
      'a gateway without subnet',
      { gateways: [parseIp('10.1.0.1')] },
      'gateway 10.1.0.1 of network default has no IPv4 subnet that it could be in',
    ],
    [
      'an MTU too small',
      { mtu: 1000 },
      'mtu 1000 of network default cannot be used (expected a whole number from 1280',
    ],
    ['no family at all', { without: [4, 6] }, 'network default has no subnet'],
  ])('refuses %s', (_, change, message) => {
    const define = (): unknown => defineNetwork({ ...settings, ...change }, host)
    expect(define).toThrow(NetworkError)
    expect(define).toThrow(message)
  })

  test('says so when every pool is taken', () => {
    const routes = [route('172.16.0.0/12'), route('10.0.0.0/8')]
    expect(() => defineNetwork(settings, { ...host, routes })).toThrow(
      'no free IPv4 subnet is left for network default',
    )
  })
})
