import { describe, expect, test } from 'vitest'
import type { Node } from '../model/node.ts'
import { formatCidr, parseCidr, parseNetwork } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { planPodRoutes, type RouteFacts } from './plan-pod-routes.ts'
import { diffRoutes, podRouteProtocol } from './pod-routes.ts'
import type { Route } from '../rtnetlink/routes.ts'

const node = (name: string, addresses: readonly string[], podCIDRs: readonly string[]): Node => ({
  name,
  labels: {},
  addresses: addresses.map(parseIp),
  podCIDRs: podCIDRs.map(parseNetwork),
})

const facts = (nodes: readonly Node[], more: Partial<RouteFacts> = {}): RouteFacts => ({
  self: 'self',
  nodes,
  own: [parseNetwork('10.1.0.0/24'), parseNetwork('fd10:1::/64')],
  reserved: [{ range: parseNetwork('10.96.0.0/12'), what: 'the Service range 10.96.0.0/12' }],
  clusterCIDRs: [],
  links: [
    { index: 2, link: 'eth0', address: parseCidr('10.0.2.15/24') },
    { index: 3, link: 'eth1', address: parseCidr('192.168.56.11/24') },
    { index: 3, link: 'eth1', address: parseCidr('fd56::11/64') },
    { index: 4, link: 'tun0', address: parseCidr('203.0.113.1/32') },
  ],
  ...more,
})

describe('planPodRoutes()', () => {
  test('routes by the address that is on a link, in each family', () => {
    const b = node('b', ['10.7.7.7', '192.168.56.12', 'fd56::12'], ['10.1.1.0/24', 'fd10:2::/64'])
    const { routes, problems, pods, addresses } = planPodRoutes(
      facts([node('self', ['192.168.56.11'], ['10.1.0.0/24']), b]),
    )
    expect(routes).toEqual([
      { node: 'b', destination: parseNetwork('10.1.1.0/24'), via: '192.168.56.12', dev: 3, link: 'eth1' },
      { node: 'b', destination: parseNetwork('fd10:2::/64'), via: 'fd56::12', dev: 3, link: 'eth1' },
    ])
    expect(problems).toEqual([])
    expect(pods.map(formatCidr)).toEqual(['10.1.1.0/24', 'fd10:2::/64'])
    expect(addresses).toEqual(['10.7.7.7', '192.168.56.12', 'fd56::12'])
  })

  test.each<[string, readonly Node[], string, Partial<RouteFacts>?]>([
    [
      'is its own',
      [node('b', ['192.168.56.12'], ['10.1.0.128/25'])],
      "b: 10.1.0.128/25 cannot be its pods' network: the pods of this node (self) are in 10.1.0.0/24",
    ],
    [
      'two nodes claim',
      [node('c', ['192.168.56.13'], ['10.2.0.0/16']), node('b', ['192.168.56.12'], ['10.2.3.0/24'])],
      "c: 10.2.0.0/16 cannot be its pods' network: the pods of b are in 10.2.3.0/24",
    ],
    ['Services are in', [node('b', ['192.168.56.12'], ['10.97.0.0/24'])], 'it overlaps the Service range 10.96.0.0/12'],
    [
      'a link is in',
      [node('b', ['192.168.56.12'], ['192.168.56.0/25'])],
      'link eth1 of this node has 192.168.56.11/24',
    ],
    ['is half of the world', [node('b', ['192.168.56.12'], ['0.0.0.0/1'])], 'it is too large (expected /8 or smaller)'],
    ['a node is in', [node('b', ['10.3.0.1'], ['10.3.0.0/24'])], 'a node has the address 10.3.0.1 in it'],
    [
      "is not the cluster's",
      [node('b', ['192.168.56.12'], ['10.9.0.0/24'])],
      'it is not within services.clusterCIDRs (10.1.0.0/16)',
      { clusterCIDRs: [parseNetwork('10.1.0.0/16')] },
    ],
  ])('refuses a network that %s', (_name, nodes, problem, more) => {
    const plan = planPodRoutes(facts(nodes, more))
    expect(plan.problems).toHaveLength(1)
    expect(plan.problems[0]).toContain(problem)
    expect(plan.routes.length).toBe(nodes.length - 1)
  })

  test('says of a node whose address is one of the Services that it is not reached', () => {
    const { problems } = planPodRoutes(facts([node('b', ['10.99.0.2'], [])]))
    expect(problems).toEqual([
      'b: its address 10.99.0.2 is in the Service range 10.96.0.0/12: nothing else is reached there',
    ])
  })

  test.each([
    ['is elsewhere', ['198.51.100.7'], '198.51.100.7 is on no link of this node'],
    ['is one address of a tunnel', ['203.0.113.1'], '203.0.113.1 is on no link of this node'],
    ['has another family only', ['fd56::12'], 'the node has no IPv4 address'],
  ])('says that pods cannot be reached of a node that %s, and lets them in', (_name, addresses, problem) => {
    const plan = planPodRoutes(facts([node('b', addresses, ['10.1.1.0/24'])]))
    expect(plan.routes).toEqual([])
    expect(plan.problems[0]).toContain(`b: its pods (10.1.1.0/24) cannot be reached: `)
    expect(plan.problems[0]).toContain(problem)
    expect(plan.pods).toHaveLength(1)
  })
})

describe('diffRoutes()', () => {
  const wanted = {
    node: 'b',
    destination: parseNetwork('10.1.1.0/24'),
    via: parseIp('192.168.56.12'),
    dev: 3,
    link: 'eth1',
  }
  const present = (more: Partial<Route> = {}): Route => ({
    family: 4,
    destination: wanted.destination,
    type: 'unicast',
    table: 254,
    dev: 3,
    via: wanted.via,
    src: undefined,
    scope: 'global',
    metric: undefined,
    protocol: podRouteProtocol,
    ...more,
  })

  test.each<[string, readonly Route[], object]>([
    ['adds what is missing', [], { add: [wanted] }],
    ['leaves what is right', [present()], {}],
    ['replaces what leads elsewhere', [present({ via: parseIp('192.168.56.13') })], { replace: [wanted] }],
    ["leaves alone what is somebody else's", [present({ protocol: 3 })], { blocked: [wanted] }],
    [
      'removes what is of no use any more',
      [present(), present({ destination: parseNetwork('10.9.0.0/24') })],
      { remove: [present({ destination: parseNetwork('10.9.0.0/24') })] },
    ],
  ])('%s', (_name, routes, changes) => {
    expect(diffRoutes([wanted], routes)).toEqual({ add: [], replace: [], remove: [], blocked: [], ...changes })
  })
})
