import { describe, expect, test, vi } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { FakeIpvs } from '../ipvs/fake-ipvs.ts'
import { virtualKey, type VirtualServerState } from '../ipvs/objects.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { fakeNftables } from '../nftables/fake-nftables.ts'
import { formatTable } from '../nftables/format.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { removeIpvs } from './ipvs-cleanup.ts'
import { IpvsMode, type IpvsSettings } from './ipvs-mode.ts'
import { parseScheduling, schedulerAnnotation } from '../proxy/ipvs-scheduling.ts'
import { ipvsTable } from './ipvs-table.ts'
import type { VipDevice } from './vip-device.ts'

const settings = { ...defaultProxySettings, localPods: ['10.0.0.0/16', 'fd00::/64'].map(parseCidr) }
const nodeIp = parseIp('192.0.2.7')

const compile = (snapshot: Snapshot, previous?: CompiledServices) =>
  compileServices(snapshot, { nodeName: 'this-node', settings, previous })

/** A dummy device in memory. */
class FakeVipDevice implements VipDevice {
  own: Set<IpAddress> | undefined
  others = new Set([nodeIp, parseIp('127.0.0.1')])
  name = 'kube-ipvs0'
  listener = (): void => {}
  async read() {
    return { own: new Set(this.own), others: new Set(this.others) }
  }
  async change({ add, remove }: { readonly add: readonly IpAddress[]; readonly remove: readonly IpAddress[] }) {
    this.own ??= new Set()
    for (const ip of remove) this.own.delete(ip)
    for (const ip of add) this.own.add(ip)
  }
  async remove() {
    this.own = undefined
  }
  watch(listener: () => void) {
    this.listener = listener
  }
  [Symbol.dispose]() {}
}

function machine(options: { readonly ipvs?: FakeIpvs; readonly settings?: IpvsSettings } = {}) {
  const { ipvs = new FakeIpvs() } = options
  const nft = fakeNftables()
  const device = new FakeVipDevice()
  const clock = new FakeClock()
  const sysctls = new Map<string, number>()
  const open = () => ({
    ipvs,
    nft,
    device,
    kernelRelease: '6.1.0-56-amd64',
    readSysctl: (name: string) => String(sysctls.get(name) ?? 0),
    writeSysctl: (name: string, value: number) => void sysctls.set(name, value),
    [Symbol.dispose]() {},
  })
  const newMode = () =>
    new IpvsMode(open, { log: silentLog, clock, settings: options.settings ?? {}, intervalMs: 1000 })
  return { ipvs, nft, device, clock, sysctls, open, newMode, mode: newMode() }
}

function web(endpoints: readonly string[], annotations: Readonly<Record<string, string>> = {}): Snapshot {
  const service = exampleService('web', { clusterIPs: ['10.96.0.5'], ports: ['80:30080/tcp'], annotations })
  return exampleSnapshot([[service, exampleSlice(service, endpoints)]])
}

const at = { ip: parseIp('10.96.0.5'), port: parsePort(80), protocol: 'tcp' } as const
const endpointPort = 8080

function textOf(virtuals: readonly VirtualServerState[]): string[] {
  return virtuals
    .map(({ at, scheduler, persistence, reals }) => {
      const servers = reals.map(({ ip, weight }) => `${ip}*${weight}`).sort()
      return `${virtualKey(at)} ${scheduler}${persistence ? ` ${persistence.seconds}s` : ''} ${servers.join(' ')}`
    })
    .sort()
}

describe('IpvsMode', () => {
  test('an annotation that is no scheduler is a problem of the Service', () => {
    const { problems } = compile(web(['10.0.0.1'], { [schedulerAnnotation]: 'nosuch' }))
    expect([...problems.values()]).toEqual([[expect.stringContaining('fairlead.dev/ipvs-scheduler is "nosuch"')]])
  })

  test('sync() makes a virtual server for each address of a Service, and of the node', async () => {
    const { mode, ipvs, device } = machine()
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'])))
    expect(textOf(await ipvs.list())).toEqual([
      'TCP 10.96.0.5:80 rr 10.0.0.1*1 10.0.0.2*1',
      'TCP 192.0.2.7:30080 rr 10.0.0.1*1 10.0.0.2*1',
    ])
    expect(device.own).toEqual(new Set([at.ip]))
  })

  test('sync() a second time changes nothing, nor does a new daemon’s first', async () => {
    const { mode, newMode, ipvs, nft } = machine()
    const services = compile(web(['10.0.0.1', '10.0.0.2']))
    await mode.sync(services)
    const before = ipvs.commands.length
    expect(await mode.sync(services)).toMatchObject({ kind: 'change', elements: 0, rules: 0 })
    expect(await newMode().sync(services)).toMatchObject({ kind: 'full', elements: 0, rules: 0 })
    expect(ipvs.commands.length).toBe(before)
    expect(await nft.listTables()).toHaveLength(2)
  })

  test('sync() of one change among many Services costs as much as it changes', async () => {
    const { mode, ipvs } = machine()
    const many = (last: string) =>
      exampleSnapshot(
        Array.from({ length: 200 }, (_, i) => {
          const service = exampleService(`s${i}`, { clusterIPs: [`10.96.1.${i}`] })
          return [service, exampleSlice(service, [i === 7 ? last : '10.0.0.1'])]
        }),
      )
    await mode.sync(compile(many('10.0.0.1')))
    const before = ipvs.commands.length
    await mode.sync(compile(many('10.0.0.2')))
    expect(ipvs.commands.slice(before).map(({ op }) => op)).toEqual(['add-real', 'set-real'])
  })

  test('a real server that goes gets the weight 0, and is deleted when its last connection has ended', async () => {
    const { mode, ipvs, clock } = machine()
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'])))
    const gone = { ip: parseIp('10.0.0.1'), port: parsePort(endpointPort) }
    ipvs.setCounts(at, gone, { active: 2 })
    await mode.sync(compile(web(['10.0.0.2'])))
    const reals = async () => textOf(await ipvs.list())[0]
    expect(await reals()).toBe('TCP 10.96.0.5:80 rr 10.0.0.1*0 10.0.0.2*1')
    await clock.advance(1500)
    expect(await reals()).toBe('TCP 10.96.0.5:80 rr 10.0.0.1*0 10.0.0.2*1')
    expect(mode.draining.map(({ real }) => real.counts.active)).toEqual([2])
    ipvs.setCounts(at, gone, { active: 0 })
    await clock.advance(1500)
    expect(await reals()).toBe('TCP 10.96.0.5:80 rr 10.0.0.2*1')
    expect(mode.draining).toEqual([])
    expect(await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'])))).toMatchObject({ kind: 'change' })
    expect(await reals()).toBe('TCP 10.96.0.5:80 rr 10.0.0.1*1 10.0.0.2*1')
  })

  test('the last endpoint drains, too, and comes back to its virtual server', async () => {
    const { mode, ipvs, nft, clock } = machine()
    await mode.sync(compile(web(['10.0.0.1'])))
    ipvs.setCounts(at, { ip: parseIp('10.0.0.1'), port: parsePort(endpointPort) }, { active: 2 })
    await mode.sync(compile(web([])))
    await clock.advance(1500)
    expect(textOf(await ipvs.list())).toEqual(['TCP 10.96.0.5:80 rr 10.0.0.1*0', 'TCP 192.0.2.7:30080 rr '])
    expect(formatTable((await nft.read('inet', ipvsTable))!)).toMatch(/set refused-4 \{[^}]*10\.96\.0\.5 \. tcp \. 80/)
    await mode.sync(compile(web(['10.0.0.1'])))
    expect(textOf(await ipvs.list())[0]).toBe('TCP 10.96.0.5:80 rr 10.0.0.1*1')
    expect(ipvs.commands).not.toContainEqual({ op: 'delete-virtual', at })
  })

  test('policy Local: the virtual server of clients outside stays while endpoints come and go, here and elsewhere', async () => {
    const { mode, newMode, ipvs } = machine()
    const edge = (...nodes: readonly string[]) => {
      const ports = ['80:30080/tcp']
      const service = exampleService('edge', { clusterIPs: ['10.96.0.5'], ports, externalTrafficPolicy: 'Local' })
      const endpoints = nodes.map((nodeName, i) => ({ address: `10.0.${i}.1`, nodeName }))
      return compile(exampleSnapshot([[service, exampleSlice(service, endpoints)]]))
    }
    const marked = async () => textOf(await ipvs.list())[0]
    await mode.sync(edge('this-node', 'other-node'))
    expect(await marked()).toBe('FWM 4053794816 IPv4 rr 10.0.0.1*1')
    const mark = { mark: 4053794816, family: 4 } as const
    ipvs.setCounts(mark, { ip: parseIp('10.0.0.1'), port: parsePort(endpointPort) }, { active: 1 })
    for (const [nodes, expected] of [
      [['this-node'], '10.0.0.1*1'],
      [['other-node'], '10.0.0.1*0'],
      [[], '10.0.0.1*0'],
      [['this-node', 'other-node'], '10.0.0.1*1'],
    ] as const) {
      await mode.sync(edge(...nodes))
      expect(await marked()).toBe(`FWM 4053794816 IPv4 rr ${expected}`)
    }
    expect(await newMode().sync(edge('this-node', 'other-node'))).toMatchObject({ elements: 0 })
    expect(ipvs.commands).not.toContainEqual({ op: 'delete-virtual', at: mark })
  })

  test('real servers of one virtual server that drain are counted by one question', async () => {
    const { mode, ipvs, clock } = machine()
    const many = Array.from({ length: 50 }, (_, i) => `10.0.0.${i + 1}`)
    await mode.sync(compile(web(many)))
    for (const ip of many) ipvs.setCounts(at, { ip: parseIp(ip), port: parsePort(endpointPort) }, { active: 1 })
    await mode.sync(compile(web(many.slice(0, 1))))
    const reals = vi.spyOn(ipvs, 'reals')
    await clock.advance(1500)
    expect(reals.mock.calls.map(([where]) => virtualKey(where)).sort()).toEqual([
      'TCP 10.96.0.5:80',
      'TCP 192.0.2.7:30080',
    ])
    expect(mode.draining).toHaveLength(49)
  })

  test('a real server goes at the deadline of its Service, whatever connections it has', async () => {
    const { mode, ipvs, clock } = machine()
    const annotations = { 'fairlead.dev/drain-seconds': '3' }
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'], annotations)))
    ipvs.setCounts(at, { ip: parseIp('10.0.0.1'), port: parsePort(endpointPort) }, { active: 2 })
    await mode.sync(compile(web(['10.0.0.2'], annotations)))
    await clock.advance(2900)
    expect(textOf(await ipvs.list())[0]).toBe('TCP 10.96.0.5:80 rr 10.0.0.1*0 10.0.0.2*1')
    await clock.advance(200)
    expect(textOf(await ipvs.list())[0]).toBe('TCP 10.96.0.5:80 rr 10.0.0.2*1')
    expect(await mode.sync(compile(web(['10.0.0.2'], annotations)))).toMatchObject({ elements: 0 })
  })

  test('a real server that comes back while it drains gets its weight again', async () => {
    const { mode, ipvs, clock } = machine()
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'])))
    ipvs.setCounts(at, { ip: parseIp('10.0.0.1'), port: parsePort(endpointPort) }, { active: 2 })
    await mode.sync(compile(web(['10.0.0.2'])))
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'])))
    await clock.advance(1500)
    expect(textOf(await ipvs.list())[0]).toBe('TCP 10.96.0.5:80 rr 10.0.0.1*1 10.0.0.2*1')
  })

  test.each([
    [{}, {}, 'rr'],
    [{ 'fairlead.dev/algorithm': 'maglev' }, {}, 'mh'],
    [{ [schedulerAnnotation]: 'lc' }, {}, 'lc'],
    [{ [schedulerAnnotation]: 'nosuch' }, {}, 'rr'],
    [{}, { scheduler: 'sed' }, 'sed'],
    [{ 'fairlead.dev/algorithm': 'round-robin' }, { scheduler: 'sed' }, 'rr'],
  ] as const)('annotations %j with settings %j: scheduler %s', async (annotations, settings, scheduler) => {
    const { mode, ipvs } = machine({ settings })
    await mode.sync(compile(web(['10.0.0.1'], annotations)))
    expect((await ipvs.list()).map((virtual) => virtual.scheduler)).toEqual([scheduler, scheduler])
  })

  test.each([
    ['sh', ['10.0.0.1*0', '10.0.0.2*1'], true],
    ['mh,port', ['10.0.0.1*0', '10.0.0.2*1'], true],
    ['lc', ['10.0.0.1*0', '10.0.0.2*1'], undefined],
    ['dh', ['10.0.0.2*1'], undefined],
  ])('scheduler %s refuses nobody while an endpoint goes', async (scheduling, servers, fallback) => {
    const { mode, ipvs } = machine()
    const annotations = { [schedulerAnnotation]: scheduling }
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'], annotations)))
    await mode.sync(compile(web(['10.0.0.2'], annotations)))
    const [first] = await ipvs.list()
    expect(first?.reals.map(({ ip, weight }) => `${ip}*${weight}`).sort()).toEqual(servers)
    expect(first?.fallback).toBe(fallback)
  })

  test('policy Local: clients outside have a virtual server of their own, by a mark that stays theirs', async () => {
    const { mode, newMode, ipvs, nft } = machine()
    const edge = (name: string, ip: string, nodePort: number) => {
      const ports = [`80:${nodePort}/tcp`]
      const service = exampleService(name, { clusterIPs: [ip], ports, externalTrafficPolicy: 'Local' })
      const slice = exampleSlice(service, [
        { address: '10.0.0.1', nodeName: 'this-node' },
        { address: '10.0.1.1', nodeName: 'other-node' },
      ])
      return [service, slice] as const
    }
    const first = edge('b', '10.96.0.5', 30080)
    await mode.sync(compile(exampleSnapshot([first])))
    expect(textOf(await ipvs.list())).toEqual([
      'FWM 4053794816 IPv4 rr 10.0.0.1*1',
      'TCP 10.96.0.5:80 rr 10.0.0.1*1 10.0.1.1*1',
      'TCP 192.0.2.7:30080 rr 10.0.0.1*1 10.0.1.1*1',
    ])
    const marks = async () => formatTable((await nft.read('inet', ipvsTable))!).match(/ : 0xf1a.*$/gm)
    const before = await marks()
    expect(before).toEqual([' : 0xf1a00000 }'])
    await newMode().sync(compile(exampleSnapshot([edge('a', '10.96.0.6', 30081), first])))
    expect((await marks())?.toSorted()).toEqual([' : 0xf1a00000,', ' : 0xf1a00001 }'])
    await mode.cleanup()
    expect(await ipvs.list()).toEqual([])
  })

  test('a scheduler that the kernel lacks is said once, and rr or wrr takes its place', async () => {
    const warnings: unknown[] = []
    const { open, ipvs } = machine()
    const log = { ...silentLog, warn: (fields: unknown) => void warnings.push(fields) }
    using mode = new IpvsMode(open, { log, clock: new FakeClock() })
    const twos = { [schedulerAnnotation]: 'twos' }
    await mode.sync(compile(web(['10.0.0.1'], twos)))
    await mode.sync(compile(web(['10.0.0.1', '10.0.0.2'], twos)))
    expect((await ipvs.list()).map(({ scheduler }) => scheduler)).toEqual(['rr', 'rr'])
    expect(warnings).toEqual([{ mode: 'ipvs', scheduler: 'twos' }])
  })

  test('a scheduler is found although an attempt to find one was interrupted, and leaves nothing behind', async () => {
    const { mode, ipvs } = machine()
    await ipvs.run([{ op: 'add-virtual', virtual: { at: { mark: 0xf1af_ffff, family: 4 }, scheduler: 'lc' } }])
    await mode.sync(compile(web(['10.0.0.1'], { [schedulerAnnotation]: 'sed' })))
    expect(textOf(await ipvs.list())).toEqual(['TCP 10.96.0.5:80 sed 10.0.0.1*1', 'TCP 192.0.2.7:30080 sed 10.0.0.1*1'])
  })

  test('virtual servers of others stay, ours go with cleanup()', async () => {
    const { mode, ipvs, nft, device, open } = machine()
    const foreign = { ...at, ip: parseIp('198.51.100.1') }
    await ipvs.run([{ op: 'add-virtual', virtual: { at: foreign, scheduler: 'rr' } }])
    await mode.sync(compile(web(['10.0.0.1'])))
    await mode.sync(compile(web(['10.0.0.1'])), { verify: true })
    expect(await ipvs.list()).toHaveLength(3)
    expect(await removeIpvs(nft, { log: silentLog, open })).toContain('virtual servers of IPVS')
    expect(textOf(await ipvs.list())).toEqual(['TCP 198.51.100.1:80 rr '])
    expect(device.own).toBeUndefined()
    await mode.cleanup()
    expect(await nft.listTables()).toEqual([])
    expect(await removeIpvs(nft, { log: silentLog, open })).toEqual([])
  })

  test.each([
    ['a virtual server', [{ op: 'delete-virtual', at }]],
    ['a real server', [{ op: 'delete-real', at, real: { ip: parseIp('10.0.0.1'), port: parsePort(8080) } }]],
    ['a weight', [{ op: 'set-real', at, real: { ip: parseIp('10.0.0.1'), port: parsePort(8080), weight: 7 } }]],
  ] as const)('%s that somebody else changes is noticed within a second, and put right', async (_, commands) => {
    const { mode, ipvs, clock } = machine()
    const services = compile(web(['10.0.0.1', '10.0.0.2']))
    let asked = 0
    mode.watch(() => asked++)
    await mode.sync(services)
    await clock.advance(2000)
    expect(asked).toBe(0)
    const before = textOf(await ipvs.list())
    await ipvs.run(commands)
    expect(textOf(await ipvs.list())).not.toEqual(before)
    await clock.advance(1000)
    expect(asked).toBe(1)
    expect(await mode.sync(services)).toMatchObject({ kind: 'full', repaired: true })
    expect(textOf(await ipvs.list())).toEqual(before)
  })

  test('a new address of the node answers at node ports, once a sync has run', async () => {
    const { mode, device, ipvs } = machine()
    let asked = 0
    mode.watch(() => asked++)
    await mode.sync(compile(web(['10.0.0.1'])))
    device.others.add(parseIp('192.0.2.8'))
    device.listener()
    await new Promise((resolve) => setImmediate(resolve))
    expect(asked).toBe(1)
    await mode.sync(compile(web(['10.0.0.1'])))
    expect(textOf(await ipvs.list())).toContain('TCP 192.0.2.8:30080 rr 10.0.0.1*1')
  })

  test('an address of the node that is an external IP, too, is not put on the device', async () => {
    const { mode, device } = machine()
    const service = exampleService('edge', { clusterIPs: ['10.96.0.6'], externalIPs: [nodeIp] })
    await mode.sync(compile(exampleSnapshot([[service, exampleSlice(service, ['10.0.0.1'])]])))
    expect(device.own).toEqual(new Set([parseIp('10.96.0.6')]))
  })

  test('probe() names what is missing', async () => {
    const without = machine({ ipvs: new FakeIpvs({ available: false }) })
    expect(await without.mode.probe()).toMatchObject({
      usable: false,
      reason: 'the kernel has no IPVS (modprobe ip_vs); modes nftables and iptables do without IPVS',
    })
    await expect(without.mode.sync(compile(web([])))).rejects.toThrow('modes nftables and iptables do without IPVS')
    const { mode } = machine()
    expect(await mode.probe()).toMatchObject({ usable: true })
  })

  test('plan() says what ipvsadm, nft and ip would be told, and changes nothing', async () => {
    const { mode, ipvs } = machine()
    const { lines } = await mode.plan(compile(web(['10.0.0.1'])))
    expect(lines).toContain('ipvsadm -A -t 10.96.0.5:80 -s rr')
    expect(lines).toContain(`ipvsadm -a -t 10.96.0.5:80 -r 10.0.0.1:${endpointPort} -m -w 1`)
    expect(lines).toContain('ip address add 10.96.0.5 dev kube-ipvs0')
    expect(ipvs.commands).toEqual([])
  })

  test('explain() follows a packet to its virtual server, and says what is not as it should be', async () => {
    const { mode, ipvs, device } = machine()
    const services = compile(web(['10.0.0.1', '10.0.0.2']))
    await mode.sync(services)
    const source = parseIp('198.51.100.9')
    const packet = {
      protocol: 'tcp',
      source,
      destination: at.ip,
      port: at.port,
      origin: 'outside',
      toNode: true,
      iifname: 'eth0',
    } as const
    const host = { isLocal: (ip: IpAddress) => device.own?.has(ip) ?? false }
    expect(await mode.explain(services, packet, host)).toMatchInlineSnapshot(`
      {
        "differences": [],
        "lines": [
          "input: meta nfproto ipv4 goto services-4",
          "services-4: ip daddr . meta l4proto . th dport @masquerade-others-4 jump mark-by-source-4",
          "  @masquerade-others-4: 10.96.0.5 . tcp . 80",
          "mark-by-source-4: ip saddr != @local-pods-4 meta mark set meta mark | 0x00004000",
          "services-4: ip daddr . meta l4proto . th dport @frontends-4 return",
          "  @frontends-4: 10.96.0.5 . tcp . 80",
          "IPVS: virtual server TCP 10.96.0.5:80 rr",
          "  real server 10.0.0.1:8080 weight 1: 0 active, 0 inactive connections",
          "  real server 10.0.0.2:8080 weight 1: 0 active, 0 inactive connections",
          "postrouting: meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random",
        ],
      }
    `)
    await ipvs.run([{ op: 'set-real', at, real: { ip: parseIp('10.0.0.2'), port: parsePort(8080), weight: 0 } }])
    expect((await mode.explain(services, packet, host)).differences).toEqual([
      'wanted: to 10.0.0.2:8080, which the kernel does not do',
      'the kernel differs from what is wanted in 1 places ("fairlead verify" lists them)',
    ])
    const other = await mode.explain(services, { ...packet, port: parsePort(22) }, host)
    expect(other.lines.at(-1)).toContain('vips-4')
    await ipvs.run([{ op: 'delete-virtual', at }])
    const unserved = await mode.explain(services, packet, host)
    expect(unserved.lines.find((line) => line.startsWith('unserved'))).toContain('reject with tcp reset')
    expect(unserved.differences[0]).toBe('in the kernel: rejected, which is not wanted')
  })

  test('the table of nftables: sets, chains and rules', async () => {
    const { mode, nft } = machine()
    await mode.sync(compile(web(['10.0.0.1'])))
    expect(formatTable((await nft.read('inet', ipvsTable))!)).toMatchSnapshot()
  })
})

test.each([
  ['lc', { scheduler: 'lc' }],
  ['mh,port', { scheduler: 'mh', hashPort: true }],
  ['sh, fallback, port', { scheduler: 'sh', fallback: true, hashPort: true }],
  ['rr,port', undefined],
  ['mh,ports', undefined],
  ['', undefined],
])('parseScheduling() reads "%s"', (text, expected) => {
  expect(parseScheduling(text)).toEqual(expected)
})
