import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { builtInChains, FakeIptables } from '../iptables/fake-iptables.ts'
import type { Ruleset, TableChanges } from '../iptables/objects.ts'
import { formatRestore, isEmptyChange } from '../iptables/save-format.ts'
import { tracePacket, type TraceResult } from '../iptables/trace.ts'
import { parseCidr } from '../net/cidr.ts'
import { ipFamilyOf, ipToBytes, parseIp, type IpFamily } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import {
  compileServices,
  defaultProxySettings,
  type CompiledServices,
  type ProxySettings,
} from '../proxy/compile-services.ts'
import { decide, originOf, type Packet } from '../proxy/decide.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { programmedFamily } from './iptables-changes.ts'
import { clientHashSlot } from './iptables-hash.ts'
import { portChain } from './iptables-names.ts'
import { changeTables, clusterIpsOf, contextOf } from './iptables-tables.ts'

const features = { addressSets: true, liberalConntrack: false }

/** What iptables-save would show of the family. */
function rulesOf(services: CompiledServices, family: IpFamily): Ruleset {
  const context = contextOf(services, { family, terse: false })
  const { shared } = programmedFamily(services, context, features)
  return new Map(
    changeTables(new Map(), { services, context, shared, variant: 'legacy' }).map(
      ({ table, chains, blocks = [], prepend = [] }) => {
        const all = new Map([...blocks, chains].flatMap((some) => [...some].map(([name, rules]) => [name, [...rules]])))
        for (const { chain, rule } of prepend) all.set(chain, [...(all.get(chain) ?? []), rule])
        return [table, all]
      },
    ),
  )
}

test('clients are remembered in the lists that are asked, also where endpoints of one address count in one policy only', () => {
  const service = exampleService('web', {
    annotations: { 'fairlead.dev/affinity-scope': 'service' },
    sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 60 },
    externalTrafficPolicy: 'Local',
    ports: ['http=80:30080/tcp', 'admin=81:30081/tcp'],
  })
  const slice = (name: string, first: number, nodeName: string) =>
    exampleSlice(service, [{ address: '192.0.2.1', nodeName }], {
      name,
      ports: [`http=${first}/tcp`, `admin=${first + 1}/tcp`],
    })
  const snapshot = exampleSnapshot([[service, slice('web-a', 80, 'elsewhere'), slice('web-b', 8080, 'this-node')]])
  const compiled = compileServices(snapshot, { nodeName: 'this-node', settings: defaultProxySettings })
  const nat = rulesOf(compiled, 4).get('nat')!
  const asked: string[] = []
  for (const rules of nat.values()) {
    for (const rule of rules) {
      const [, list, chain = ''] = /--rcheck .*--name (\S+) .*-j (\S+)/.exec(rule) ?? []
      if (list === undefined) continue
      asked.push(list)
      expect([...(nat.get(chain) ?? [])].join('\n')).toContain(`--set --name ${list} `)
    }
  }
  // The cluster's two endpoints of each port, and the one here again for the node port; the same two lists for both ports.
  expect(asked).toHaveLength(6)
  expect(new Set(asked).size).toBe(2)
})

/** A packet's way, and whether it is the way that {@link decide} wants. */
function trace(services: CompiledServices, packet: Packet, draw: () => number): TraceResult {
  const family = ipFamilyOf(packet.destination)
  const ips = clusterIpsOf(services.services.values(), family)
  return tracePacket(
    rulesFor(services, family),
    {
      ...packet,
      destinationPort: packet.port,
      input: packet.origin === 'node' ? undefined : 'eth0',
      isLocal: (ip) => localAddresses.has(ip),
    },
    { draw, isInSet: (_, ip) => ips.has(ip) },
  )
}

const compiledRules = new WeakMap<CompiledServices, Map<IpFamily, Ruleset>>()
function rulesFor(services: CompiledServices, family: IpFamily): Ruleset {
  const known = compiledRules.get(services) ?? new Map<IpFamily, Ruleset>()
  compiledRules.set(services, known)
  const rules = known.get(family) ?? rulesOf(services, family)
  known.set(family, rules)
  return rules
}

const localAddresses: ReadonlySet<string> = new Set([
  '172.30.0.10',
  '192.168.0.2',
  '192.168.0.7',
  '127.0.0.1',
  'fd00:192:168::2',
  '::1',
])

type Kind = 'clusterIps' | 'others' | 'balancers' | 'endpoints' | 'ranges' | 'clients' | 'destinations'

/** Few values, so that Services and packets meet. */
const values: Readonly<Record<IpFamily, Readonly<Record<Kind, readonly string[]>>>> = {
  4: {
    clusterIps: ['172.30.0.1', '172.30.0.2', '172.30.0.3'],
    others: ['192.168.99.1', '192.168.0.2'],
    balancers: ['1.2.3.4', '5.6.7.8'],
    endpoints: ['10.180.0.1', '10.180.0.2', '10.180.2.1', '192.168.0.2'],
    ranges: ['203.0.113.0/25', '10.0.0.0/8', '192.168.0.0/24', '0.0.0.0/0'],
    clients: ['10.180.0.1', '10.180.0.9', '203.0.113.1', '203.0.113.200', '1.2.3.4'],
    destinations: ['172.30.0.9', '172.30.0.10', '192.168.0.7', '127.0.0.1', '198.51.100.1'],
  },
  6: {
    clusterIps: ['fd00:172:30::1', 'fd00:172:30::2'],
    others: ['2001:db8:99::1'],
    balancers: ['2001:db8:99::5'],
    endpoints: ['fd00:10::1', 'fd00:10::2'],
    ranges: ['2001:db8:1::/65', 'fd00:10::/64'],
    clients: ['fd00:10::1', 'fd00:10::9', '2001:db8:1::1', '2001:db8:1:0:8000::1'],
    destinations: ['fd00:172:30::9', '::1', 'fd00:192:168::2'],
  },
}

const families = [4, 6] as const
const some = (of: (family: IpFamily) => readonly string[], length = 3) =>
  fc.array(fc.constantFrom(...families.flatMap(of)), { maxLength: length }).map((list) => [...new Set(list)])
const nth = fc.nat({ max: 3 })

const anEndpoint = fc.record({
  ready: fc.constantFrom(true, true, false),
  serving: fc.boolean(),
  terminating: fc.boolean(),
  here: fc.boolean(),
  weight: fc.constantFrom(1, 1, 3, 0),
})

const aService = fc.record({
  type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer'),
  clusterIp: fc.tuple(nth, nth),
  ports: fc.uniqueArray(fc.constantFrom('http=80', 'dns=53', 'other=8080'), { minLength: 1, maxLength: 2 }),
  protocol: fc.constantFrom('tcp', 'udp'),
  externalIPs: some((f) => values[f].others, 2),
  balancers: some((f) => values[f].balancers, 2),
  ranges: fc.oneof(
    fc.constant<string[]>([]),
    some((f) => values[f].ranges),
  ),
  internalTrafficPolicy: fc.constantFrom('Cluster', 'Cluster', 'Local'),
  externalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
  affinity: fc.boolean(),
  algorithm: fc.constantFrom('random', 'random', 'maglev', 'round-robin'),
  guard: fc.constantFrom('load-balancer', 'all'),
  endpoints: fc.array(fc.tuple(fc.nat({ max: 3 }), anEndpoint), { maxLength: 4 }),
})

const someSettings = fc.record({
  pods: fc.constantFrom<readonly string[]>(
    [],
    ['10.0.0.0/8', 'fd00:10::/64'],
    ['10.180.0.0/24', '10.180.2.0/24', 'fd00:10::/64'],
  ),
  masqueradeAll: fc.constantFrom(false, false, true),
  nodePorts: fc.constantFrom<readonly string[] | undefined>(
    undefined,
    ['192.168.0.2/32'],
    ['0.0.0.0/0', '::/0'],
    ['127.0.0.0/8'],
  ),
})

const aPacket = fc.record({
  family: fc.constantFrom(4 as const, 4 as const, 6 as const),
  client: nth,
  node: fc.constantFrom(true, false, false),
  to: fc.nat({ max: 20 }),
  port: fc.constantFrom(80, 53, 8080, 30080, 30053, 31000, 30081),
  protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  draws: fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { minLength: 1, maxLength: 8 }),
})

type Wish = typeof aService extends fc.Arbitrary<infer T> ? T : never
type Asked = typeof aPacket extends fc.Arbitrary<infer T> ? T : never

function servicesOf(wishes: readonly Wish[], settings: ProxySettings): CompiledServices {
  const objects = wishes.map((wish, i) => {
    const ips = families.flatMap((f, k) => values[f].clusterIps[wish.clusterIp[k] ?? 0] ?? [])
    const exposed = wish.type !== 'ClusterIP'
    const service = exampleService(`svc-${i}`, {
      type: wish.type as 'ClusterIP',
      clusterIPs: ips.length > 0 ? ips : ['172.30.0.1'],
      ports: wish.ports.map((port) => `${port}${exposed ? `:300${port.slice(-2)}` : ''}/${wish.protocol}`),
      externalIPs: wish.externalIPs,
      loadBalancerIngress: wish.balancers.map((ip) => ({ ip: parseIp(ip), ipMode: 'VIP' as const })),
      loadBalancerSourceRanges: wish.ranges.map(parseCidr),
      internalTrafficPolicy: wish.internalTrafficPolicy as 'Cluster',
      externalTrafficPolicy: wish.externalTrafficPolicy as 'Cluster',
      sessionAffinity: wish.affinity ? { kind: 'ClientIP', timeoutSeconds: 10800 } : { kind: 'None' },
      annotations: { 'fairlead.dev/algorithm': wish.algorithm, 'fairlead.dev/source-ranges': wish.guard },
    })
    const slices = families.map((family) => {
      const endpoints = wish.endpoints.flatMap(([at, { here, ...endpoint }]) => {
        const address = values[family].endpoints[at]
        return address === undefined ? [] : [{ address, ...endpoint, nodeName: here ? 'this-node' : 'other' }]
      })
      const slice = exampleSlice(service, endpoints, {
        name: `svc-${i}-${family}`,
        ports: wish.ports.map((port, k) => `${port.split('=')[0]}=${9000 + k}/${wish.protocol}`),
      })
      return { ...slice, family }
    })
    return [service, ...slices] as const
  })
  return compileServices(exampleSnapshot(objects), { nodeName: 'this-node', settings })
}

function packetOf(asked: Asked, settings: ProxySettings): Packet {
  const at = values[asked.family]
  const targets = [...at.clusterIps, ...at.others, ...at.balancers, ...at.destinations]
  const destination = parseIp(targets[asked.to % targets.length]!)
  const nodeAddress = asked.family === 4 ? '192.168.0.2' : 'fd00:192:168::2'
  const source = parseIp(asked.node ? nodeAddress : at.clients[asked.client % at.clients.length]!)
  return {
    protocol: asked.protocol,
    source,
    destination,
    port: parsePort(asked.port),
    origin: asked.node ? 'node' : originOf(settings, source, 'eth0'),
    toNode: localAddresses.has(destination),
  }
}

describe('changeTables()', () => {
  test('does with any packet what the model decides', () => {
    const kinds = { pass: 0, reject: 0, drop: 0, balance: 0 }
    fc.assert(
      fc.property(
        fc.array(aService, { maxLength: 5 }),
        someSettings,
        fc.array(aPacket, { minLength: 50, maxLength: 50 }),
        (wishes, { pods, masqueradeAll, nodePorts }, asked) => {
          const settings: ProxySettings = {
            ...defaultProxySettings,
            localPods: pods.map(parseCidr),
            masqueradeAll,
            nodePortAddresses: nodePorts?.map(parseCidr),
            serviceCIDRs: [parseCidr('172.30.0.0/16'), parseCidr('fd00:172:30::/108')],
          }
          const services = servicesOf(wishes, settings)
          for (const one of asked) {
            const packet = packetOf(one, settings)
            let drawn = 0
            const result = trace(services, packet, () => one.draws[drawn++ % one.draws.length] ?? 0)
            const decision = decide(services, packet)
            compare(result, decision, packet)
            kinds[decision.kind]++
          }
        },
      ),
      { numRuns: 200 },
    )
    expect(Math.min(...Object.values(kinds)), 'each kind of decision was met often').toBeGreaterThan(50)
  }, 60_000)
})

function compare(result: TraceResult, decision: ReturnType<typeof decide>, packet: Packet): void {
  const seen = { verdict: result.verdict, translated: result.translatedTo !== undefined }
  switch (decision.kind) {
    case 'balance': {
      const targets = decision.slots.map(({ ip, port }) => (ipFamilyOf(ip) === 4 ? `${ip}:${port}` : `[${ip}]:${port}`))
      expect({ ...seen, why: result.steps }).toMatchObject({ verdict: 'accept', translated: true })
      expect(targets).toContain(result.translatedTo)
      const toItself =
        targets.includes(result.translatedTo ?? '') && result.translatedTo?.includes(packet.source) === true
      // What comes from elsewhere to a process of the node never comes to postrouting.
      if (packet.origin !== 'node' && result.steps.some((step) => step.startsWith('filter INPUT'))) break
      expect(result.masqueraded, result.steps.join('\n')).toBe(decision.masquerade || toItself)
      break
    }
    case 'pass':
      expect(seen, decision.why).toEqual({ verdict: 'accept', translated: false })
      break
    case 'drop':
    case 'reject':
      expect(seen, decision.why).toEqual({ verdict: decision.kind, translated: false })
      break
    default:
      decision satisfies never
  }
}

const web = exampleService('web', {
  clusterIPs: ['172.30.0.1'],
  ports: ['http=80:30080/tcp'],
  externalTrafficPolicy: 'Local',
  sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 10800 },
})
const settings: ProxySettings = { ...defaultProxySettings, localPods: [parseCidr('10.0.0.0/8')] }
const small = compileServices(
  exampleSnapshot([
    [
      web,
      exampleSlice(web, [{ address: '10.180.0.1', nodeName: 'this-node' }, '10.180.2.1'], { ports: ['http=8080/tcp'] }),
    ],
  ]),
  { nodeName: 'this-node', settings },
)

test('changeTables() writes the chains that kube-proxy writes', () => {
  const lines: string[] = []
  for (const [table, chains] of rulesOf(small, 4)) {
    for (const [name, rules] of chains) lines.push(`${table} ${name}`, ...rules.map((rule) => `  ${rule}`))
  }
  expect(lines.join('\n')).toMatchSnapshot()
})

test.each([
  // From kube-proxy's own tests (pkg/proxy/iptables/proxier_test.go).
  ['SVC', 'ns1/svc1:p80', '', 'KUBE-SVC-XPGD46QRK7WJZT7O'],
  ['SEP', 'ns1/svc1:p80', '10.180.0.1:80', 'KUBE-SEP-SXIVWICOYRO3J4NJ'],
] as const)('portChain() names %s of %s as kube-proxy does', (kind, port, endpoint, name) => {
  expect(portChain(kind, port, { protocol: 'tcp', endpoint })).toBe(name)
})

test('clientHashSlot() spreads clients evenly over a table', () => {
  const counts = Array.from({ length: 7 }, () => 0)
  for (let i = 0; i < 7000; i++) counts[clientHashSlot(ipToBytes(parseIp(`10.1.${i >> 8}.${i & 255}`)), 7)]!++
  expect(Math.min(...counts)).toBeGreaterThan(850)
  expect(Math.max(...counts)).toBeLessThan(1150)
})

describe.each(['legacy', 'nft'] as const)('changeTables() for the %s tools', (variant) => {
  /** Every third Service has both families, every third IPv6 alone. */
  const many = (count: number, endpoints: readonly string[] = ['10.180.0.1', '10.180.0.2']) =>
    compileServices(
      exampleSnapshot(
        Array.from({ length: count }, (_, i) => {
          const both = [`10.96.${i >> 8}.${i & 255}`, `fd00:96::${i.toString(16)}`]
          const clusterIPs = i % 3 === 0 ? both : [both[i % 3 === 1 ? 0 : 1] ?? '']
          const service = exampleService(`s${i}`, { clusterIPs, ports: [`80:${30_000 + i}/tcp`] })
          return [
            service,
            exampleSlice(service, endpoints),
            exampleSlice(service, ['fd00:10::1', 'fd00:10::2'], { name: `${service.name}-6` }),
          ] as const
        }),
      ),
      { nodeName: 'n', settings },
    )
  const changesTo = (current: Ruleset, services: CompiledServices, family: IpFamily) => {
    const context = contextOf(services, { family, terse: false })
    return changeTables(current, { ...programmedFamily(services, context, features), variant })
  }
  const blocksOf = (changes: readonly TableChanges[]) => [
    ...(changes.find(({ table }) => table === 'nat')?.blocks ?? []),
  ]

  test.each([4, 6] as const)('fills empty tables in blocks, none of them empty (IPv%i)', async (family) => {
    const tools = new FakeIptables(family, variant)
    const services = many(350)
    const changes = changesTo(await tools.save(), services, family)
    const { transactions } = await tools.restore(changes)
    const blocks = blocksOf(changes)
    expect(blocks.length).toBeGreaterThan(2)
    expect(Math.min(...blocks.map(({ size }) => size))).toBeGreaterThan(0)
    expect(transactions).toBe(variant === 'nft' ? blocks.length + 3 : 3)
    expect(await tools.save()).toEqual(withBuiltInChains(rulesOf(services, family)))
    expect(changesTo(await tools.save(), services, family).every(isEmptyChange)).toBe(true)
  })

  test('goes on where a fill ended, and leaves what is there until the last transaction', async () => {
    const tools = new FakeIptables(4, variant)
    const services = many(350)
    const text = formatRestore(changesTo(await tools.save(), services, 4), variant)
    const parts = text.split(/(?<=COMMIT\n)/)
    // All but what leads there. The legacy tools do that in one.
    tools.apply(parts.slice(0, -1).join(''))
    const led = (await tools.save()).get('nat')?.get('OUTPUT') ?? []
    expect(led).toEqual([])
    await tools.restore(changesTo(await tools.save(), services, 4))
    expect(await tools.save()).toEqual(withBuiltInChains(rulesOf(services, 4)))

    const other = many(700, ['10.180.0.2', '10.180.0.3'])
    const changes = changesTo(await tools.save(), other, 4)
    const there = new Set((await tools.save()).get('nat')?.keys())
    const fresh = blocksOf(changes)
    expect(fresh.length).toBeGreaterThan(1)
    expect(fresh.flatMap((block) => [...block.keys()]).filter((name) => there.has(name))).toEqual([])
    await tools.restore(changes)
    expect(await tools.save()).toEqual(withBuiltInChains(rulesOf(other, 4)))
  })
})

/** As {@link FakeIptables} shows them. */
function withBuiltInChains(rules: Ruleset): Ruleset {
  return new Map(
    [...rules].map(([table, chains]) => [
      table,
      new Map([...builtInChains[table].map((name) => [name, []] as const), ...chains]),
    ]),
  )
}
