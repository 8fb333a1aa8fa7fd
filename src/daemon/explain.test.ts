import { describe, expect, test } from 'vitest'
import { compileBridgeTable } from '../bridge/bridge-table.ts'
import { compileIptablesFirewall } from '../bridge/iptables-rules.ts'
import type { Lease } from '../bridge/leases.ts'
import { networkDefaults, type Network } from '../bridge/network.ts'
import { parseCidr } from '../net/cidr.ts'
import { ipFamilies, parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { parsePort } from '../net/port.ts'
import { parseProtocol } from '../net/protocol.ts'
import { compileServices, defaultProxySettings } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { compileTable } from '../proxy-nftables/nftables-table.ts'
import { explainPacket, type ExplainFacts } from './explain.ts'

const network = (name: string, subnet: string, more: Partial<Network> = {}): Network => ({
  ...networkDefaults,
  name,
  bridge: `fl-${name}`,
  mac: parseMac('02:00:00:00:00:01'),
  subnets: [subnet, `fd0${subnet[3]}::/64`].map((text) => ({
    cidr: parseCidr(text),
    gateway: parseIp(text.split('/')[0]!),
  })),
  mtu: 1500,
  ...more,
})
const networks = [network('front', '10.1.0.0/16'), network('inner', '10.2.0.0/16', { internal: true })]

const web = exampleService('web', { clusterIPs: ['10.96.0.5'], ports: ['80:30080/tcp'] })
const edge = exampleService('edge', {
  clusterIPs: ['10.96.0.6'],
  externalTrafficPolicy: 'Local',
  ports: ['443:30443/tcp'],
})
const remote = exampleService('remote', {
  clusterIPs: ['10.96.0.7'],
  externalTrafficPolicy: 'Local',
  ports: ['1:30001/tcp'],
})
const empty = exampleService('empty', { clusterIPs: ['10.96.0.8'] })
const inner = exampleService('inner', { clusterIPs: ['10.96.0.9'], ports: ['80:30009/tcp'] })
const snapshot = exampleSnapshot([
  [web, exampleSlice(web, ['10.1.0.2', '10.9.0.3'])],
  [edge, exampleSlice(edge, [{ address: '10.1.0.3', nodeName: 'here' }, '10.9.0.3'])],
  [remote, exampleSlice(remote, ['10.9.0.3'])],
  [empty],
  [inner, exampleSlice(inner, ['10.2.0.2'])],
])

const publication = (hostIp: string | undefined, hostPort: number, port: number) => ({
  hostIp: hostIp === undefined ? undefined : parseIp(hostIp),
  hostPort: parsePort(hostPort),
  port: parsePort(port),
  protocol: 'tcp' as const,
})
const published = [
  publication(undefined, 8080, 80),
  publication('127.0.0.1', 9090, 90),
  publication('192.0.2.3', 7070, 70),
  publication(undefined, 30080, 99),
]

const facts: ExplainFacts = {
  services: compileTable(compileServices(snapshot, { nodeName: 'here', settings: defaultProxySettings })),
  bridge: compileBridgeTable(networks, [
    { network: 'front', ips: [parseIp('10.1.0.2'), parseIp('fd01::2')], published },
  ]),
  isLocal: (ip) => ['192.0.2.2', '192.0.2.3', '127.0.0.1', '::1', '2001:db8::2'].includes(ip),
  networks: networks.map(({ bridge, subnets }) => ({ bridge, subnets: subnets.map(({ cidr }) => cidr) })),
  pods: [{ name: 'default/web-1', ips: ['10.1.0.2', 'fd01::2'].map(parseIp) }],
  refusing: ['forward ip filter FORWARD: policy drop'],
}

const iptables = new Map(
  ipFamilies.map((family) => {
    const lease: Lease = {
      owner: 'pod default/web-1',
      network: 'front',
      ips: [parseIp('10.1.0.2'), parseIp('fd01::2')],
      mac: parseMac('02:00:00:00:00:02'),
      netns: '/run/netns/web-1',
      bootId: 'boot',
      published,
    }
    const tables = compileIptablesFirewall(networks, [lease], { family, guardSources: false })
    return [
      family,
      new Map(
        tables.map(({ table, chains }) => [table, new Map([...chains].map(([name, rules]) => [name, [...rules]]))]),
      ),
    ]
  }),
)

function explain(text: string, more: Partial<ExplainFacts> = {}) {
  const [, ip = '', port, protocol = 'tcp'] = /^\[?([^\]]+?)\]?:(\d+)(?:\/(.*))?$/.exec(text) ?? []
  const to = { ip: parseIp(ip), port: parsePort(Number(port)), protocol: parseProtocol(protocol) }
  return explainPacket(to, { ...facts, ...more })
}

describe('explainPacket()', () => {
  const any = 'map published-any-4'
  test.each([
    ['192.0.2.2:8080', 'endpoints', '10.1.0.2:80', any],
    ['[2001:db8::2]:8080', 'endpoints', 'fd01::2:80', 'map published-any-6'],
    ['127.0.0.1:9090', 'endpoints', '10.1.0.2:90', 'map published-4'],
    ['192.0.2.3:7070', 'endpoints', '10.1.0.2:70', 'map published-4'],
    ['192.0.2.2:7070', 'host', '', 'no element matches'],
    ['192.0.2.2:8080/udp', 'host', '', 'no element matches'],
    ['198.51.100.1:8080', 'elsewhere', '', 'no element matches'],
    ['10.96.0.5:80', 'endpoints', '10.1.0.2:8080 10.9.0.3:8080', 'map frontends-4: a cluster IP'],
    ['10.96.0.5:81', 'refused', '', 'set cluster-ips-4'],
    ['10.96.0.8:80', 'refused', '', 'map frontends-4: a Service without endpoints'],
    // A node port comes before a published port of the same number.
    ['192.0.2.2:30080', 'endpoints', '10.1.0.2:8080 10.9.0.3:8080', 'map node-ports-4: a node port'],
    ['127.0.0.1:30080', 'endpoints', '10.1.0.2:99', any],
    ['192.0.2.2:30443', 'endpoints', '10.1.0.3:8080', 'map node-ports-4, then local-node-ports-4'],
    ['192.0.2.2:30001', 'dropped', '', 'map node-ports-4'],
    ['192.0.2.2:30009', 'dropped', '10.2.0.2:8080', 'map node-ports-4'],
  ])('%s: %s %s, by %s', (to, outcome, endpoints, decidedBy) => {
    const explanation = explain(to)
    expect(explanation.outcome).toBe(outcome)
    expect(explanation.endpoints.map(({ ip, port }) => `${ip}:${port}`).join(' ')).toBe(endpoints)
    expect(explanation.steps.map(({ what }) => what).join('\n')).toContain(decidedBy)
  })

  test('says every step, the pod, and who else may stop the packet', () => {
    expect(explain('192.0.2.2:8080')).toEqual({
      to: '192.0.2.2:8080/tcp',
      from: 'outside',
      outcome: 'endpoints',
      endpoints: [{ ip: '10.1.0.2', port: 80, pod: 'default/web-1' }],
      steps: [
        { where: 'nat prerouting, inet fairlead-services', what: 'no element matches' },
        {
          where: 'nat prerouting, inet fairlead-bridge',
          what: 'map published-any-4: published, leads to 10.1.0.2:80 (default/web-1)',
        },
        {
          where: 'filter forward, inet fairlead-bridge',
          what: 'translated (ct status dnat), so it may go to default/web-1 on fl-front',
        },
        {
          where: 'nat postrouting',
          what: "the client's address is kept (an endpoint that reaches itself sees its gateway)",
        },
      ],
      obstacles: ['forward ip filter FORWARD: policy drop'],
    })
  })

  test.each([
    ['192.0.2.2:8080', 'endpoints', '10.1.0.2:80', 'rule -p tcp -m tcp --dport 8080 -j DNAT'],
    ['[2001:db8::2]:8080', 'endpoints', 'fd01::2:80', '--to-destination [fd01::2]:80'],
    ['127.0.0.1:9090', 'endpoints', '10.1.0.2:90', 'rule -d 127.0.0.1/32 -p tcp'],
    ['192.0.2.2:7070', 'host', '', 'no element matches'],
    ['192.0.2.2:8080/udp', 'host', '', 'no element matches'],
    ['192.0.2.2:30009', 'dropped', '10.2.0.2:8080', 'rule -o fl-inner -j DROP'],
  ])('through iptables, %s: %s %s, by %s', (to, outcome, endpoints, decidedBy) => {
    const explanation = explain(to, { bridge: undefined, iptables })
    expect(explanation.outcome).toBe(outcome)
    expect(explanation.endpoints.map(({ ip, port }) => `${ip}:${port}`).join(' ')).toBe(endpoints)
    expect(explanation.steps.map(({ what }) => what).join('\n')).toContain(decidedBy)
  })

  test('says when a table is not there, and names nobody who could stop what stays on the host', () => {
    const gone = explain('192.0.2.2:8080', { bridge: undefined, services: undefined })
    expect(gone.steps.map(({ what }) => what)).toEqual(['there is no such table', 'there is no such table'])
    expect(gone.outcome).toBe('host')
    expect(explain('127.0.0.1:9090')).toMatchObject({ from: 'node', obstacles: [] })
  })
})
