import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import type { BridgeNetworks } from '../../src/bridge/bridge-networks.ts'
import type { FirewallTools } from '../../src/bridge/host-firewall.ts'
import { openBridgeKernel } from '../../src/bridge/kernel.ts'
import { openBridgeNetworks } from '../../src/bridge/open-bridge-networks.ts'
import { parsePublish } from '../../src/bridge/publication.ts'
import { openTools } from '../../src/iptables/open-tools.ts'
import { OwnRestores } from '../../src/iptables/own-restores.ts'
import { receiveFrom, sendTo, socket } from '../../src/linux/libc.ts'
import { writeSysctl } from '../../src/linux/sysctl.ts'
import { ipFamilyOf, ipToBytes, parseIp, type IpFamily } from '../../src/net/ip-address.ts'
import { openNftables } from '../../src/nftables/open-client.ts'
import {
  clients,
  reachabilityCases,
  targets,
  type Client,
  type Reach,
  type ReachabilityCase,
  type Target,
} from '../cases/reachability/reachability.ts'
import type { Host, Outcome } from '../lab/host.ts'
import { createLab, type Lab } from '../lab/lab.ts'
import { sleep } from './machine.ts'

const cases = reachabilityCases()
const addresses = {
  node: { 4: '192.0.2.2', 6: '2001:db8:2::2' },
  neighbour: { 4: '192.0.2.1', 6: '2001:db8:2::1' },
  far: { 4: '198.51.100.9', 6: '2001:db8:3::9' },
} as const

/** What guards the networks. The last one is a machine whose kernel has no nf_tables. */
const firewalls = ['nftables', 'iptables, nft tools', 'iptables, legacy tools alone'] as const
type FirewallName = (typeof firewalls)[number]

let stack: AsyncDisposableStack
let lab: Lab
let node: Host
let neighbour: Host
let far: Host
let networks: BridgeNetworks
const pods = new Map<string, { host: Host; ips: Record<IpFamily, string>; netns: string }>()

async function setUp(firewall: FirewallName): Promise<void> {
  stack = new AsyncDisposableStack()
  pods.clear()
  lab = stack.use(createLab())
  node = await lab.host('node')
  neighbour = await lab.host('neighbour')
  const router = await lab.host('router', { forward: true })
  far = await lab.host('far')
  // One LAN: node, neighbour and router are ports of a switch.
  const lan = await lab.host('switch')
  await lan.createBridge('br0')
  for (const [host, name, b] of [
    [node, 'uplink', ['192.0.2.2/24', '2001:db8:2::2/64']],
    [neighbour, 'eth0', ['192.0.2.1/24', '2001:db8:2::1/64']],
    [router, 'eth0', ['192.0.2.254/24', '2001:db8:2::fe/64']],
  ] as const) {
    await lab.link(lan, host, { aBridge: 'br0', bName: name, b })
  }
  await lab.link(router, far, {
    a: ['198.51.100.254/24', '2001:db8:3::fe/64'],
    b: ['198.51.100.9/24', '2001:db8:3::9/64'],
    bName: 'eth0',
  })
  await far.addRoute('0.0.0.0/0', { via: '198.51.100.254' })
  await far.addRoute('::/0', { via: '2001:db8:3::fe' })
  for (const host of [node, neighbour]) {
    await host.addRoute('198.51.100.0/24', { via: '192.0.2.254' })
    await host.addRoute('2001:db8:3::/64', { via: '2001:db8:2::fe' })
  }
  const kernel = stack.use(openBridgeKernel({ netns: node.netns }))
  const tools = await openFirewallTools(firewall)
  const stateDir = mkdtempSync(join(tmpdir(), 'fairlead-reach-'))
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  networks = stack.use(
    await openBridgeNetworks({
      stateDir,
      networks: [
        ...cases.map(({ network: { gatewayMode, ...network } }) => ({
          ...network,
          subnets: [],
          masquerade: true,
          gatewayModes: { 4: gatewayMode, 6: gatewayMode },
        })),
        { name: 'other', bridge: 'fl0', subnets: [], masquerade: true },
      ],
      machineId: 'test',
      bootId: 'boot',
      kernel,
      ...tools,
      log: silentLog,
      keepLease: () => true,
    }),
  )
  await attach('other', 'other')
  for (const [index, { network }] of cases.entries()) {
    await attach(network.name, 'client')
    await attach(
      network.name,
      'server',
      network.internal || network.gatewayMode === 'isolated' ? [] : publications(index),
    )
    const { host } = podOf(network.name, 'server')
    for (const port of [80, 81]) {
      stack.use(await host.listenTcp(port))
      stack.use(await host.listenUdp(port))
    }
  }
  // Whoever is outside knows the way to the pods: nothing but the firewall is between them.
  for (const { network } of networks.status()) {
    for (const { cidr } of network.subnets) {
      const family = ipFamilyOf(cidr.address)
      const destination = `${cidr.address}/${cidr.prefix}`
      for (const host of [neighbour, router]) await host.addRoute(destination, { via: addresses.node[family] })
    }
  }
}

async function openFirewallTools(firewall: FirewallName): Promise<FirewallTools> {
  const { netns } = node
  const nft = firewall === 'iptables, legacy tools alone' ? undefined : stack.use(openNftables({ netns }))
  if (firewall === 'nftables') return { nft }
  const { clients } = await openTools({ netns, variant: nft ? 'nft' : 'legacy' })
  return { nft, iptables: { clients, notifications: nft, restores: new OwnRestores() } }
}

const publishedPort = (index: number): number => 8000 + index
const loopbackPort = (index: number): number => 9000 + index
const publications = (index: number): string[] =>
  ['tcp', 'udp'].flatMap((protocol) => [
    `${publishedPort(index)}:80/${protocol}`,
    `127.0.0.1:${loopbackPort(index)}:80/${protocol}`,
  ])

async function attach(network: string, name: string, publish: readonly string[] = []): Promise<void> {
  const host = await lab.host(`${network}-${name}`)
  const { ips } = await networks.attach({
    owner: `pod ${network}/${name}`,
    network,
    netns: host.netns.path,
    publish: publish.map(parsePublish),
  })
  const of = (family: IpFamily): string => ips.find((ip) => ipFamilyOf(ip) === family) ?? ''
  pods.set(`${network}/${name}`, { host, ips: { 4: of(4), 6: of(6) }, netns: host.netns.path })
}

function podOf(network: string, name: string): { host: Host; ips: Record<IpFamily, string> } {
  const pod = pods.get(`${network}/${name}`)
  if (!pod) throw new Error(`there is no pod ${name} in ${network}`)
  return pod
}

function hostOf(client: Client, network: string): Host {
  switch (client) {
    case 'itself':
      return podOf(network, 'server').host
    case 'same network':
      return podOf(network, 'client').host
    case 'other network':
      return podOf('other', 'other').host
    case 'node':
      return node
    case 'neighbour':
      return neighbour
    case 'behind a router':
      return far
    default:
      return client satisfies never
  }
}

interface Attempt {
  readonly from: Client
  readonly target: Target
  readonly protocol: 'tcp' | 'udp'
  readonly family: IpFamily
  readonly expected: Reach
}

function attemptsOf(of: ReachabilityCase): Attempt[] {
  return targets.flatMap((target) =>
    clients.flatMap((from) =>
      (['tcp', 'udp'] as const).flatMap((protocol) =>
        ([4, 6] as const).flatMap((family): Attempt[] => {
          const expected = of.expect[target]?.[from]
          // The loopback publication is at 127.0.0.1: IPv6 has none that could be reached.
          if (expected === undefined || (target === 'loopback publication' && family === 6)) return []
          return [{ from, target, protocol, family, expected }]
        }),
      ),
    ),
  )
}

async function attempt({ from, target, protocol, family, expected }: Attempt, index: number): Promise<Reach> {
  const { network } = cases[index]!
  const server = podOf(network.name, 'server')
  const [address, port] = {
    'pod address': [server.ips[family], 80] as const,
    'unpublished port': [server.ips[family], 81] as const,
    'published address': [addresses.node[family], publishedPort(index)] as const,
    'loopback publication': [from === 'node' ? '127.0.0.1' : addresses.node[family], loopbackPort(index)] as const,
  }[target]
  const host = hostOf(from, network.name)
  const options = expected === 'no' ? { timeout: 300 } : {}
  const outcome = await (protocol === 'tcp'
    ? host.connectTcp(address, port, options)
    : host.connectUdp(address, port, options))
  return reachOf(outcome, { from, family, network: network.name })
}

function reachOf(
  outcome: Outcome,
  { from, family, network }: { from: Client; family: IpFamily; network: string },
): Reach {
  if (typeof outcome === 'string') return 'no'
  expect(outcome.reply).toBe(`${network}-server`)
  const gateway = networks.networks
    .find(({ name }) => name === network)
    ?.subnets.find(({ cidr }) => ipFamilyOf(cidr.address) === family)?.gateway
  const own: readonly (string | undefined)[] = {
    itself: [podOf(network, 'server').ips[family], '127.0.0.1', '::1'],
    'same network': [podOf(network, 'client').ips[family]],
    'other network': [podOf('other', 'other').ips[family]],
    node: [addresses.node[family], gateway],
    neighbour: [addresses.neighbour[family]],
    'behind a router': [addresses.far[family]],
  }[from]
  if (own.includes(outcome.seenSource)) return 'own'
  expect(outcome.seenSource, 'the source that the pod saw').toBe(gateway)
  return 'gateway'
}

describe.each(firewalls)('reachability through %s', (firewall) => {
  beforeAll(() => setUp(firewall))
  afterAll(() => stack.disposeAsync())

  describe.each([
    { netfilter: 'without br_netfilter', value: 0 },
    { netfilter: 'with br_netfilter', value: 1 },
  ])('$netfilter', ({ value }) => {
    beforeAll(() => {
      for (const name of ['iptables', 'ip6tables']) {
        writeSysctl(`net/bridge/bridge-nf-call-${name}`, String(value), { netns: node.netns })
      }
    })

    test.each(cases.map((of, index) => ({ ...of, index })))('$title', async (of) => {
      const results = await Promise.all(
        attemptsOf(of).map(async (one) => ({ one, reach: await attempt(one, of.index) })),
      )
      const words = ({ from, target, protocol, family }: Attempt, reach: Reach): string =>
        `${from} to ${target} by ${protocol} over IPv${family}: ${reach}`
      expect(results.map(({ one, reach }) => words(one, reach))).toEqual(
        results.map(({ one }) => words(one, one.expected)),
      )
    })
  })

  test('ping from outside', async () => {
    const answers = await Promise.all(
      cases.map(async ({ title, network }) => {
        const { ips } = podOf(network.name, 'server')
        return { title, answers: await Promise.all([ping(neighbour, ips[4]), ping(neighbour, ips[6])]) }
      }),
    )
    const expected = cases.map(({ title, network: { gatewayMode } }) => ({
      title,
      answers: [gatewayMode === 'routed', gatewayMode === 'routed'],
    }))
    expect(answers).toEqual(expected)
  })
})

/** Whether an ICMP echo request is answered within a while. */
async function ping(from: Host, ip: string): Promise<boolean> {
  const family = ip.includes(':') ? 6 : 4
  // AF_*, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_ICMP*; echo request, no identifier: the kernel fills in checksum and that.
  const [domain, protocol, type] = family === 4 ? ([2, 1, 8] as const) : ([10, 58, 128] as const)
  writeSysctl('net/ipv4/ping_group_range', '0 0', { netns: from.netns })
  const fd = from.netns.enter(() => socket(domain, 2 | 0x800, protocol))
  try {
    const address = Buffer.alloc(family === 4 ? 16 : 28)
    address.writeUInt16LE(domain)
    address.set(ipToBytes(parseIp(ip)), family === 4 ? 4 : 8)
    sendTo(fd, Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 1), address)
    for (let waited = 0; waited < 20; waited++) {
      await sleep(25)
      if (receiveFrom(fd, Buffer.alloc(64), Buffer.alloc(28)) !== undefined) return true
    }
    return false
  } finally {
    closeSync(fd)
  }
}
