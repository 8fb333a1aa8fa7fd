import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createLab, type Lab } from '../../test/lab/lab.ts'
import type { Host } from '../../test/lab/host.ts'
import { silentLog, type Log } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { createVeth } from '../rtnetlink/link-requests.ts'
import { openNftables } from '../nftables/open-client.ts'
import { maxPorts } from './bridge-full.ts'
import type { AttachRequest } from './attach-request.ts'
import type { BridgeNetworks, BridgeNetworksOptions } from './bridge-networks.ts'
import { openBridgeNetworks } from './open-bridge-networks.ts'
import { cleanupBridge } from './cleanup.ts'
import { openBridgeKernel, type BridgeKernel } from './kernel.ts'
import type { Lease } from './leases.ts'
import { bridgeTable, hostLinkName, type Owner } from './names.ts'
import { NetworkError } from './check-network.ts'

const dnsAddress = parseIp('10.96.0.10')
const dnsAddress6 = parseIp('fd00:10:96::a')

let stack: AsyncDisposableStack
let lab: Lab
let node: Host
let outside: Host
let kernel: BridgeKernel
let nft: NftClient
let stateDir: string
let repairs: string[]

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  lab = stack.use(createLab())
  node = await lab.host('node')
  outside = await lab.host('outside')
  await lab.link(node, outside, {
    aName: 'uplink',
    a: ['192.0.2.2/24', '2001:db8:2::2/64'],
    b: ['192.0.2.1/24', '2001:db8:2::1/64'],
  })
  await node.addRoute('0.0.0.0/0', { via: '192.0.2.1' })
  kernel = stack.use(openBridgeKernel({ netns: node.netns }))
  nft = stack.use(openNftables({ netns: node.netns }))
  stateDir = mkdtempSync(join(tmpdir(), 'fairlead-bridge-'))
  stack.defer(() => rmSync(stateDir, { recursive: true }))
  repairs = []
})
afterEach(() => stack.disposeAsync())

const log: Log = { ...silentLog, warn: (fields) => 'action' in fields && repairs.push(String(fields.action)) }

async function open(options: Partial<BridgeNetworksOptions> = {}): Promise<BridgeNetworks> {
  const networks = await openBridgeNetworks({
    stateDir,
    networks: [{ name: 'default', bridge: 'fl0', subnets: [], masquerade: true }],
    serviceAddresses: [dnsAddress, dnsAddress6],
    machineId: 'test',
    bootId: 'boot',
    kernel,
    nft,
    log,
    keepLease: () => true,
    ...options,
  })
  return stack.use(networks)
}

async function attach(
  networks: BridgeNetworks,
  name: string,
  options: Partial<AttachRequest> = {},
): Promise<{ host: Host; lease: Lease; ips: readonly [IpAddress, IpAddress] }> {
  const host = await lab.host(name)
  const owner: Owner = `pod default/${name}`
  const lease = await networks.attach({ owner, network: 'default', netns: host.netns.path, ...options })
  return { host, lease, ips: [lease.ips[0]!, lease.ips[1]!] }
}

/** To stop looking writes nothing, to the disk or to the kernel: whoever comes next finds what a kill leaves, too. */
const crash = async (networks: BridgeNetworks): Promise<void> => await networks[Symbol.asyncDispose]()

const linkNames = async (): Promise<string[]> => (await kernel.rtnetlink.links.list()).map(({ name }) => name).sort()

describe('BridgeNetworks', () => {
  test('pods reach each other and the node, at once, by IPv4 and IPv6', async () => {
    const networks = await open()
    const a = await attach(networks, 'a')
    const b = await attach(networks, 'b')
    for (const [index, ip] of b.ips.entries()) {
      await using _listener = await b.host.listenTcp(80, { address: ip })
      expect(await a.host.connectTcp(ip, 80)).toMatchObject({ reply: 'b', seenSource: a.ips[index] })
      expect(await node.connectTcp(ip, 80)).toMatchObject({ reply: 'b' })
    }
    for (const ip of [dnsAddress, dnsAddress6]) {
      await using _listener = await node.listenUdp(53, { address: ip })
      expect(await a.host.connectUdp(ip, 53)).toMatchObject({ reply: 'node' })
    }
  })

  test("inspect() counts what a pod received and sent, as the pod's own link does", async () => {
    const networks = await open()
    const { host, ips } = await attach(networks, 'a')
    await using _listener = await host.listenTcp(80, { address: ips[0] })
    await node.connectTcp(ips[0], 80)
    // Neighbour discovery of the first seconds comes between two looks now and then.
    await vi.waitFor(async () => {
      const [state] = (await networks.inspect('default')).values()
      const { stdout } = await host.exec(['ip', '-j', '-s', 'link', 'show', 'eth0'])
      const [{ stats64 }] = JSON.parse(stdout) as [{ stats64: Record<'rx' | 'tx', { packets: number; bytes: number }> }]
      const { rx, tx } = stats64
      expect(rx.packets).toBeGreaterThan(3)
      expect(state).toMatchObject({
        state: 'up',
        received: { packets: rx.packets, bytes: rx.bytes },
        sent: { packets: tx.packets, bytes: tx.bytes },
      })
    })
    expect((await networks.inspect('other')).size).toBe(0)
  })

  test('pods reach the outside with the address of the node', async () => {
    const networks = await open()
    const a = await attach(networks, 'a')
    for (const [ip, seen] of [
      ['192.0.2.1', '192.0.2.2'],
      ['2001:db8:2::1', '2001:db8:2::2'],
    ] as const) {
      await using _listener = await outside.listenTcp(80, { address: ip })
      expect(await a.host.connectTcp(ip, 80)).toMatchObject({ reply: 'outside', seenSource: seen })
    }
  })

  test('without masquerade, pods reach the outside with their own address', async () => {
    const networks = await open({ networks: [{ name: 'default', bridge: 'fl0', subnets: [], masquerade: false }] })
    const a = await attach(networks, 'a')
    await outside.addRoute('172.29.0.0/20', { via: '192.0.2.2' })
    await using _listener = await outside.listenTcp(80)
    expect(await a.host.connectTcp('192.0.2.1', 80)).toMatchObject({ seenSource: a.ips[0] })
  })

  test('with masquerade by given addresses, the outside sees those; in gateway mode routed, pods keep their own', async () => {
    await node.addAddresses('uplink', ['192.0.2.99/24', '2001:db8:2::99/64'])
    const settings = {
      name: 'default',
      bridge: 'fl0',
      subnets: [],
      masquerade: ['192.0.2.99', '2001:db8:2::99'].map(parseIp),
    }
    const networks = await open({
      networks: [settings, { ...settings, name: 'routed', bridge: 'fl1', gatewayModes: { 4: 'routed', 6: 'routed' } }],
    })
    const a = await attach(networks, 'a')
    const b = await attach(networks, 'b', { network: 'routed' })
    await using _listener = await outside.listenTcp(80)
    expect(await a.host.connectTcp('192.0.2.1', 80)).toMatchObject({ seenSource: '192.0.2.99' })
    expect(await a.host.connectTcp('2001:db8:2::1', 80)).toMatchObject({ seenSource: '2001:db8:2::99' })
    for (const { cidr } of networks.networks[1]!.subnets) {
      await outside.addRoute(`${cidr.address}/${cidr.prefix}`, {
        via: cidr.address.includes(':') ? '2001:db8:2::2' : '192.0.2.2',
      })
    }
    expect(await b.host.connectTcp('192.0.2.1', 80)).toMatchObject({ seenSource: b.ips[0] })
    expect(await b.host.connectTcp('2001:db8:2::1', 80)).toMatchObject({ seenSource: b.ips[1] })
  })

  test('attach() gives static addresses and MAC, and refuses what cannot be without leaving a trace', async () => {
    const networks = await open({
      networks: [{ name: 'default', bridge: 'fl0', subnets: [parseCidr('10.7.0.0/24')], masquerade: true }],
    })
    const a = await attach(networks, 'a', { ips: [parseIp('10.7.0.77')] })
    expect(a.ips[0]).toBe('10.7.0.77')
    const links = await linkNames()
    await expect(attach(networks, 'b', { ips: [parseIp('10.7.0.77')] })).rejects.toThrow('10.7.0.77 is in use already')
    await expect(attach(networks, 'c', { ips: [parseIp('10.8.0.1')] })).rejects.toThrow(
      'in no subnet of network default',
    )
    await expect(attach(networks, 'd', { network: 'other' })).rejects.toThrow('there is no network "other"')
    await expect(attach(networks, 'e', { netns: '/run/netns/not-there' })).rejects.toThrow('ENOENT')
    await expect(attach(networks, 'f', { owner: 'pod default/a' })).rejects.toThrow('has an endpoint already')
    expect(await linkNames()).toEqual(links)
    expect(networks.leases.size).toBe(1)
    expect(networks.status()[0]).toMatchObject({ endpoints: 1, pools: [{ used: 1 }, { used: 1 }] })
  })

  test('detach() takes the endpoint away, and is content when it is gone', async () => {
    const networks = await open()
    const links = await linkNames()
    const { lease } = await attach(networks, 'a')
    await networks.detach(lease.owner, 'default')
    await networks.detach(lease.owner, 'default')
    expect(await linkNames()).toEqual(links)
    expect(networks.leases.size).toBe(0)
  })

  test('attach() and detach() work for many at once', async () => {
    const networks = await open()
    const links = await linkNames()
    const names = Array.from({ length: 12 }, (_, index) => `p${index}`)
    const leases = (await Promise.all(names.map((name) => attach(networks, name)))).map(({ lease }) => lease)
    expect(new Set(leases.flatMap(({ ips }) => ips)).size).toBe(24)
    expect(await networks.reconcile()).toEqual([])
    await Promise.all(leases.map(({ owner }) => networks.detach(owner, 'default')))
    expect(await linkNames()).toEqual(links)
    expect(await networks.reconcile()).toEqual([])
  })

  test('attach() to a bridge that has all the ports it can have is a clear error, and leaves no trace', async () => {
    const networks = await open()
    const master = (await kernel.rtnetlink.links.get('fl0')).index
    const fill = Array.from({ length: maxPorts }, (_, index) =>
      createVeth({ name: `fill${index}`, master, up: false, peer: { name: `peer${index}` } }),
    )
    await kernel.rtnetlink.run(fill)
    await expect(attach(networks, 'a')).rejects.toThrow('bridge fl0 has 1023 ports, as many as a bridge can have')
    expect(networks.leases.size).toBe(0)
    expect(await linkNames()).not.toContain(hostLinkName('pod default/a'))
  })

  test('reconcile() has nothing to do after it was done', async () => {
    const networks = await open()
    await attach(networks, 'a')
    expect(await networks.reconcile()).toEqual([])
  })

  test.each<[string, readonly string[], string]>([
    ['the bridge', ['ip', 'link', 'del', 'fl0'], 'create bridge fl0'],
    ['the port', ['ip', 'link', 'del', hostLinkName('pod default/b')], 'create endpoint pod default/b on bridge fl0'],
    ['the mastership', ['ip', 'link', 'set', hostLinkName('pod default/b'), 'nomaster'], 'to bridge fl0'],
    [
      'the gateway address',
      ['ip', 'addr', 'del', '172.29.0.1/20', 'dev', 'fl0'],
      'add address 172.29.0.1/20 to link fl0',
    ],
    ['the route', ['ip', 'route', 'del', '172.29.0.0/20'], 'add route 172.29.0.0/20 dev fl0'],
    ['the bridge being up', ['ip', 'link', 'set', 'fl0', 'down'], 'set link fl0 up true'],
    ["the port's being up", ['ip', 'link', 'set', hostLinkName('pod default/b'), 'down'], 'up true'],
    ['an alias', ['ip', 'link', 'set', 'fl0', 'alias', ''], 'set link fl0 alias fairlead network default'],
  ])('repairs %s within a second, and says so', async (_, argv, repair) => {
    const networks = await open()
    const a = await attach(networks, 'a')
    const b = await attach(networks, 'b')
    await using _a = await b.host.listenTcp(80, { address: '0.0.0.0' })
    await using _b = await b.host.listenTcp(81, { address: '::' })
    expect(await node.exec(argv)).toMatchObject({ code: 0 })
    await vi.waitFor(() => expect(repairs.join()).toContain(repair), { timeout: 1000 })
    await vi.waitFor(async () => expect(await networks.reconcile()).toEqual([]), { timeout: 1000 })
    expect(await a.host.connectTcp(b.ips[0], 80)).toMatchObject({ reply: 'b' })
    expect(await a.host.connectTcp(b.ips[1], 81)).toMatchObject({ reply: 'b' })
    expect(await node.connectTcp(b.ips[0], 80)).toMatchObject({ reply: 'b' })
  })

  test('repairs the masquerade table, whatever others did to it', async () => {
    const networks = await open()
    const a = await attach(networks, 'a')
    await using _listener = await outside.listenTcp(80)
    for (const argv of [
      ['nft', 'flush', 'ruleset'],
      ['nft', 'flush', 'chain', 'inet', bridgeTable, 'postrouting'],
      ['nft', 'add', 'element', 'inet', bridgeTable, 'bridges', '{ "uplink" }'],
    ]) {
      expect(await node.exec(argv)).toMatchObject({ code: 0 })
      await vi.waitFor(
        async () => {
          const { stdout } = await node.exec(['nft', 'list', 'table', 'inet', bridgeTable])
          expect(stdout).toMatch(/ip saddr @masquerade-4 oifname != @bridges masquerade/)
          expect(stdout).toMatch(/elements = \{ 172.29.0.0\/20 \}/)
          expect(stdout).not.toContain('uplink')
        },
        { timeout: 1000 },
      )
      expect(await a.host.connectTcp('192.0.2.1', 80)).toMatchObject({ seenSource: '192.0.2.2' })
    }
  })

  test('a start after a crash adopts everything as it is', async () => {
    const crashed = await open()
    const a = await attach(crashed, 'a')
    const b = await attach(crashed, 'b')
    await crash(crashed)
    const before = await kernel.rtnetlink.links.list()
    const again = await open()
    const after = await kernel.rtnetlink.links.list()
    expect(after.map(({ index, name, mac }) => [index, name, mac])).toEqual(
      before.map(({ index, name, mac }) => [index, name, mac]),
    )
    expect([...again.leases.values()]).toEqual([a.lease, b.lease])
    expect(await again.reconcile()).toEqual([])
    expect((await attach(again, 'c')).ips[0]).toBe('172.29.0.4')
  })

  test('a start after a crash reclaims what nobody holds any more', async () => {
    const crashed = await open()
    const links = await linkNames()
    await attach(crashed, 'a')
    await attach(crashed, 'b')
    await crash(crashed)
    // A port without a lease.
    await kernel.rtnetlink.links.createVeth({ name: 'flvleft', alias: 'fairlead pod x/y', peer: { name: 'peer' } })
    const again = await open({ keepLease: ({ owner }) => owner === 'pod default/b' })
    expect([...again.leases.keys()]).toEqual(['default/pod default/b'])
    expect(await linkNames()).toEqual([...links, hostLinkName('pod default/b')].sort())
    await crash(again)
    const rebooted = await open({ bootId: 'next boot' })
    expect(rebooted.leases.size).toBe(0)
    expect(await linkNames()).toEqual(links)
  })

  test('a start finds out what was broken while nobody looked, inside pods too', async () => {
    const first = await open()
    const a = await attach(first, 'a')
    const b = await attach(first, 'b')
    await first[Symbol.asyncDispose]()
    await node.exec(['ip', 'link', 'del', 'fl0'])
    await a.host.exec(['ip', 'addr', 'flush', 'dev', 'eth0'])
    await b.host.exec(['ip', 'link', 'del', 'eth0'])
    await open()
    await using _listener = await b.host.listenTcp(80)
    expect(await a.host.connectTcp(b.ips[0], 80)).toMatchObject({ reply: 'b', seenSource: a.ips[0] })
  })

  test('refuses a bridge that is not ours, a subnet on a route, and a changed subnet under pods, changing nothing', async () => {
    await node.exec(['ip', 'link', 'add', 'fl0', 'type', 'bridge'])
    const links = await linkNames()
    await expect(open()).rejects.toThrow('bridge fl0 of network default exists and is not ours')
    const settings = { name: 'default', bridge: 'fl1', masquerade: true }
    const overlapping = { ...settings, subnets: [parseCidr('192.0.2.0/25')] }
    await expect(open({ networks: [overlapping] })).rejects.toThrow(
      'subnet 192.0.2.0/25 of network default overlaps route 192.0.2.0/24 dev uplink',
    )
    expect(await linkNames()).toEqual(links)
    expect(await nft.listTables()).toEqual([])
    const networks = await open({ networks: [{ ...settings, subnets: [] }] })
    await attach(networks, 'a')
    await crash(networks)
    const changed = open({ networks: [{ ...settings, subnets: [parseCidr('10.7.0.0/24')] }] })
    await expect(changed).rejects.toBeInstanceOf(NetworkError)
    await expect(changed).rejects.toThrow('pod default/a has 172.29.0.2')
  })

  test('cleanupBridge() leaves nothing, without any state', async () => {
    const before = [await linkNames(), await nft.listTables()]
    const networks = await open()
    await attach(networks, 'a')
    await attach(networks, 'b')
    await networks[Symbol.asyncDispose]()
    const removed = await cleanupBridge({ kernel, nft, netnsPrefix: 'fltest-nobody-' })
    expect([await linkNames(), await nft.listTables()]).toEqual(before)
    expect(removed.join()).toContain('link fl0 (fairlead network default)')
    expect(removed.join()).toContain('nftables table inet fairlead-bridge')
  })
})
