import { describe, expect, test } from 'vitest'
import type { LanSettings } from '../model/network.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import type { Link } from '../rtnetlink/link.ts'
import { checkParent, defineLanNetwork, lanLeadsOut, planLanEndpoint, type LanNetwork } from './lan-network.ts'
import type { Lease } from './leases.ts'
import { TakenRanges } from './taken-ranges.ts'

const settings: LanSettings = {
  driver: 'macvlan',
  name: 'lan',
  parent: 'eth1',
  mode: 'bridge',
  addresses: 'pool',
  subnets: [parseCidr('10.1.0.0/24'), parseCidr('fd00:1::/64')],
  mtu: undefined,
}
const define = (change: Partial<LanSettings> = {}): LanNetwork =>
  defineLanNetwork({ ...settings, ...change } as LanSettings, { taken: new TakenRanges([]) })

const lease: Lease = {
  owner: 'pod default/a',
  network: 'lan',
  ips: [parseIp('10.1.0.7'), parseIp('fd00:1::7')],
  mac: parseMac('02:00:00:00:00:07'),
  netns: '/run/netns/fl-default.a',
  link: 'eth0',
  bootId: 'boot',
}

describe('checkParent()', () => {
  const link = (name: string, change: Partial<Link> = {}): Link =>
    ({
      name,
      index: name.length * 7,
      mtu: 1500,
      kind: undefined,
      loopback: false,
      group: 0,
      alias: undefined,
      ...change,
    }) as Link
  const br = link('br-lan', { kind: 'bridge', index: 90 })
  const links = [link('lo', { loopback: true }), link('eth1'), br, link('port-1', { master: 90 })]
  const other = (change: Partial<LanSettings>): LanNetwork => ({ ...define(change), name: 'other' })

  test.each<{ what: string; change?: Partial<LanSettings>; others?: LanNetwork[]; error: RegExp }>([
    {
      what: 'a link that is not there',
      change: { parent: 'eth9' },
      error: /is no link of this host \(expected one of: eth1, port-1\)/,
    },
    { what: 'the loopback link', change: { parent: 'lo' }, error: /is the loopback link/ },
    {
      what: 'a port of a bridge',
      change: { parent: 'port-1' },
      error: /is a port of bridge br-lan, .*use br-lan itself/,
    },
    { what: 'too large an MTU', change: { mtu: 9000 }, error: /has an MTU of 1500/ },
    {
      what: 'a passthru beside another',
      change: { mode: 'passthru' },
      others: [other({})],
      error: /cannot be shared: macvlan network other of mode bridge/,
    },
    {
      what: 'another beside a passthru',
      others: [other({ mode: 'passthru' })],
      error: /cannot be shared: macvlan network other of mode passthru/,
    },
    {
      what: 'ipvlan beside macvlan',
      change: { driver: 'ipvlan', mode: 'l2' },
      others: [other({})],
      error: /cannot be shared/,
    },
  ])('refuses $what', ({ change, others = [], error }) => {
    expect(() => checkParent(define(change), { links, others })).toThrow(error)
  })

  test('takes a link, a bridge, and a link that a network of the same driver has', () => {
    expect(() => checkParent(define(), { links, others: [other({ mode: 'private' })] })).not.toThrow()
    expect(() => checkParent(define({ parent: 'br-lan' }), { links, others: [] })).not.toThrow()
  })
})

describe('planLanEndpoint()', () => {
  const both = { defaults: [4, 6] as const, several: false }

  test('macvlan: the addresses are in their subnets, and the router of the LAN is the way out', () => {
    expect(planLanEndpoint(define({ gateways: [parseIp('10.1.0.254')] }), lease, both)).toEqual({
      kind: 'macvlan',
      link: 'eth0',
      mac: lease.mac,
      mtu: undefined,
      addresses: [parseCidr('10.1.0.7/24'), parseCidr('fd00:1::7/64')],
      routes: [
        { destination: parseCidr('0.0.0.0/0'), via: '10.1.0.254' },
        { destination: parseCidr('::/0'), via: 'fd00:1::1' },
      ],
      sources: [],
    })
  })

  test('an endpoint beside others answers by itself, and has no default route that another has', () => {
    const plan = planLanEndpoint(define(), lease, { defaults: [], several: true })
    expect(plan.routes).toEqual([])
    expect(plan.sources).toEqual([
      { ip: '10.1.0.7', gateway: '10.1.0.1' },
      { ip: 'fd00:1::7', gateway: 'fd00:1::1' },
    ])
  })

  test('ipvlan l3: single addresses, a way out without router, and the MAC address of the parent', () => {
    const plan = planLanEndpoint(define({ driver: 'ipvlan', mode: 'l3' }), lease, both)
    expect(plan).toMatchObject({
      kind: 'ipvlan',
      mac: undefined,
      addresses: [parseCidr('10.1.0.7/32'), parseCidr('fd00:1::7/128')],
      routes: [{ destination: parseCidr('0.0.0.0/0') }, { destination: parseCidr('::/0') }],
    })
    expect(plan.routes.some(({ via }) => via !== undefined)).toBe(false)
  })

  test('dhcp: nothing is planned but the link, and IPv4 leads out as soon as there is an address', () => {
    const dhcp = define({ addresses: 'dhcp', subnets: [] })
    expect(planLanEndpoint(dhcp, { ...lease, ips: [parseIp('10.9.0.1')] }, both)).toMatchObject({
      addresses: [],
      routes: [],
    })
    expect(lanLeadsOut(dhcp, { ips: [] })).toEqual([4])
    expect(lanLeadsOut(define(), lease)).toEqual([4, 6])
  })
})
