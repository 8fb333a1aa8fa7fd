import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { createLab, type Lab } from '../../test/lab/lab.ts'
import type { Host } from '../../test/lab/host.ts'
import { silentLog } from '../base/log.ts'
import { writeSysctl } from '../linux/sysctl.ts'
import { parsePort } from '../net/port.ts'
import { openConntrack } from '../netlink/conntrack.ts'
import type { NftClient } from '../nftables/client.ts'
import { openNftables } from '../nftables/open-client.ts'
import type { BridgeNetworks } from './bridge-networks.ts'
import { openBridgeKernel, type BridgeKernel } from './kernel.ts'
import type { Lease } from './leases.ts'
import { bridgeTable } from './names.ts'
import { openBridgeNetworks } from './open-bridge-networks.ts'
import { parsePublish } from './publication.ts'

const stack = new AsyncDisposableStack()
let lab: Lab
let node: Host
let outside: Host
let kernel: BridgeKernel
let nft: NftClient
let networks: BridgeNetworks
let stateDir: string
let pods = 0

beforeAll(async () => {
  lab = stack.use(createLab())
  node = await lab.host('node')
  outside = await lab.host('outside')
  await lab.link(node, outside, {
    aName: 'uplink',
    a: ['192.0.2.2/24', '2001:db8:2::2/64'],
    b: ['192.0.2.1/24', '2001:db8:2::1/64'],
  })
  kernel = stack.use(openBridgeKernel({ netns: node.netns }))
  nft = stack.use(openNftables({ netns: node.netns }))
  stateDir = mkdtempSync(join(tmpdir(), 'fairlead-published-'))
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  networks = await open()
})
afterAll(async () => {
  await networks[Symbol.asyncDispose]()
  await stack.disposeAsync()
})

async function open(): Promise<BridgeNetworks> {
  return await openBridgeNetworks({
    stateDir,
    networks: [
      { name: 'default', bridge: 'fl0', subnets: [], masquerade: true },
      { name: 'quiet', bridge: 'fl1', subnets: [], masquerade: true, icc: false },
    ],
    machineId: 'test',
    bootId: 'boot',
    kernel,
    nft,
    log: silentLog,
    keepLease: () => true,
  })
}

interface TestPod extends AsyncDisposable {
  readonly host: Host
  readonly lease: Lease
  readonly ip: string
}

async function pod(...publish: string[]): Promise<TestPod> {
  return await podIn('default', publish)
}

async function podIn(network: string, publish: readonly string[] = []): Promise<TestPod> {
  const name = `pod${pods++}`
  const host = await lab.host(name)
  const lease = await networks.attach({
    owner: `pod default/${name}`,
    network,
    netns: host.netns.path,
    publish: publish.map(parsePublish),
  })
  return {
    host,
    lease,
    ip: lease.ips[0] ?? '',
    [Symbol.asyncDispose]: () => networks.detach(lease.owner, network),
  }
}

describe('attach() with publish', () => {
  test('a free port is chosen where none is asked for, the same for both families', async () => {
    await using one = await pod('80', '127.0.0.1::53/udp')
    const [http, dns] = one.lease.published ?? []
    expect(http).toMatchObject({ hostIp: undefined, port: 80, protocol: 'tcp' })
    expect(dns).toMatchObject({ hostIp: '127.0.0.1', port: 53, protocol: 'udp' })
    await using _tcp = await one.host.listenTcp(80)
    await using _udp = await one.host.listenUdp(53)
    expect(await outside.connectTcp('192.0.2.2', http!.hostPort)).toMatchObject({ reply: one.host.name })
    expect(await outside.connectTcp('2001:db8:2::2', http!.hostPort)).toMatchObject({ reply: one.host.name })
    expect(await node.connectUdp('127.0.0.1', dns!.hostPort)).toMatchObject({ reply: one.host.name })
  })

  test('refuses what cannot be, says why, and leaves nothing behind', async () => {
    await using _taken = await pod('192.0.2.2:7000:80')
    await using _tcp = await node.listenTcp(7001, { address: '127.0.0.1' })
    await using _udp = await node.listenUdp(7002, { address: '::' })
    const leases = networks.leases.size
    await expect(pod('7000:80')).rejects.toThrow(
      'cannot publish tcp port *:7000: pod default/pod1 has published it as 192.0.2.2:7000',
    )
    await expect(pod('7001:80')).rejects.toThrow('cannot publish tcp port *:7001: a program of this host listens there')
    await expect(pod('7002:80/udp')).rejects.toThrow('a program of this host listens there')
    await expect(pod('192.0.2.77:7003:80')).rejects.toThrow('this host has no address 192.0.2.77')
    await expect(pod('7004:80', '127.0.0.1:7004:81')).rejects.toThrow('it is asked for twice')
    await expect(pod('7000-7001:80')).rejects.toThrow('no tcp port from 7000 to 7001 is free')
    expect(networks.leases.size).toBe(leases)
    // Another address, another protocol, the next port of a range.
    await using next = await pod('127.0.0.1:7000:80', '7001:80/udp', '7000-7009:81')
    expect(next.lease.published?.at(-1)).toMatchObject({ hostPort: 7002 })
  })

  test('publications outlive a restart, and go with their pod', async () => {
    const one = await pod('7100:80')
    await using _listener = await one.host.listenTcp(80)
    await using connection = await outside.openTcp('192.0.2.2', 7100)
    await networks[Symbol.asyncDispose]()
    expect(await outside.connectTcp('192.0.2.2', 7100)).toMatchObject({ reply: one.host.name })
    networks = await open()
    expect(await networks.reconcile()).toEqual([])
    expect(await connection.echo('still there')).toBe('ok')
    expect(await outside.connectTcp('192.0.2.2', 7100)).toMatchObject({ reply: one.host.name })
    using conntrack = openConntrack({ netns: node.netns })
    const old = { family: 4, original: { protocol: 6, destinationPort: parsePort(7100) } } as const
    expect(await conntrack.list(old)).not.toEqual([])
    await one[Symbol.asyncDispose]()
    expect(await outside.connectTcp('192.0.2.2', 7100)).toBe('refused')
    await vi.waitFor(async () => expect(await conntrack.list(old)).toEqual([]))
  })

  test('a UDP client that goes on sending reaches whoever has the port now', async () => {
    const client = { sourceAddress: '192.0.2.1', sourcePort: 5555, timeout: 500 }
    expect(await outside.connectUdp('192.0.2.2', 7200, client)).toBe('refused')
    const one = await pod('7200:80/udp')
    await using _one = await one.host.listenUdp(80)
    expect(await outside.connectUdp('192.0.2.2', 7200, client)).toMatchObject({ reply: one.host.name })
    await one[Symbol.asyncDispose]()
    expect(await outside.connectUdp('192.0.2.2', 7200, client)).toBe('refused')
    await using two = await pod('7200:80/udp')
    await using _two = await two.host.listenUdp(80)
    expect(await outside.connectUdp('192.0.2.2', 7200, client)).toMatchObject({ reply: two.host.name })
  })
})

describe('the firewall', () => {
  test('nobody but the node reaches what is published or listens at 127.0.0.1', async () => {
    await using one = await pod('127.0.0.1:7300:80')
    await using two = await pod()
    await using _pod = await one.host.listenTcp(80)
    await using _node = await node.listenTcp(7301, { address: '127.0.0.1' })
    // As kube-proxy has it, for every link: then only rules are left to guard it.
    writeSysctl('net/ipv4/conf/all/route_localnet', '1', { netns: node.netns })
    for (const [host, link, via] of [
      [outside, 'node', '192.0.2.2'],
      [two.host, 'eth0', '172.29.0.1'],
    ] as const) {
      writeSysctl(`net/ipv4/conf/${link === 'node' ? 'node' : 'eth0'}/route_localnet`, '1', { netns: host.netns })
      await host.exec(['ip', 'addr', 'flush', 'dev', 'lo'])
      await host.exec(['ip', 'route', 'flush', 'table', 'local', '127.0.0.0/8'])
      expect(await host.exec(['ip', 'route', 'add', '127.0.0.1/32', 'via', via])).toMatchObject({ code: 0 })
      expect(await host.connectTcp('127.0.0.1', 7300, { timeout: 300 })).toBeTypeOf('string')
    }
    expect(await two.host.connectTcp('127.0.0.1', 7301, { timeout: 300 })).toBe('timeout')
    expect(await node.connectTcp('127.0.0.1', 7300)).toMatchObject({ reply: one.host.name })
    // The attack is a real one: without the rules, and with nobody to repair them, it gets in.
    await networks[Symbol.asyncDispose]()
    await node.exec(['nft', 'flush', 'chain', 'inet', bridgeTable, 'raw'])
    expect(await two.host.connectTcp('127.0.0.1', 7301)).toMatchObject({ reply: 'node' })
    networks = await open()
    writeSysctl('net/ipv4/conf/all/route_localnet', '0', { netns: node.netns })
  })

  test('a pod sends with its own addresses and MAC only', async () => {
    await using one = await pod()
    await using two = await pod()
    await using _node = await node.listenUdp(7400)
    const [ip4 = '', ip6 = ''] = one.lease.ips
    const [gateway4, gateway6] = networks.networks[0]!.subnets.map(({ gateway }) => gateway)
    const ask = (from: string) =>
      one.host.connectUdp((from.includes(':') ? gateway6 : gateway4) ?? '', 7400, { sourceAddress: from, timeout: 400 })
    expect(await ask(ip4)).toMatchObject({ seenSource: ip4 })
    expect(await ask(ip6)).toMatchObject({ seenSource: ip6 })
    for (const stolen of two.lease.ips) {
      await one.host.exec(['ip', 'addr', 'add', `${stolen}/${stolen.includes(':') ? 128 : 32}`, 'dev', 'eth0', 'nodad'])
      await one.host.exec(['ip', 'addr', 'add', stolen, 'dev', 'eth0'])
      expect(await ask(stolen)).toBe('timeout')
    }
    await one.host.exec(['ip', 'link', 'set', 'eth0', 'address', two.lease.mac])
    expect(await ask(ip4)).toBe('timeout')
    await one.host.exec(['ip', 'link', 'set', 'eth0', 'address', one.lease.mac])
    expect(await ask(ip4)).toMatchObject({ seenSource: ip4 })
  })

  test.each([
    { icc: 'without', network: 'quiet', expected: 'timeout' },
    { icc: 'with', network: 'default', expected: { seenSourcePort: 4000 } },
  ])('on the wire, past the gateway, neighbours $icc icc: $expected', async ({ network, expected }) => {
    await using one = await podIn(network)
    await using two = await podIn(network)
    await using _listener = await two.host.listenTcp(80)
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      for (const ip of to.lease.ips) {
        const { index } = await from.host.rtnetlink.links.get('eth0')
        await from.host.addRoute(`${ip}/${ip.includes(':') ? 128 : 32}`, { dev: 'eth0' })
        // The answer to ARP would not come either.
        await from.host.rtnetlink.neighbours.replace({ link: index, address: ip, mac: to.lease.mac })
      }
    }
    const timeout = expected === 'timeout' ? 400 : 3000
    for (const ip of two.lease.ips) {
      const outcome = await one.host.connectTcp(ip, 80, { timeout, sourcePort: 4000 })
      if (typeof expected === 'string') expect(outcome).toBe(expected)
      else expect(outcome).toMatchObject(expected)
    }
    for (const ip of two.lease.ips) expect(await node.connectTcp(ip, 80)).toMatchObject({ reply: two.host.name })
  })

  test('nft lists the rules of both tables readably', async () => {
    const inet = await node.exec(['nft', 'list', 'table', 'inet', bridgeTable])
    for (const rule of [
      'fib daddr type local ip daddr != 127.0.0.0/8 dnat ip to ip daddr . meta l4proto . th dport map @published-4',
      'fib daddr type local ip6 daddr != ::1 ip6 saddr != fe80::/10 dnat ip6 to meta l4proto . th dport map @published-any-6',
      'oifname @bridges ct status dnat accept',
      'ip daddr . meta l4proto . th dport @open-ports-4 accept',
    ]) {
      expect(inet.stdout).toContain(rule)
    }
    const bridge = await node.exec(['nft', 'list', 'table', 'bridge', bridgeTable])
    const [, rules] = bridge.stdout.split('chain prerouting {')
    expect(rules?.split('\n').map((line) => line.trim())).toEqual(
      expect.arrayContaining([
        'iifname != "flv*" accept',
        'iifname . ether saddr != @macs drop',
        'meta protocol != ip meta protocol != arp meta protocol != ip6 drop',
        'iifname . ether saddr . ip saddr != @sources-4 drop',
        'iifname . ether saddr . arp saddr ip != @sources-4 drop',
        'iifname . ether saddr . ip6 saddr != @sources-6 drop',
      ]),
    )
  })
})
