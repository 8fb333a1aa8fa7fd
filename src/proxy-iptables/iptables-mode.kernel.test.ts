import { describe, expect, test } from 'vitest'
import { patience } from '../../test/lab/patience.ts'
import { silentLog, type Log } from '../base/log.ts'
import type { Variant } from '../iptables/client.ts'
import { openIpSets } from '../iptables/ip-set.ts'
import { run } from '../linux/exec.ts'
import { createAnonymousNetns, type Netns } from '../linux/netns.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import {
  compileServices,
  defaultProxySettings,
  type CompiledServices,
  type ProxySettings,
} from '../proxy/compile-services.ts'
import type { PacketAtNode } from '../proxy/dataplane.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { removeServiceRules } from './iptables-cleanup.ts'
import { IptablesMode } from './iptables-mode.ts'
import { openIptablesParts } from './iptables-parts.ts'
import { clusterIpSet } from './iptables-tables.ts'

const settings: ProxySettings = {
  ...defaultProxySettings,
  localPods: [parseCidr('10.0.0.0/16'), parseCidr('10.1.0.0/16'), parseCidr('fd00:10::/64')],
  nodePortAddresses: [parseCidr('192.0.2.0/24'), parseCidr('::/0')],
  serviceCIDRs: [parseCidr('10.96.0.0/16'), parseCidr('fd00:96::/108')],
}

const here = (address: string, weight = 1) => ({ address, nodeName: 'this-node', weight })

/** One Service of each kind, so that every form of rule goes to the kernel and comes back. */
const rich = exampleSnapshot([
  ...(['random', 'maglev', 'round-robin'] as const).map((algorithm, i) => {
    const service = exampleService(`web-${algorithm}`, {
      type: 'LoadBalancer',
      clusterIPs: [`10.96.0.${i + 1}`, `fd00:96::${i + 1}`],
      ports: [`http=80:3008${i}/tcp`, `dns=53:3005${i}/udp`],
      externalIPs: [`198.51.100.${i + 1}`],
      loadBalancerIngress: [{ ip: parseIp(`203.0.113.${i + 1}`), ipMode: 'VIP' as const }],
      loadBalancerSourceRanges: [parseCidr('192.0.2.0/24'), parseCidr('0.0.0.0/0')],
      externalTrafficPolicy: i === 1 ? ('Local' as const) : ('Cluster' as const),
      healthCheckNodePort: undefined,
      sessionAffinity: { kind: 'ClientIP' as const, timeoutSeconds: 60 },
      annotations: { 'fairlead.dev/algorithm': algorithm, 'fairlead.dev/source-ranges': 'all' },
    })
    const ports = ['http=8080/tcp', 'dns=5353/udp']
    return [
      service,
      exampleSlice(service, [here('10.0.0.1'), here('10.0.0.2', 3), here('10.0.0.3', 1)], { ports }),
      exampleSlice(service, [here('fd00:10::1'), here('fd00:10::2', 2)], { ports, name: `${service.name}-6` }),
    ] as const
  }),
  [exampleService('empty', { clusterIPs: ['10.96.0.9', 'fd00:96::9'], ports: ['80:30099/tcp'] })],
])

const compile = (snapshot = rich, previous?: CompiledServices): CompiledServices =>
  compileServices(snapshot, { nodeName: 'this-node', settings, previous })

const openMode = (netns: Netns, variant: Variant, log: Log = silentLog): IptablesMode =>
  new IptablesMode(() => openIptablesParts({ netns, variant }), { log })

/** What the tools show of both families, without counters and time stamps. */
async function saved(netns: Netns, variant: Variant): Promise<string> {
  let text = ''
  for (const base of ['iptables', 'ip6tables']) text += (await run([`${base}-${variant}-save`], { netns })).stdout
  return text.replaceAll(/^#.*\n/gm, '').replaceAll(/\[\d+:\d+\]/g, '')
}

describe.each(['legacy', 'nft'] as const)('IptablesMode with the %s tools', (variant) => {
  test('finds in the kernel what it wrote, text for text, so that a restart writes nothing', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    expect((await mode.probe()).usable).toBe(true)
    const services = compile()
    expect((await mode.plan(services)).rules).toBeGreaterThan(100)
    const first = await mode.sync(services)
    expect(first).toMatchObject({ kind: 'full', servicesChanged: 4, elements: 8, messages: 2, repaired: false })
    expect(await mode.plan(services)).toEqual({ lines: [], elements: 0, rules: 0 })
    using restarted = openMode(netns, variant)
    expect(await restarted.sync(services)).toMatchObject({ kind: 'full', bytes: 0, rules: 0, elements: 0 })
  })

  test('comes to the same with what it read before', async () => {
    const found: string[] = []
    for (const prepares of [false, true]) {
      using netns = createAnonymousNetns()
      using mode = openMode(netns, variant)
      await mode.probe()
      if (prepares) await mode.prepare()
      expect(await mode.sync(compile())).toMatchObject({ kind: 'full', elements: 8, messages: 2 })
      found.push(await saved(netns, variant))
      if (prepares) expect(await mode.plan(compile())).toEqual({ lines: [], elements: 0, rules: 0 })
    }
    expect(found[1]).toBe(found[0])
  })

  test('writes only the chains of what changed, and comes to what a full sync comes to', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    const before = compile()
    await mode.sync(before)
    const web = rich.services.get('default/web-random')!
    const slice = exampleSlice(web, [here('10.0.0.1'), here('10.0.0.7')], { ports: ['http=8080/tcp', 'dns=5353/udp'] })
    const slices = rich.slices.with([['default/web-random', [slice]]])
    const after = compile({ ...rich, slices, services: rich.services.with([], ['default/empty']) }, before)
    const result = await mode.sync(after)
    expect(result).toMatchObject({ kind: 'change', servicesChanged: 2, elements: 2 })
    expect(result.bytes).toBeLessThan(20_000)
    const partial = await saved(netns, variant)
    using other = createAnonymousNetns()
    using fresh = openMode(other, variant)
    await fresh.sync(after)
    const lines = (text: string): string[] => text.split('\n').sort()
    expect(lines(partial)).toEqual(lines(await saved(other, variant)))
    expect(await mode.sync(after, { verify: true })).toMatchObject({ kind: 'full', rules: 0, elements: 0 })
  })

  test.each([
    ['flushed nat', ['-t', 'nat', '-F']],
    ['took one rule out', ['-t', 'nat', '-D', 'KUBE-SERVICES', '1']],
    ['took a jump out', ['-t', 'filter', '-D', 'FORWARD', '1']],
  ])('notices within a second that somebody %s, and puts it right', async (_, args) => {
    using netns = createAnonymousNetns()
    const warnings: string[] = []
    using mode = openMode(netns, variant, { ...silentLog, warn: (_fields, message) => void warnings.push(message) })
    const services = compile()
    await mode.sync(services)
    const before = await saved(netns, variant)
    const noticed = Promise.withResolvers<void>()
    mode.watch(() => noticed.resolve())
    const began = performance.now()
    expect((await run([`iptables-${variant}`, ...args], { netns })).stderr).toBe('')
    await noticed.promise
    expect(performance.now() - began).toBeLessThan(patience(1000))
    const result = await mode.sync(services)
    expect(result).toMatchObject({ kind: 'full', repaired: true })
    expect(warnings).toHaveLength(1)
    expect(await saved(netns, variant)).toBe(before)
  })

  test('notices within a second that somebody takes an address out of its set, and puts it back', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    using sets = openIpSets({ netns })
    const services = compile()
    await mode.sync(services)
    const { name } = clusterIpSet(4)
    const before = await sets.read(name)
    const noticed = Promise.withResolvers<void>()
    mode.watch(() => noticed.resolve())
    const began = performance.now()
    await sets.remove({ name, family: 4 }, [...before!].slice(0, 1))
    await noticed.promise
    expect(performance.now() - began).toBeLessThan(patience(1000))
    expect(await mode.sync(services)).toMatchObject({ kind: 'full', repaired: true, rules: 0, elements: 1 })
    expect(await sets.read(name)).toEqual(before)
  })

  test.runIf(variant === 'nft')('puts all right after nft flush ruleset, at the next sync', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    const services = compile()
    await mode.sync(services)
    const before = await saved(netns, variant)
    const noticed = Promise.withResolvers<void>()
    mode.watch(() => noticed.resolve())
    await run(['nft', 'flush', 'ruleset'], { netns })
    await noticed.promise
    expect(await mode.sync(services)).toMatchObject({ repaired: true })
    expect(await saved(netns, variant)).toBe(before)
  })

  test('explain() shows the rules that a packet meets, and which are missing', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    const services = compile()
    await mode.sync(services)
    // Rules of others, which we need not understand.
    await run([`iptables-${variant}`, '-I', 'FORWARD', '-m', 'limit', '--limit', '5/min', '-j', 'ACCEPT'], { netns })
    const packet: PacketAtNode = {
      protocol: 'tcp',
      source: parseIp('10.1.0.9'),
      destination: parseIp('10.96.0.1'),
      port: parsePort(80),
      origin: 'pod',
      toNode: false,
      iifname: 'eth0',
    }
    const found = await mode.explain(services, packet, { isLocal: () => false })
    expect(found.differences).toEqual([])
    expect(found.lines[1]).toMatch(/^nat KUBE-SERVICES -d 10.96.0.1\/32 .* -j KUBE-SVC-/)
    expect(found.lines.some((line) => line.endsWith('-j DNAT --to-destination 10.0.0.2:8080'))).toBe(true)
    const port = { ...packet, port: parsePort(81) }
    const refused = await mode.explain(services, port, { isLocal: () => false })
    expect(refused.lines.at(-1)).toMatch(/^filter KUBE-SERVICES .*--match-set FAIRLEAD-CLUSTER-IPS-4 dst -j REJECT/)
    await run([`iptables-${variant}`, '-t', 'nat', '-F', 'KUBE-POSTROUTING'], { netns })
    const { differences } = await mode.explain(services, packet, { isLocal: () => false })
    expect(differences).toEqual(['nat KUBE-POSTROUTING has other rules than it should'])
  })

  test('is not startled by its own changes', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    const before = compile()
    await mode.sync(before)
    let startled = 0
    mode.watch(() => void startled++)
    await mode.sync(compile({ ...rich, services: rich.services.with([], ['default/empty']) }, before))
    // Longer than it takes until a change is looked for.
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(startled).toBe(0)
  })

  test.each([200, 250])('is not startled by a first sync of %i Services, which comes in blocks', async (count) => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    let startled = 0
    mode.watch(() => void startled++)
    const many = Array.from({ length: count }, (_, i) => {
      const service = exampleService(`s${i}`, { clusterIPs: [`10.96.1.${i}`] })
      return [service, exampleSlice(service, ['10.0.0.1', '10.0.0.2'])] as const
    })
    const services = compile(exampleSnapshot(many))
    await mode.sync(services)
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(startled).toBe(0)
    expect((await mode.plan(services)).lines).toEqual([])
  })

  test('cleanup() takes this mode’s rules, and leaves what others have, a kube-proxy too', async () => {
    using netns = createAnonymousNetns()
    const kubelet = '*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n*nat\n:OTHERS - [0:0]\n-A OUTPUT -j OTHERS\nCOMMIT\n'
    await run([`iptables-${variant}-restore`, '--noflush'], { netns, input: kubelet })
    const before = await saved(netns, variant)
    const other = variant === 'nft' ? 'legacy' : 'nft'
    const left =
      '*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n'
    await run([`iptables-${other}-restore`, '--noflush'], { netns, input: left })
    using mode = openMode(netns, variant)
    await mode.sync(compile())
    await mode.cleanup()
    const after = await saved(netns, variant)
    expect(after.match(/KUBE-(?!IPTABLES-HINT)|FAIRLEAD/)).toBeNull()
    for (const line of before.split('\n')) expect(after.split('\n')).toContain(line)
    const kubeProxys = `2 chains of kube-proxy in iptables-${other}`
    expect(await removeServiceRules({ netns })).toEqual({ removed: [], left: [kubeProxys] })
    expect(await removeServiceRules({ netns, kubeProxy: true })).toEqual({ removed: [kubeProxys], left: [] })
    expect((await saved(netns, other)).match(/KUBE|FAIRLEAD/)).toBeNull()
  })

  test('removeServiceRules() finds this mode’s rules and sets without any state', async () => {
    using netns = createAnonymousNetns()
    using mode = openMode(netns, variant)
    await mode.sync(compile())
    const { removed, left } = await removeServiceRules({ netns })
    expect(left).toEqual([])
    expect(removed.map((words) => words.replace(/^\d+ /, ''))).toEqual([
      `chains of Services in iptables-${variant}`,
      `chains of Services in ip6tables-${variant}`,
      'set FAIRLEAD-CLUSTER-IPS-4',
      'set FAIRLEAD-CLUSTER-IPS-6',
    ])
    expect((await saved(netns, variant)).match(/KUBE|FAIRLEAD/)).toBeNull()
  })
})
