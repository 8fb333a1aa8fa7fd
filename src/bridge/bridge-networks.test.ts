import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog, type Log } from '../base/log.ts'
import { formatCidr, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { FakeRtnetlink } from '../rtnetlink/fake-rtnetlink.ts'
import type { NetnsHandle } from '../rtnetlink/link-requests.ts'
import { FakeNftables } from '../nftables/fake-nftables.ts'
import type { BridgeNetworks, BridgeNetworksOptions } from './bridge-networks.ts'
import { openBridgeNetworks } from './open-bridge-networks.ts'
import { followSysctls } from './forwarding.ts'
import { cleanupBridge } from './cleanup.ts'
import type { BridgeKernel, NamespaceKernel } from './kernel.ts'
import { portOf, type Owner } from './names.ts'
import { parsePublish } from './publication.ts'
import { readNamespace } from './reconcile.ts'

/** A host in memory, with pods' namespaces by path. */
class FakeHost {
  readonly sysctls = new Map([
    ['net/ipv4/ip_forward', '0'],
    ['net/ipv6/conf/all/forwarding', '0'],
    ['net/ipv6/conf/default/accept_ra', '1'],
  ])
  /** Ports that programs listen on. */
  readonly listening = new Set<number>()
  readonly kernel: BridgeKernel
  readonly #rtnetlink = new FakeRtnetlink()
  readonly #pods = new Map<string, NetnsHandle>()

  constructor() {
    this.kernel = {
      ...this.#namespace(this.#rtnetlink.createNetns('host'), this.sysctls),
      openNamespace: (path) => {
        const pod = this.#pods.get(path)
        if (!pod) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
        return this.#namespace(pod, new Map([['net/ipv6/conf/default/accept_dad', '1']]))
      },
      probePort: ({ port }) => (port !== undefined && this.listening.has(port) ? 'taken' : (port ?? parsePort(40_000))),
      conntrack: { list: async () => [], delete: async () => {}, [Symbol.dispose]() {} },
    }
  }

  addPod(name: string): string {
    const path = `/run/netns/${name}`
    this.#pods.set(path, this.#rtnetlink.createNetns(name))
    return path
  }

  /** As `ip netns del`: the far end of its endpoint goes with it. */
  async deletePod(name: string, port: string): Promise<void> {
    this.#pods.delete(`/run/netns/${name}`)
    await this.kernel.rtnetlink.links.delete(port)
  }

  #namespace(handle: NetnsHandle, sysctls: Map<string, string>): NamespaceKernel {
    const rtnetlink = this.#rtnetlink.open(handle)
    return {
      handle,
      rtnetlink,
      readSysctl: (path) => sysctls.get(path),
      writeSysctl: (path, value) => void sysctls.set(path, value),
      enter: (work) => work(),
      [Symbol.dispose]: () => rtnetlink[Symbol.dispose](),
    }
  }
}

describe('BridgeNetworks on a fake kernel', () => {
  let host: FakeHost
  let nft: FakeNftables
  let stateDir: string
  let warnings: string[]
  beforeEach(() => {
    host = new FakeHost()
    nft = new FakeNftables()
    stateDir = mkdtempSync(join(tmpdir(), 'fairlead-networks-'))
    warnings = []
  })
  afterEach(() => rmSync(stateDir, { recursive: true }))

  const log: Log = { ...silentLog, warn: (_, message) => warnings.push(message) }
  const open = (options: Partial<BridgeNetworksOptions> = {}): Promise<BridgeNetworks> =>
    openBridgeNetworks({
      stateDir,
      networks: [{ name: 'default', bridge: 'fl0', subnets: [], masquerade: true }],
      serviceAddresses: [parseIp('10.96.0.10')],
      machineId: 'test',
      bootId: 'boot',
      kernel: host.kernel,
      nft,
      log,
      clock: new FakeClock(),
      keepLease: () => true,
      ...options,
    })

  test('makes bridge, addresses and table, and has nothing to do the second time', async () => {
    await using networks = await open()
    const { links, addresses } = await readNamespace(host.kernel.rtnetlink)
    expect(links.find(({ name }) => name === 'fl0')).toMatchObject({
      kind: 'bridge',
      alias: 'fairlead network default',
    })
    expect(addresses.map(({ address }) => formatCidr(address))).toEqual(
      expect.arrayContaining(['172.29.0.1/20', '10.96.0.10/32']),
    )
    const transactions = nft.transactions.length
    expect(await networks.reconcile()).toEqual([])
    expect(nft.transactions).toHaveLength(transactions)
  })

  test('attachMany() and detachMany() give each its own result, and a bridge with 80 % of its ports is told once', async () => {
    await using networks = await open()
    const owners = Array.from({ length: 819 }, (_, index): Owner => `pod default/p${index}`)
    const requests = owners.map((owner, index) => ({ owner, network: 'default', netns: host.addPod(`p${index}`) }))
    const results = await networks.attachMany([
      ...requests,
      { ...requests[0]!, owner: 'pod default/x', netns: '/gone' },
    ])
    expect(results.map(({ status }) => status)).toEqual([...owners.map(() => 'fulfilled'), 'rejected'])
    expect(networks.leases.size).toBe(819)
    const nearlyFull = warnings.filter((text) => text.startsWith('Nearly full'))
    expect(nearlyFull).toEqual([expect.stringMatching('8(19|20) of 1023 ports of bridge fl0 are in use')])
    const detached = await networks.detachMany(owners.map((owner) => ({ owner, network: 'default' })))
    expect(new Set(detached.map(({ status }) => status))).toEqual(new Set(['fulfilled']))
    expect(networks.leases.size).toBe(0)
    const { links } = await readNamespace(host.kernel.rtnetlink)
    expect(links.filter(({ kind }) => kind === 'veth')).toEqual([])
  })

  test('detach() waits for connections by UDP ports to end, not by TCP ports; who gets the address next waits for those', async () => {
    /** Looks at the connection table, and what lets them end. */
    let looks = 0
    let gate = Promise.withResolvers<void>()
    const list = async (): Promise<[]> => {
      looks++
      await gate.promise
      return []
    }
    const kernel = { ...host.kernel, conntrack: { ...host.kernel.conntrack, list } }
    await using networks = await open({ kernel })
    const request = {
      owner: 'pod default/a',
      network: 'default',
      netns: host.addPod('a'),
      ips: [parseIp('172.29.0.9')],
      publish: [parsePublish('8080:80')],
    } as const
    await networks.attach(request)
    await networks.detach(request.owner, 'default')
    await vi.waitFor(() => expect(looks).toBe(1))
    const again = networks.attach(request)
    const other = { ...request, owner: 'pod default/b', netns: host.addPod('b'), publish: [], ips: [] } as const
    await networks.attach(other)
    expect(networks.leases.size).toBe(2)
    const { links } = kernel.rtnetlink
    const ports = async (): Promise<number> => (await links.list()).filter(({ kind }) => kind === 'veth').length
    expect(await ports()).toBe(1)
    gate.resolve()
    await again
    expect(await ports()).toBe(2)

    await networks.changePorts(request, { publish: [parsePublish('53:53/udp')], withdraw: [] })
    gate = Promise.withResolvers()
    looks = 0
    const detached = networks.detach(request.owner, 'default')
    await vi.waitFor(() => expect(looks).toBe(1))
    expect(await ports()).toBe(1)
    expect(await Promise.race([detached, Promise.resolve('waits')])).toBe('waits')
    gate.resolve()
    await detached
  })

  test('switches forwarding on, and goes on listening to router advertisements where the host did', async () => {
    await using _networks = await open()
    expect(Object.fromEntries(host.sysctls)).toMatchObject({
      'net/ipv4/ip_forward': '1',
      'net/ipv6/conf/all/forwarding': '1',
      'net/ipv6/conf/default/accept_ra': '2',
    })
  })

  test('gives the host its sysctls back at cleanup, restarts in between, but not those that others set since', async () => {
    const before = new Map(host.sysctls)
    const cleanup = () =>
      cleanupBridge({
        kernel: host.kernel,
        nft,
        netnsPrefix: 'fltest-nobody-',
        remembered: { stateDir, bootId: 'boot' },
      })
    for (let start = 0; start < 2; start++) await (await open())[Symbol.asyncDispose]()
    expect(await cleanup()).toContain('sysctl net/ipv4/ip_forward set back to 0')
    expect(host.sysctls).toEqual(before)

    await (await open())[Symbol.asyncDispose]()
    host.sysctls.set('net/ipv6/conf/default/accept_ra', '0')
    await cleanup()
    expect(host.sysctls.get('net/ipv6/conf/default/accept_ra')).toBe('0')
    expect(await cleanup()).toEqual([])
  })

  test.each(['garbage', '', 'null', '{"bootId":"boot","changes":[{"path":1}]}', '{"bootId":"boot"}'])(
    'starts and cleans up with damaged memory of sysctls, of which it sets none back: %j',
    async (text) => {
      const file = join(stateDir, 'sysctls.json')
      writeFileSync(file, text)
      await (await open())[Symbol.asyncDispose]()
      expect(host.sysctls.get('net/ipv4/ip_forward')).toBe('1')
      writeFileSync(file, text)
      const remembered = { stateDir, bootId: 'boot' }
      const cleanup = () => cleanupBridge({ kernel: host.kernel, nft, netnsPrefix: 'fltest-nobody-', remembered })
      expect(await cleanup()).toContainEqual(expect.stringContaining('sysctls.json, which cannot be read'))
      expect(host.sysctls.get('net/ipv4/ip_forward')).toBe('1')
      expect(await cleanup()).toEqual([])
    },
  )

  test('sets settings back that another program changed, of the host and of bridges', async () => {
    const clock = new FakeClock()
    await using networks = await open()
    using _following = followSysctls(() => networks.networks, {
      kernel: host.kernel,
      log,
      stateDir,
      bootId: 'boot',
      clock,
    })
    await clock.advance(5000)
    expect(warnings).toEqual([])
    host.sysctls.set('net/ipv4/ip_forward', '0')
    await clock.advance(1000)
    expect(host.sysctls.get('net/ipv4/ip_forward')).toBe('1')
    host.sysctls.set('net/ipv4/conf/fl0/route_localnet', '0')
    await clock.advance(1000)
    expect(host.sysctls.get('net/ipv4/conf/fl0/route_localnet')).toBe('1')
    await clock.advance(5000)
    expect(warnings).toEqual([
      'Repaired what another program changed: settings of a router',
      'Repaired what another program changed: settings of fl0',
    ])
  })

  test('keeps a picked subnet over restarts, although a better one has become free', async () => {
    const { links, routes } = host.kernel.rtnetlink
    const mac = (await (await open())[Symbol.asyncDispose](), (await links.get('fl0')).mac!)
    await cleanupBridge({ kernel: host.kernel, nft, netnsPrefix: 'fltest-nobody-' })
    const vpn = await links.createBridge({ name: 'vpn', mac })
    await routes.add({ destination: parseCidr('172.29.0.0/24'), dev: vpn.index })
    const subnet = async (): Promise<string> => {
      await using networks = await open()
      return formatCidr(networks.networks[0]!.subnets[0]!.cidr)
    }
    expect(await subnet()).toBe('172.29.16.0/20')
    await links.delete('vpn')
    expect(await subnet()).toBe('172.29.16.0/20')
  })

  test('keeps the subnet of a network with endpoints when a route overlaps it by now, and says so', async () => {
    const { links, routes } = host.kernel.rtnetlink
    const network = { name: 'default', bridge: 'fl0', subnets: [parseCidr('10.7.0.0/24')], masquerade: true }
    {
      await using networks = await open({ networks: [network] })
      await networks.attach({ owner: 'pod default/a', network: 'default', netns: host.addPod('a') })
    }
    const { mac } = await links.get('fl0')
    const vpn = await links.createBridge({ name: 'vpn', mac: mac! })
    await routes.add({ destination: parseCidr('10.0.0.0/8'), dev: vpn.index })
    {
      await using networks = await open({ networks: [network] })
      expect(networks.leases.size).toBe(1)
      expect(warnings).toContain(
        'Network default keeps its subnets although route 10.0.0.0/8 dev vpn overlaps them: endpoints are in it',
      )
      await networks.detach('pod default/a', 'default')
    }
    await expect(open({ networks: [network] })).rejects.toThrow('overlaps route 10.0.0.0/8 dev vpn')
  })

  test.each([
    [{ gateways: [parseIp('172.29.0.2')] }, 'pod default/a has 172.29.0.2, the gateway or an auxiliary address'],
    [{ auxAddresses: { nas: parseIp('172.29.0.2') } }, 'pod default/a has 172.29.0.2, the gateway or an auxiliary'],
    [{ subnets: [parseCidr('10.7.0.0/24')] }, 'pod default/a has 172.29.0.2 and '],
  ])('settings that would take %j from a pod are refused, and change nothing', async (change, message) => {
    const network = { name: 'default', bridge: 'fl0', subnets: [parseCidr('172.29.0.0/20')], masquerade: true }
    {
      await using networks = await open()
      await networks.attach({ owner: 'pod default/a', network: 'default', netns: host.addPod('a') })
    }
    await expect(open({ networks: [{ ...network, ...change }] })).rejects.toThrow(message)
    await using networks = await open()
    expect(networks.leases.size).toBe(1)
  })

  test('a second network has its own subnet, and may not take the first one its', async () => {
    const second = { name: 'b', bridge: 'fl1', subnets: [], masquerade: false }
    const first = { ...second, name: 'a', bridge: 'fl0' }
    {
      await using networks = await open({ networks: [first, second] })
      const subnets = networks.status().map(({ pools }) => pools.map(({ subnet }) => subnet))
      expect(subnets.map(([ipv4]) => ipv4)).toEqual(['172.29.0.0/20', '172.29.16.0/20'])
      expect(new Set(subnets.flat()).size).toBe(4)
    }
    const overlapping = { ...second, subnets: [parseCidr('172.29.0.0/24')] }
    await expect(open({ networks: [first, overlapping] })).rejects.toThrow(
      'subnet 172.29.0.0/24 of network b overlaps subnet 172.29.0.0/20 of network a',
    )
    await expect(open({ networks: [first, { ...second, bridge: 'fl0' }] })).rejects.toThrow(
      'share a name or the bridge',
    )
  })

  test('a reconciliation does not judge endpoints that are made or removed while it looks', async () => {
    await using networks = await open()
    const { links } = host.kernel.rtnetlink
    const list = links.list.bind(links)
    /** A look that knows what is wanted before `meanwhile`, and sees what is there after it. */
    const lookAround = async (meanwhile: () => Promise<unknown>): Promise<readonly string[]> => {
      links.list = async (filter) => {
        links.list = list
        await meanwhile()
        return await list(filter)
      }
      return await networks.reconcile()
    }
    const request = { owner: 'pod default/a', network: 'default', netns: host.addPod('a') } as const
    expect(await lookAround(() => networks.attach(request))).toEqual([])
    expect(await networks.reconcile()).toEqual([])
    expect(await lookAround(() => networks.detach(request.owner, 'default'))).toEqual([])
    expect(await networks.reconcile()).toEqual([])
    expect(warnings).toEqual([])
  })

  test('notices what another program changes, repairs it and says what it repaired', async () => {
    const clock = new FakeClock()
    await using networks = await open({ clock })
    await networks.attach({ owner: 'pod default/a', network: 'default', netns: host.addPod('a') })
    await host.kernel.rtnetlink.links.delete('fl0')
    await vi.waitFor(async () => {
      await clock.advance(50)
      expect(warnings).toContain('Repaired what another program changed: create bridge fl0')
      expect(networks.repairs).toBeGreaterThan(0)
      expect(await networks.reconcile()).toEqual([])
    })
  })

  test('what cannot be repaired holds up what can for less than a second, and is said once', async () => {
    const clock = new FakeClock()
    const errors: string[] = []
    await using networks = await open({ clock, log: { ...log, error: (_, message) => errors.push(message) } })
    const lease = await networks.attach({ owner: 'pod default/a', network: 'default', netns: host.addPod('a') })
    await host.deletePod('a', portOf(lease))
    for (let step = 0; step < 200; step++) await clock.advance(50)
    expect(errors).toEqual(['Cannot repair the bridge networks, trying again'])
    await host.kernel.rtnetlink.links.delete('fl0')
    for (let step = 0; step < 18; step++) await clock.advance(50)
    expect(warnings).toContain('Repaired what another program changed: create bridge fl0')
  })
})
