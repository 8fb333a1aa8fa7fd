import { describe, expect, test } from 'vitest'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import type { LinkAddress } from '../rtnetlink/addresses.ts'
import type { Link } from '../rtnetlink/link.ts'
import { fairleadProtocol, RT_TABLE_MAIN, type Route } from '../rtnetlink/routes.ts'
import type { RoutingRule } from '../rtnetlink/rules.ts'
import { diffEndpoint, diffHost, ForeignLinkError, formatAction, type NamespaceState } from './diff.ts'
import { linkGroup } from './names.ts'
import type { BridgePlan, EndpointPlan, HostPlan } from './plan.ts'
import { sourceTable } from './source-routing.ts'

const bridge: BridgePlan = {
  name: 'fl0',
  network: 'default',
  alias: 'fairlead network default',
  mac: parseMac('02:00:00:00:00:01'),
  mtu: 1500,
  addresses: [parseCidr('10.7.0.1/24'), parseCidr('fd00:7::1/64')],
  routes: [{ destination: parseCidr('10.7.0.0/24'), src: parseIp('10.7.0.1') }],
  sysctls: [],
}
const endpoint: EndpointPlan = {
  port: 'flv1',
  alias: 'fairlead pod default/a',
  bridge: 'fl0',
  netns: '/run/netns/a',
  link: 'eth0',
  options: { hairpin: true, isolated: false },
  mac: parseMac('02:00:00:00:00:02'),
  mtu: 1500,
  addresses: [parseCidr('10.7.0.2/24')],
  routes: [{ destination: parseCidr('0.0.0.0/0'), via: parseIp('10.7.0.1') }],
}
const plan: HostPlan = { bridges: [bridge], endpoints: [endpoint], sysctls: [] }

function link(index: number, name: string, fields: Partial<Link> = {}): Link {
  return {
    index,
    name,
    kind: undefined,
    loopback: false,
    mac: undefined,
    mtu: 1500,
    master: undefined,
    up: true,
    carrier: true,
    operstate: 'up',
    group: 0,
    alias: undefined,
    peerIndex: undefined,
    peerNetnsId: undefined,
    port: undefined,
    bridge: undefined,
    ...fields,
  }
}
const address = (index: number, text: string): LinkAddress =>
  ({ link: index, address: parseCidr(text) }) as Partial<LinkAddress> as LinkAddress
const route = (dev: number, destination: string, via?: string, table = RT_TABLE_MAIN): Route =>
  ({
    dev,
    table,
    destination: parseCidr(destination),
    via: via && parseIp(via),
    type: 'unicast',
  }) as Partial<Route> as Route

const ours = { group: linkGroup } as const
const uplink = link(2, 'eth0', { mac: parseMac('02:00:00:00:00:99') })
const fl0 = link(3, 'fl0', { ...ours, kind: 'bridge', alias: bridge.alias, mac: bridge.mac })
const portSettings = { isolated: false, hairpin: true, learning: true }
const port = link(4, 'flv1', { ...ours, kind: 'veth', alias: endpoint.alias, master: 3, port: portSettings })
const whole: NamespaceState = {
  links: [uplink, fl0, port],
  addresses: [
    address(2, '192.0.2.1/24'),
    address(3, '10.7.0.1/24'),
    address(3, 'fd00:7::1/64'),
    address(3, 'fe80::1/64'),
  ],
  routes: [route(3, '10.7.0.0/24')],
}
const inWords = (state: NamespaceState, options?: { busy: ReadonlySet<string> }): string[] =>
  diffHost(state, plan, options).map(formatAction)
const withLinks = (...links: Link[]): NamespaceState => ({ ...whole, links: [uplink, ...links] })

describe('diffHost()', () => {
  test.each<[string, NamespaceState, string[]]>([
    ['nothing for a host that is right', whole, []],
    [
      'everything for an empty host',
      { links: [uplink], addresses: [], routes: [] },
      ['create bridge fl0', 'create endpoint pod default/a on bridge fl0'],
    ],
    ['a bridge that is down', withLinks({ ...fl0, up: false }, port), ['set link fl0 up true']],
    [
      'a bridge with another MAC and MTU',
      withLinks({ ...fl0, mac: parseMac('02:00:00:00:00:77'), mtu: 1400 }, port),
      ['set link fl0 mac 02:00:00:00:00:01, mtu 1500'],
    ],
    [
      'a bridge that never got its alias',
      withLinks({ ...fl0, alias: undefined }, port),
      ['set link fl0 alias fairlead network default'],
    ],
    ['a bridge outside of our group', withLinks({ ...fl0, group: 0 }, port), [`set link fl0 group ${linkGroup}`]],
    [
      'addresses that are missing or too many, but never link-local ones',
      { ...whole, addresses: [address(3, '10.7.0.1/24'), address(3, '10.8.0.1/24'), address(3, 'fe80::1/64')] },
      ['delete address 10.8.0.1/24 from link fl0', 'add address fd00:7::1/64 to link fl0'],
    ],
    ['a route that is missing', { ...whole, routes: [] }, ['add route 10.7.0.0/24 dev fl0']],
    [
      'no route while the address is missing, for it comes with that',
      { ...whole, addresses: [address(3, 'fd00:7::1/64')], routes: [] },
      ['add address 10.7.0.1/24 to link fl0'],
    ],
    [
      'a port without hairpin',
      withLinks(fl0, { ...port, port: { ...portSettings, hairpin: false } }),
      ['set link flv1 hairpin true'],
    ],
    ['a port that has no master', withLinks(fl0, { ...port, master: undefined }), ['add link flv1 to bridge fl0']],
    [
      'a port after its bridge, when both are to be made',
      withLinks({ ...port, master: undefined }),
      ['create bridge fl0', 'add link flv1 to bridge fl0'],
    ],
    [
      'a port whose bridge went, without settings that only a port of a bridge has',
      withLinks({ ...port, master: undefined, port: undefined }),
      ['create bridge fl0', 'add link flv1 to bridge fl0'],
    ],
    [
      'a port that never got its alias',
      withLinks(fl0, { ...port, alias: undefined }),
      ['delete link flv1 (it is half made)', 'create endpoint pod default/a on bridge fl0'],
    ],
    [
      'links of ours that nobody wants, first',
      withLinks(fl0, link(9, 'x', { alias: 'fairlead pod default/gone' }), link(8, 'y', ours)),
      [
        'delete link x (nobody wants it)',
        'delete link y (nobody wants it)',
        'create endpoint pod default/a on bridge fl0',
      ],
    ],
  ])('finds %s', (_, state, expected) => {
    expect(inWords(state)).toEqual(expected)
  })

  test('leaves alone what is being made or removed', () => {
    const busy = new Set(['flv1', 'flv2'])
    expect(inWords(withLinks(fl0, link(9, 'flv2', { ...ours, kind: 'veth' })), { busy })).toEqual([])
  })

  test.each([
    ['a bridge of nobody', { kind: 'bridge', alias: undefined, group: 0 }],
    ['a bridge of another network', { kind: 'bridge', alias: 'fairlead network b' }],
    ['no bridge', { kind: 'veth' }],
  ])('refuses %s in the place of ours', (_, fields) => {
    expect(() => inWords(withLinks({ ...fl0, ...fields }))).toThrow(ForeignLinkError)
  })
})

describe('diffEndpoint()', () => {
  const lo = link(1, 'lo', { loopback: true })
  const eth0 = link(2, 'eth0', { kind: 'veth', mac: endpoint.mac })
  const right: NamespaceState = {
    links: [lo, eth0],
    addresses: [address(1, '127.0.0.1/8'), address(2, '10.7.0.2/24')],
    routes: [route(2, '0.0.0.0/0', '10.7.0.1'), route(2, '10.7.0.0/24')],
  }
  test.each<[string, Partial<NamespaceState>, string[] | 'recreate']>([
    ['nothing when all is right', {}, []],
    ['what a pod added itself is left alone', { addresses: [...right.addresses, address(2, '10.9.9.9/32')] }, []],
    ['the loopback link', { links: [{ ...lo, up: false }, eth0] }, ['set link lo up true']],
    ['a link that is down', { links: [lo, { ...eth0, up: false }] }, ['set link eth0 up true']],
    ['an address', { addresses: [] }, ['add address 10.7.0.2/24 to link eth0']],
    [
      'a default route by another gateway',
      { routes: [route(2, '0.0.0.0/0', '10.7.0.99')] },
      ['add route 0.0.0.0/0 via 10.7.0.1'],
    ],
    ['a link that is not there', { links: [lo] }, 'recreate'],
    ['a link of another kind', { links: [lo, { ...eth0, kind: 'bridge' }] }, 'recreate'],
  ])('%s', (_, change, expected) => {
    const actions = diffEndpoint({ ...right, ...change }, endpoint)
    expect(actions === 'recreate' ? actions : actions.map(formatAction)).toEqual(expected)
  })
})

describe('diffEndpoint() of a pod in several networks', () => {
  const sources = [{ ip: parseIp('10.7.0.2'), gateway: parseIp('10.7.0.1') }]
  const table = sourceTable(2)
  const inside = {
    links: [link(2, 'eth0', { kind: 'veth', mac: endpoint.mac })],
    addresses: [address(2, '10.7.0.2/24')],
    routes: [route(2, '0.0.0.0/0', '10.7.0.1')],
  }
  const byTable = [...inside.routes, route(2, '0.0.0.0/0', '10.7.0.1', table)]
  const rule = (ip: string, table: number, protocol = fairleadProtocol): RoutingRule => ({
    family: 4,
    source: parseCidr(`${ip}/32`),
    table,
    priority: 26_220,
    protocol,
  })
  test.each<[string, NamespaceState, EndpointPlan['sources'], string[]]>([
    ['nothing with one network', { ...inside, rules: [] }, undefined, []],
    [
      'a table and a rule that are missing',
      { ...inside, rules: [] },
      sources,
      ['add route 0.0.0.0/0 via 10.7.0.1', 'add routing rule from 10.7.0.2'],
    ],
    ['nothing when both are there', { ...inside, routes: byTable, rules: [rule('10.7.0.2', table)] }, sources, []],
    [
      'the main route missing behind one in the table',
      { ...inside, routes: byTable.slice(1), rules: [rule('10.7.0.2', table)] },
      sources,
      ['add route 0.0.0.0/0 via 10.7.0.1'],
    ],
    [
      'rules of networks that it left, and none of other programs',
      { ...inside, rules: [rule('10.7.0.2', table), rule('10.9.0.2', sourceTable(3)), rule('10.9.0.2', 100, 4)] },
      undefined,
      ['delete routing rule from 10.7.0.2', 'delete routing rule from 10.9.0.2'],
    ],
  ])('finds %s', (_, state, sources, words) => {
    const actions = diffEndpoint(state, { ...endpoint, ...(sources && { sources }) })
    expect(actions === 'recreate' ? actions : actions.map(formatAction)).toEqual(words)
  })
})
