import { describe, expect, test } from 'vitest'
import { formatCidr, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { formatTable } from '../nftables/format.ts'
import type { Lease } from './leases.ts'
import { compileMasquerade } from './masquerade.ts'
import { networkDefaults, type Network } from './network.ts'
import { planEndpoint, planHost } from './plan.ts'

const network: Network = {
  ...networkDefaults,
  name: 'default',
  bridge: 'fl0',
  mac: parseMac('02:00:00:00:00:01'),
  subnets: [
    { cidr: parseCidr('10.7.0.0/24'), gateway: parseIp('10.7.0.1') },
    { cidr: parseCidr('fd00:7::/64'), gateway: parseIp('fd00:7::1') },
  ],
  mtu: 1420,
}
const lease: Lease = {
  owner: 'pod default/web-1',
  network: 'default',
  ips: [parseIp('10.7.0.2'), parseIp('fd00:7::2')],
  mac: parseMac('02:00:00:00:00:02'),
  netns: '/run/netns/fl-default.web-1',
  bootId: 'boot',
}
const only4: Network = { ...network, name: 'four', bridge: 'fl4', subnets: network.subnets.slice(0, 1) }

describe('planHost()', () => {
  test('gives the first bridge the service addresses of families that it has, as single addresses', () => {
    const serviceAddresses = [parseIp('10.96.0.10'), parseIp('fd00:10:96::a')]
    const addresses = (networks: Network[]): string[][] =>
      planHost({ networks, leases: [], serviceAddresses }).bridges.map((bridge) => bridge.addresses.map(formatCidr))
    expect(addresses([network, only4])).toEqual([
      ['10.7.0.1/24', 'fd00:7::1/64', '10.96.0.10/32', 'fd00:10:96::a/128'],
      ['10.7.0.1/24'],
    ])
    expect(addresses([only4])).toEqual([['10.7.0.1/24', '10.96.0.10/32']])
  })

  test.each([
    [
      'both families',
      [network],
      ['net/ipv4/ip_forward', 'net/ipv4/conf/all/send_redirects', 'net/ipv6/conf/all/forwarding'],
    ],
    ['IPv4 only', [only4], ['net/ipv4/ip_forward', 'net/ipv4/conf/all/send_redirects']],
    ['nothing', [], []],
  ])('wants forwarding for %s', (_, networks, paths) => {
    const { sysctls } = planHost({ networks, leases: [], serviceAddresses: [] })
    expect(sysctls.map(({ path }) => path)).toEqual(paths)
  })

  test('leaves out leases of networks that are not there', () => {
    const leases = [lease, { ...lease, network: 'gone' }]
    expect(planHost({ networks: [network], leases, serviceAddresses: [] }).endpoints).toHaveLength(1)
  })
})

test('planEndpoint() gives addresses alone in their subnet, neighbour routes to the gateways and default routes by them', () => {
  const endpoint = planEndpoint(network, lease)
  expect(endpoint).toMatchObject({ alias: 'fairlead pod default/web-1', bridge: 'fl0', link: 'eth0', mtu: 1420 })
  expect(endpoint.port).toMatch(/^flv[0-9a-f]{12}$/)
  expect(endpoint.addresses.map(formatCidr)).toEqual(['10.7.0.2/32', 'fd00:7::2/128'])
  expect(endpoint.routes.map(({ destination, via }) => `${formatCidr(destination)} via ${via}`)).toEqual([
    '10.7.0.1/32 via undefined',
    'fd00:7::1/128 via undefined',
    '0.0.0.0/0 via 10.7.0.1',
    '::/0 via fd00:7::1',
  ])
})

test('compileMasquerade() has the subnets of masquerading networks and all bridges in its sets', () => {
  const bare = { ...only4, name: 'bare', bridge: 'fl9', masquerade: false }
  expect(formatTable(compileMasquerade([network, bare]))).toMatchInlineSnapshot(`
    "table inet fairlead-bridge {
    	comment "fairlead: bridge networks"
    	set bridges {
    		typeof oifname
    		elements = { "fl0",
    			     "fl9" }
    	}

    	set masquerade-4 {
    		typeof ip saddr
    		flags interval
    		elements = { 10.7.0.0/24 }
    	}

    	set masquerade-6 {
    		typeof ip6 saddr
    		flags interval
    		elements = { fd00:7::/64 }
    	}

    	chain postrouting {
    		type nat hook postrouting priority srcnat; policy accept;
    		ip saddr @masquerade-4 oifname != @bridges masquerade fully-random
    		ip6 saddr @masquerade-6 oifname != @bridges masquerade fully-random
    	}
    }
    "
  `)
})

test('compileMasquerade() gives a network the address that it asks for, and mode routed none', () => {
  const own = { ...network, masquerade: [parseIp('192.0.2.9')], gatewayModes: { 4: 'nat', 6: 'routed' } } as const
  const text = formatTable(compileMasquerade([own]))
  expect(text).toContain('ip saddr 10.7.0.0/24 oifname != @bridges snat ip to 192.0.2.9 comment "network default"')
  expect(text).not.toContain('fd00:7::')
})

describe('planHost() of pods in several networks', () => {
  const other: Network = {
    ...network,
    name: 'lan',
    bridge: 'fl-lan',
    subnets: [
      { cidr: parseCidr('10.8.0.0/24'), gateway: parseIp('10.8.0.1') },
      { cidr: parseCidr('10.9.0.0/24'), gateway: parseIp('10.9.0.1') },
    ],
  }
  const first = { ...lease, ips: [parseIp('10.7.0.2')] }
  const second: Lease = { ...lease, network: 'lan', ips: [parseIp('10.9.0.2')], link: 'eth1' }
  /** `LINK: ADDRESSES via ROUTES` of each endpoint. */
  const routesOf = (...networks: Network[]): string[] =>
    planHost({
      networks,
      leases: [first, second],
      serviceAddresses: [],
      served: [parseCidr('10.96.0.0/12')],
    }).endpoints.map(({ link, addresses, routes }) => {
      const ways = routes.map(
        ({ destination, via }) => formatCidr(destination) + (via === undefined ? '' : ` via ${via}`),
      )
      return `${link}: ${addresses.map(formatCidr).join(', ')}: ${ways.join(', ')}`
    })

  test('the first endpoint that leads out has the default route, the other one its subnets', () => {
    expect(routesOf(network, other)).toEqual([
      'eth0: 10.7.0.2/32: 10.7.0.1/32, 0.0.0.0/0 via 10.7.0.1',
      'eth1: 10.9.0.2/32: 10.9.0.1/32, 10.8.0.0/24 via 10.9.0.1, 10.9.0.0/24 via 10.9.0.1',
    ])
  })

  test('an internal network leads to its subnets and to what the host serves', () => {
    expect(routesOf({ ...network, internal: true }, other)).toEqual([
      'eth0: 10.7.0.2/32: 10.7.0.1/32, 10.7.0.0/24 via 10.7.0.1, 10.96.0.0/12 via 10.7.0.1',
      'eth1: 10.9.0.2/32: 10.9.0.1/32, 0.0.0.0/0 via 10.9.0.1',
    ])
  })

  test('an isolated network has its subnet on the link, and no address on the bridge', () => {
    const isolated: Network = { ...network, gatewayModes: { 4: 'isolated', 6: 'nat' } }
    expect(routesOf(isolated, other)[0]).toBe('eth0: 10.7.0.2/24: ')
    const [bridge] = planHost({ networks: [isolated], leases: [], serviceAddresses: [] }).bridges
    expect(bridge?.addresses.map(formatCidr)).toEqual(['fd00:7::1/64'])
  })
})
