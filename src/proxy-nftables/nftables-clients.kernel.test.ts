import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Host, Outcome } from '../../test/lab/host.ts'
import { createServiceNode, families } from '../../test/lab/service-node.ts'
import { silentLog } from '../base/log.ts'
import type { Service } from '../model/service.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { openNftables } from '../nftables/open-client.ts'
import {
  compileServices,
  defaultProxySettings,
  type CompiledServices,
  type ProxySettings,
} from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { maglevSlot } from '../proxy/maglev.ts'
import { NftablesMode } from './nftables-mode.ts'

/* Which endpoint a client gets, and whether it may come at all: session affinity, algorithms, source ranges. */

const [v4, v6] = families
const settings: ProxySettings = {
  ...defaultProxySettings,
  localPods: [parseCidr('10.0.0.0/24'), parseCidr('fd00:10::/64')],
  serviceCIDRs: [parseCidr('10.96.0.0/16'), parseCidr('fd00:96::/112')],
}
const balancerIp = { 4: '198.51.100.7', 6: '2001:db8:99::7' } as const
/** Addresses of the neighbour: clients from outside. */
const clients = Array.from({ length: 12 }, (_, n) => ({ 4: `192.0.2.${20 + n}`, 6: `fd00:c::${20 + n}` }))

/** Two endpoints in each of two pods: a slice has one port number for all of its endpoints. */
const allEndpoints = ['web1:8080', 'web2:8080', 'web1:8081', 'web2:8081'] as const
type EndpointName = (typeof allEndpoints)[number]

function slices(service: Service, endpoints: readonly EndpointName[]) {
  return families.flatMap((f) =>
    [8080, 8081].map((port) => {
      const pods = endpoints.filter((name) => name.endsWith(`:${port}`)).map((name) => name.slice(0, 4) as 'web1')
      const here = pods.map((pod) => ({ address: f.pods[pod], nodeName: 'this-node' }))
      // The family of a slice is that of its first endpoint.
      const unready = { address: f.pods.asking, ready: false, serving: false }
      const ports = service.ports.map(({ name }) => (name === 'more' ? 'more=8082/tcp' : `${name}=${port}/tcp`))
      return exampleSlice(service, [...here, unready], { name: `${service.name}-${f.name}-${port}`, ports })
    }),
  )
}

const compile = (snapshot: Snapshot, previous?: CompiledServices, some: ProxySettings = settings): CompiledServices =>
  compileServices(snapshot, { nodeName: 'this-node', settings: some, previous })

let world: Awaited<ReturnType<typeof createServiceNode>>
let node: Host
let neighbour: Host
let pods: typeof world.pods

beforeAll(async () => {
  world = await createServiceNode()
  ;({ node, neighbour, pods } = world)
  await neighbour.addAddresses(
    'node',
    clients.flatMap((c) => [`${c[4]}/32`, `${c[6]}/128`]),
  )
  for (const name of ['web1', 'web2'] as const) {
    await pods[name].listenTcp(8081, { reply: `${name}:8081` })
    await pods[name].listenTcp(8082)
  }
})

afterAll(async () => {
  await world[Symbol.asyncDispose]()
})

function openMode() {
  const client = openNftables({ netns: node.netns })
  return { mode: new NftablesMode(client, { log: silentLog }), [Symbol.dispose]: () => client[Symbol.dispose]() }
}

const replyOf = (outcome: Outcome): string => (typeof outcome === 'string' ? outcome : outcome.reply)

/** Who answers each client. */
async function askAll(to: (f: 4 | 6) => readonly [string, number], family: 4 | 6): Promise<string[]> {
  const outcomes: string[] = []
  for (const client of clients) {
    outcomes.push(replyOf(await neighbour.connectTcp(...to(family), { sourceAddress: client[family] })))
  }
  return outcomes
}

const sticky = exampleService('sticky', {
  type: 'LoadBalancer',
  clusterIPs: [v4.vip, v6.vip],
  ports: ['http=80:30080/tcp'],
  loadBalancerIngress: [4, 6].map((f) => ({ ip: parseIp(balancerIp[f as 4]), ipMode: 'VIP' as const })),
  sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 600 },
})
const stickyTo = (service: Service, endpoints: readonly EndpointName[], previous?: CompiledServices) =>
  compile(exampleSnapshot([[service, ...slices(service, endpoints)]]), previous)

describe.each([4, 6] as const)('NftablesMode with session affinity over IPv%i', (family) => {
  const f = family === 4 ? v4 : v6
  const toVip = () => [f.vip, 80] as const

  test('a client has one endpoint at all addresses of a Service port, and clients are spread', async () => {
    using open = openMode()
    await open.mode.sync(stickyTo(sticky, allEndpoints))
    const first = await askAll(toVip, family)
    expect(new Set(first).size).toBeGreaterThan(1)
    expect(await askAll(() => [f.node, 30080], family)).toEqual(first)
    expect(await askAll(() => [balancerIp[family], 80], family)).toEqual(first)
    const { stdout } = await node.exec(['nft', 'list', 'map', 'inet', 'fairlead-services', `affinity-${family}`])
    for (const client of clients) expect(stdout).toContain(client[family])
  })

  test('it keeps it while others come and go, and gets another at once when it goes', async () => {
    using open = openMode()
    const all = stickyTo(sticky, allEndpoints)
    await open.mode.sync(all)
    const first = await askAll(toVip, family)
    const gone = first[0] === 'web1' ? 'web1:8080' : first[0] === 'web2' ? 'web2:8080' : (first[0] as EndpointName)
    const fewer = stickyTo(
      sticky,
      allEndpoints.filter((name) => name !== gone),
      all,
    )
    await open.mode.sync(fewer)
    const second = await askAll(toVip, family)
    expect(second[0]).not.toBe(first[0])
    for (const [n, endpoint] of first.entries()) if (endpoint !== first[0]) expect(second[n]).toBe(endpoint)
    expect(await askAll(toVip, family)).toEqual(second)
    await open.mode.sync(stickyTo(sticky, allEndpoints, fewer))
    expect(await askAll(toVip, family)).toEqual(second)
  })

  test('a restarted daemon knows them, writes nothing, and goes on', async () => {
    using first = openMode()
    const all = stickyTo(sticky, allEndpoints)
    await first.mode.sync(all)
    // Numbers and slots that only history explains.
    const some = stickyTo(sticky, ['web2:8080', 'web2:8081'], all)
    await first.mode.sync(some)
    const after = stickyTo(sticky, allEndpoints, some)
    await first.mode.sync(after)
    const before = await askAll(toVip, family)
    first[Symbol.dispose]()

    using second = openMode()
    const recalled = await second.mode.recall()
    const again = compileServices(after.snapshot, { nodeName: 'this-node', settings, recalled })
    expect(await second.mode.sync(again)).toMatchObject({ kind: 'full', elements: 0, rules: 0, messages: 0 })
    expect(await askAll(toVip, family)).toEqual(before)
    await second.mode.sync(stickyTo(sticky, ['web1:8080', 'web2:8080', 'web2:8081'], again))
    const kept = await askAll(toVip, family)
    for (const [n, endpoint] of before.entries()) if (endpoint !== 'web1:8081') expect(kept[n]).toBe(endpoint)
  })

  test('with affinity-scope service, a client has one pod at all ports', async () => {
    const service = exampleService('scope', {
      clusterIPs: [f.vip],
      ports: ['http=80/tcp', 'more=81/tcp'],
      sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 600 },
      annotations: { 'fairlead.dev/affinity-scope': 'service' },
    })
    using open = openMode()
    await open.mode.sync(stickyTo(service, ['web1:8080', 'web2:8080']))
    const first = await askAll(toVip, family)
    expect(new Set(first)).toEqual(new Set(['web1', 'web2']))
    expect(await askAll(() => [f.vip, 81], family)).toEqual(first)
  })

  // Once is enough: it takes five seconds.
  test.runIf(family === 4)(
    'the time starts anew with each connection, and after it the client is forgotten',
    async () => {
      const service = { ...sticky, sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 2 } as const }
      const listed = async (): Promise<number> => {
        const { stdout } = await node.exec(['nft', 'list', 'map', 'inet', 'fairlead-services', `affinity-${family}`])
        return stdout.match(/timeout 2s/g)?.length ?? 0
      }
      using open = openMode()
      await open.mode.cleanup()
      await open.mode.sync(stickyTo(service, allEndpoints))
      const first = await askAll(toVip, family)
      for (let round = 0; round < 2; round++) {
        await setTimeout(1200)
        expect(await askAll(toVip, family)).toEqual(first)
      }
      expect(await listed()).toBe(clients.length)
      await setTimeout(2100)
      expect(await listed()).toBe(0)
    },
  )
})

describe('NftablesMode and algorithms', () => {
  const withAlgorithm = (algorithm: string) => {
    const fields = { clusterIPs: [v4.vip, v6.vip], ports: ['http=80/tcp'] }
    return exampleService('chosen', { ...fields, annotations: { 'fairlead.dev/algorithm': algorithm } })
  }

  test('round-robin takes each endpoint in turn', async () => {
    using open = openMode()
    await open.mode.sync(stickyTo(withAlgorithm('round-robin'), ['web1:8080', 'web2:8080', 'web1:8081']))
    const replies = await askAll(() => [v4.vip, 80], 4)
    expect(replies).toEqual(replies.map((_, n) => replies[n % 3]))
    expect(new Set(replies).size).toBe(3)
  })

  test.each([4, 6] as const)('maglev takes the endpoint that the IPv%i client’s address says', async (family) => {
    using open = openMode()
    const compiled = stickyTo(withAlgorithm('maglev'), allEndpoints)
    await open.mode.sync(compiled)
    const frontend = compiled.services.get('default/chosen')?.frontends.find((one) => one.family === family)
    const slots = frontend?.verdict.kind === 'balance' ? frontend.verdict.slots : []
    const expected = clients.map((client) => {
      const { ip, port } = slots[maglevSlot(parseIp(client[family]), slots.length)]!
      const pod = families.some((f) => f.pods.web1 === ip) ? 'web1' : 'web2'
      return port === 8080 ? pod : `${pod}:8081`
    })
    const vip = family === 4 ? v4.vip : v6.vip
    expect(await askAll(() => [vip, 80], family)).toEqual(expected)
  })
})

describe.each([4, 6] as const)('NftablesMode with source ranges over IPv%i', (family) => {
  const f = family === 4 ? v4 : v6
  const silent = { timeout: 500 }
  const ranges = [`${clients[0]?.[family]}/${family === 4 ? 32 : 128}`, `${f.pods.asking}/${family === 4 ? 31 : 127}`]
  const guarded = (annotations: Record<string, string> = {}) =>
    ({
      ...sticky,
      sessionAffinity: { kind: 'None' },
      loadBalancerSourceRanges: ranges.map(parseCidr),
      annotations,
    }) as const
  const from = (n: number, to: string, port: number) =>
    neighbour.connectTcp(to, port, { ...silent, sourceAddress: clients[n]?.[family] ?? '' })

  test('only they reach the load balancer IP, pods and the node included; other addresses are open', async () => {
    using open = openMode()
    const service = guarded()
    await open.mode.sync(stickyTo(service, ['web1:8080']))
    expect(replyOf(await from(0, balancerIp[family], 80))).toBe('web1')
    expect(await from(1, balancerIp[family], 80)).toBe('timeout')
    expect(replyOf(await pods.asking.connectTcp(balancerIp[family], 80, silent))).toBe('web1')
    expect(await pods.web2.connectTcp(balancerIp[family], 80, silent)).toBe('timeout')
    expect(await node.connectTcp(balancerIp[family], 80, silent)).toBe('timeout')
    expect(replyOf(await from(1, f.node, 30080))).toBe('web1')
    expect(replyOf(await from(1, f.vip, 80))).toBe('web1')
    // Without endpoints too: those who may come are refused, others hear nothing.
    await open.mode.sync(stickyTo(service, []))
    expect(
      await neighbour.connectTcp(balancerIp[family], 80, { timeout: 2500, sourceAddress: clients[0]![family] }),
    ).toBe('refused')
    expect(await from(1, balancerIp[family], 80)).toBe('timeout')
  })

  test('by annotation, they hold for node ports too', async () => {
    using open = openMode()
    await open.mode.sync(stickyTo(guarded({ 'fairlead.dev/source-ranges': 'all' }), ['web1:8080']))
    expect(replyOf(await from(0, f.node, 30080))).toBe('web1')
    expect(await from(1, f.node, 30080)).toBe('timeout')
    expect(replyOf(await from(1, f.vip, 80))).toBe('web1')
  })

  test('a cluster IP that no Service has is silent, one that has no such port refuses', async () => {
    using open = openMode()
    await open.mode.sync(stickyTo(sticky, ['web1:8080']))
    const unused = family === 4 ? '10.96.0.77' : 'fd00:96::77'
    for (const client of [neighbour, pods.asking, node])
      expect(await client.connectTcp(unused, 80, silent)).toBe('timeout')
    expect(await neighbour.connectTcp(f.vip, 81, { timeout: 2500 })).toBe('refused')
    const other = compile(exampleSnapshot([]), undefined, { ...settings, serviceCIDRs: [] })
    await open.mode.sync(other)
    expect(await neighbour.connectTcp(unused, 80, silent)).not.toBe('reached')
  })
})

describe('NftablesMode with other settings', () => {
  test('a Service that another proxy has translated is left alone', async () => {
    using open = openMode()
    await open.mode.sync(compile(exampleSnapshot([])))
    await node.exec(['nft', 'add table ip other; add chain ip other pre { type nat hook prerouting priority -95; }'])
    await node.exec(['nft', 'add rule ip other pre ip daddr 10.96.0.78 tcp dport 80 dnat to 10.0.0.11:8080'])
    const reached = await neighbour.connectTcp('10.96.0.78', 80)
    const silent = await neighbour.connectTcp('10.96.0.79', 80, { timeout: 500 })
    await node.exec(['nft', 'delete table ip other'])
    expect(reached).toMatchObject({ reply: 'web1' })
    expect(silent).toBe('timeout')
  })

  test('local pods are told by their interface', async () => {
    using open = openMode()
    const byInterface = {
      ...settings,
      localPods: [],
      localInterface: { name: 'br', prefix: true },
      masqueradeMark: 0x200,
    }
    const web = exampleService('web', { clusterIPs: [v4.vip], ports: ['http=80/tcp'] })
    await open.mode.sync(compile(exampleSnapshot([[web, ...slices(web, ['web1:8080'])]]), undefined, byInterface))
    expect(await pods.asking.connectTcp(v4.vip, 80)).toMatchObject({ seenSource: v4.pods.asking })
    expect(await neighbour.connectTcp(v4.vip, 80)).toMatchObject({ seenSource: v4.gateway })
    expect(await node.connectTcp(v4.vip, 80)).toMatchObject({ seenSource: v4.gateway })
  })

  test('nft lists all of it, and loads its own listing', async () => {
    using open = openMode()
    const algorithm = (name: string, value: string, ip: string) =>
      exampleService(name, {
        clusterIPs: [ip],
        ports: ['http=80/tcp'],
        annotations: { 'fairlead.dev/algorithm': value },
      })
    const services: Service[] = [
      { ...sticky, loadBalancerSourceRanges: [parseCidr('10.0.0.0/8'), parseCidr('fd00::/16')] },
      algorithm('turns', 'round-robin', '10.96.0.9'),
      algorithm('hashed', 'maglev', '10.96.0.8'),
    ]
    await open.mode.sync(
      compile(exampleSnapshot(services.map((service) => [service, ...slices(service, allEndpoints)]))),
    )
    await askAll(() => [v4.vip, 80], 4)
    const listed = await node.exec(['nft', 'list', 'ruleset'])
    expect(listed.stdout).toContain('jhash ip saddr mod 251')
    await node.exec(['nft', '-f', '-'], { input: `flush ruleset\n${listed.stdout}` })
    const again = await node.exec(['nft', 'list', 'ruleset'])
    const lasting = (text: string): string => text.replaceAll(/ expires [0-9a-z]+/g, '')
    expect(lasting(again.stdout)).toBe(lasting(listed.stdout))
  })
})
