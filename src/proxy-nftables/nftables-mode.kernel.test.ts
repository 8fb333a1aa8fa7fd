import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Host, Outcome } from '../../test/lab/host.ts'
import { patience } from '../../test/lab/patience.ts'
import { createServiceNode, families } from '../../test/lab/service-node.ts'
import { systemClock } from '../base/clock.ts'
import { silentLog, type Log } from '../base/log.ts'
import type { Service } from '../model/service.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { parseCidr } from '../net/cidr.ts'
import { openNftables } from '../nftables/open-client.ts'
import {
  compileServices,
  defaultProxySettings,
  type CompiledServices,
  type ProxySettings,
} from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { NftablesMode } from './nftables-mode.ts'
import { SyncLoop, type SyncOutcome } from '../proxy/sync-loop.ts'

/** Real packets through the nftables mode. */
const [v4, v6] = families

const settings: ProxySettings = {
  ...defaultProxySettings,
  localPods: [parseCidr('10.0.0.0/24'), parseCidr('fd00:10::/64')],
}

const web = exampleService('web', { clusterIPs: [v4.vip, v6.vip], ports: ['http=80:30080/tcp', 'dns=53:30053/udp'] })
const empty = exampleService('empty', {
  clusterIPs: [v4.empty, v6.empty],
  ports: ['http=80:30081/tcp', 'dns=53:30054/udp'],
})

function webSlices(service: Service, pods: readonly ('web1' | 'web2')[]) {
  const ports = ['http=8080/tcp', 'dns=5353/udp']
  return families.map((f) =>
    exampleSlice(
      service,
      pods.map((pod) => ({ address: f.pods[pod], nodeName: 'this-node' })),
      { name: `${service.name}-${f.name}`, ports },
    ),
  )
}

const both = exampleSnapshot([[web, ...webSlices(web, ['web1', 'web2'])], [empty]])
const compile = (snapshot: Snapshot, previous?: CompiledServices, some: ProxySettings = settings): CompiledServices =>
  compileServices(snapshot, { nodeName: 'this-node', settings: some, previous })

let world: Awaited<ReturnType<typeof createServiceNode>>
let node: Host
let neighbour: Host
let pods: typeof world.pods

beforeAll(async () => {
  world = await createServiceNode()
  ;({ node, neighbour, pods } = world)
})

afterAll(async () => {
  await world[Symbol.asyncDispose]()
})

function openMode(log: Log = silentLog) {
  const client = openNftables({ netns: node.netns })
  return { client, mode: new NftablesMode(client, { log }), [Symbol.dispose]: () => client[Symbol.dispose]() }
}

/** Who answers over `times` attempts, and which sources the endpoints saw. */
async function ask(attempt: () => Promise<Outcome>, times = 24) {
  const replies = new Set<string>()
  const sources = new Set<string>()
  for (let i = 0; i < times; i++) {
    const outcome = await attempt()
    if (typeof outcome === 'string') replies.add(outcome)
    else {
      replies.add(outcome.reply)
      sources.add(outcome.seenSource)
    }
  }
  return { replies: [...replies].sort(), sources: [...sources].sort() }
}

describe.each(families)('NftablesMode with packets over $name', (f) => {
  beforeAll(async () => {
    using open = openMode()
    await open.mode.sync(compile(both))
  })

  test('pod to cluster IP: TCP reaches each endpoint, with the pod’s own address', async () => {
    const seen = await ask(() => pods.asking.connectTcp(f.vip, 80))
    expect(seen).toEqual({ replies: ['web1', 'web2'], sources: [f.pods.asking] })
  })

  test('pod to cluster IP: UDP reaches each endpoint', async () => {
    const seen = await ask(() => pods.asking.connectUdp(f.vip, 53))
    expect(seen).toEqual({ replies: ['web1', 'web2'], sources: [f.pods.asking] })
  })

  test('node to cluster IP: the source address is replaced by that of the way to the pod', async () => {
    const seen = await ask(() => node.connectTcp(f.vip, 80, { sourceAddress: f.node }))
    expect(seen).toEqual({ replies: ['web1', 'web2'], sources: [f.gateway] })
  })

  test('neighbour to cluster IP: the source address is replaced', async () => {
    const seen = await ask(() => neighbour.connectTcp(f.vip, 80))
    expect(seen).toEqual({ replies: ['web1', 'web2'], sources: [f.gateway] })
  })

  test('endpoint to its own Service: reaches itself too, from the node’s address', async () => {
    const seen = await ask(() => pods.web1.connectTcp(f.vip, 80))
    expect(seen.replies).toEqual(['web1', 'web2'])
    expect(seen.sources).toEqual([f.gateway, f.pods.web1].sort())
  })

  test('node port: a neighbour reaches each endpoint, TCP and UDP, with a replaced address', async () => {
    const expected = { replies: ['web1', 'web2'], sources: [f.gateway] }
    expect(await ask(() => neighbour.connectTcp(f.node, 30080))).toEqual(expected)
    expect(await ask(() => neighbour.connectUdp(f.node, 30053))).toEqual(expected)
  })

  test('node port: the node and a pod reach each endpoint at the node’s address', async () => {
    const expected = { replies: ['web1', 'web2'], sources: [f.gateway] }
    expect(await ask(() => node.connectTcp(f.node, 30080))).toEqual(expected)
    expect(await ask(() => pods.asking.connectTcp(f.node, 30080))).toEqual(expected)
  })

  test('node port: loopback is left alone', async () => {
    expect(await node.connectTcp(f.loopback, 30080)).toBe('refused')
    await using _listener = await node.listenTcp(30080, { address: f.loopback, reply: 'node itself' })
    expect(await node.connectTcp(f.loopback, 30080)).toMatchObject({ reply: 'node itself' })
  })

  // A refusal of an IPv6 SYN that arrives while connect(2) still holds the socket shows at the second SYN only.
  const patient = { timeout: 2500 }

  test.each([
    ['pod', 'asking'],
    ['neighbour', 'neighbour'],
  ] as const)('no endpoints: a %s is refused at once, TCP and UDP, cluster IP and node port', async (_name, from) => {
    const client = from === 'neighbour' ? neighbour : pods[from]
    expect(await client.connectTcp(f.empty, 80, patient)).toBe('refused')
    expect(await client.connectUdp(f.empty, 53)).toBe('refused')
    expect(await client.connectTcp(f.node, 30081, patient)).toBe('refused')
    expect(await client.connectUdp(f.node, 30054)).toBe('refused')
  })

  test('no endpoints: the node is refused at once', async () => {
    expect(await node.connectTcp(f.empty, 80, patient)).toBe('refused')
    expect(await node.connectUdp(f.empty, 53)).toBe('refused')
  })

  test('a port or protocol that the cluster IP does not have is refused', async () => {
    expect(await pods.asking.connectTcp(f.vip, 81, patient)).toBe('refused')
    expect(await pods.asking.connectUdp(f.vip, 80)).toBe('refused')
  })

  test('a port of the node that no Service asked for is the node’s own', async () => {
    await using _listener = await node.listenTcp(30099, { reply: 'node itself' })
    expect(await neighbour.connectTcp(f.node, 30099)).toMatchObject({ reply: 'node itself' })
  })
})

describe('NftablesMode with settings', () => {
  test('masqueradeAll replaces pods’ addresses too; without known pods nobody’s is', async () => {
    using open = openMode()
    await open.mode.sync(compile(both, undefined, { ...settings, masqueradeAll: true }))
    expect((await ask(() => pods.asking.connectTcp(v4.vip, 80))).sources).toEqual([v4.gateway])
    await open.mode.sync(compile(both, undefined, { ...settings, localPods: [] }))
    expect((await ask(() => neighbour.connectTcp(v4.vip, 80))).sources).toEqual([v4.neighbour])
  })

  test('nodePortAddresses narrows where node ports answer', async () => {
    using open = openMode()
    const narrow = { ...settings, nodePortAddresses: [parseCidr('10.0.0.0/24'), parseCidr('10.0.0.1/32')] }
    await open.mode.sync(compile(both, undefined, narrow))
    expect(await neighbour.connectTcp(v4.node, 30080)).toBe('refused')
    expect((await ask(() => neighbour.connectTcp(v4.gateway, 30080))).replies).toEqual(['web1', 'web2'])
  })

  test('policy Local: outside clients keep their address, and are dropped where this node has nothing', async () => {
    const fields = { clusterIPs: [v4.vip], externalTrafficPolicy: 'Local', ports: ['80:30080/tcp'] } as const
    const external = exampleService('edge', { ...fields, externalIPs: ['198.51.100.7'] })
    const local = (nodeName: string) =>
      exampleSlice(external, [{ address: v4.pods.web1, nodeName }, { address: v4.pods.web2 }], { ports: ['8080/tcp'] })
    using open = openMode()
    const here = compile(exampleSnapshot([[external, local('this-node')]]))
    await open.mode.sync(here)
    for (const [address, port] of [
      ['198.51.100.7', 80],
      [v4.node, 30080],
    ] as const) {
      const outside = await ask(() => neighbour.connectTcp(address, port))
      expect(outside).toEqual({ replies: ['web1'], sources: [v4.neighbour] })
      const pod = await ask(() => pods.asking.connectTcp(address, port))
      expect(pod).toEqual({ replies: ['web1', 'web2'], sources: [v4.pods.asking] })
      const process = await ask(() => node.connectTcp(address, port))
      expect(process).toEqual({ replies: ['web1', 'web2'], sources: [v4.gateway] })
    }
    await open.mode.sync(compile(exampleSnapshot([[external, local('other-node')]]), here))
    expect(await neighbour.connectTcp('198.51.100.7', 80, { timeout: 600 })).toBe('timeout')
    expect(await neighbour.connectTcp(v4.node, 30080, { timeout: 600 })).toBe('timeout')
  })
})

describe('NftablesMode over time', () => {
  beforeEach(async () => {
    using open = openMode()
    await open.mode.cleanup()
  })

  test('a changed endpoint costs its own elements, and new connections follow it', async () => {
    using open = openMode()
    const first = compile(both)
    await open.mode.sync(first)
    expect((await open.mode.plan(first)).lines).toEqual([])
    const one = { ...both, slices: both.slices.with([['default/web', webSlices(web, ['web2'])]]) }
    const result = await open.mode.sync(compile(one, first))
    expect(result).toMatchObject({ kind: 'change', servicesChanged: 1, repaired: false })
    expect((await ask(() => pods.asking.connectTcp(v4.vip, 80))).replies).toEqual(['web2'])
    const none = { ...both, services: both.services.with([], ['default/web']) }
    await open.mode.sync(compile(none, compile(one, first)))
    expect(await neighbour.connectTcp(v4.node, 30080)).toBe('refused')
  })

  test('a restarted daemon adopts what is there with an empty transaction, and connections live on', async () => {
    using first = openMode()
    const one = compile(both)
    await first.mode.sync(one)
    // Slots that only history explains.
    const reordered = compile({ ...both, slices: both.slices.with([['default/web', webSlices(web, ['web2'])]]) }, one)
    await first.mode.sync(reordered)
    await first.mode.sync(compile(both, reordered))
    await using connection = await pods.asking.openTcp(v4.vip, 80)
    first[Symbol.dispose]()

    using second = openMode()
    const recalled = await second.mode.recall()
    const again = compileServices(both, { nodeName: 'this-node', settings, recalled })
    const result = await second.mode.sync(again)
    expect(result).toMatchObject({ kind: 'full', elements: 0, rules: 0, messages: 0, bytes: 0 })
    expect(await connection.echo('still here')).toBe('ok')
  })

  test('established connections survive cleanup of the table as long as the anchor stays', async () => {
    using open = openMode()
    await open.mode.sync(compile(both))
    await using connection = await neighbour.openTcp(v4.node, 30080)
    await node.exec(['nft', 'delete', 'table', 'inet', 'fairlead-services'])
    expect(await connection.echo('translated still')).toBe('ok')
  })

  test('a flushed ruleset is noticed, repaired and said in the log', async () => {
    const warnings: string[] = []
    using open = openMode({ ...silentLog, warn: (_fields, message) => warnings.push(message) })
    const compiled = compile(both)
    await open.mode.sync(compiled)
    const noticed = new Promise<void>((resolve) => open.mode.watch(resolve))
    await node.exec(['nft', 'flush', 'ruleset'])
    await noticed
    const result = await open.mode.sync(compiled)
    expect(result).toMatchObject({ kind: 'full', repaired: true })
    expect(warnings).toEqual([expect.stringMatching(/^repaired: \d+ elements, \d+ rules by nft$/)])
    expect((await ask(() => pods.asking.connectTcp(v4.vip, 80))).replies).toEqual(['web1', 'web2'])
    const { stdout } = await node.exec(['nft', 'list', 'tables'])
    expect(stdout).toBe('table inet fairlead-anchor\ntable inet fairlead-services\n')
  })

  test('a sync loop repairs a flushed ruleset by itself, within a second', async () => {
    using open = openMode()
    const outcomes: SyncOutcome[] = []
    const loop = new SyncLoop({
      dataplane: open.mode,
      clock: systemClock,
      log: silentLog,
      nodeName: 'this-node',
      settings,
      waitFor: ['test'],
      onSynced: (outcome) => outcomes.push(outcome),
    })
    loop.update(both)
    loop.sourceComplete('test')
    await expect.poll(() => outcomes.length).toBe(1)
    await using connection = await pods.asking.openTcp(v4.vip, 80)
    await node.exec(['nft', 'flush', 'ruleset'])
    await expect.poll(() => loop.status().repairs, { timeout: patience(1000) }).toBe(1)
    expect((await ask(() => pods.asking.connectTcp(v4.vip, 80))).replies).toEqual(['web1', 'web2'])
    expect(await connection.echo('after the repair')).toBe('ok')
    await loop.stop()
  })

  test('a deleted element is put back, and nothing else is written than rules', async () => {
    using open = openMode()
    const compiled = compile(both)
    await open.mode.sync(compiled)
    const noticed = new Promise<void>((resolve) => open.mode.watch(resolve))
    const element = `{ ${v4.vip} . tcp . 80 }`
    await node.exec(['nft', 'delete', 'element', 'inet', 'fairlead-services', 'frontends-4', element])
    await noticed
    expect(await open.mode.sync(compiled)).toMatchObject({ repaired: true, elements: 1 })
    expect((await ask(() => pods.asking.connectTcp(v4.vip, 80))).replies).toEqual(['web1', 'web2'])
  })

  test('the ruleset lists with nft, and loads again from its listing', async () => {
    using open = openMode()
    await open.mode.sync(compile(both))
    const { stdout } = await node.exec(['nft', 'list', 'ruleset'])
    expect(stdout).toContain('10.96.0.5 . tcp . 80 : f1a0:2')
    const check = await node.exec(['nft', '-c', '-f', '-'], { input: `flush ruleset\n${stdout}` })
    expect(check.stderr).toBe('')
  })

  test('cleanup removes all of it, and is content when there is nothing', async () => {
    using open = openMode()
    await open.mode.sync(compile(both))
    await open.mode.cleanup()
    await open.mode.cleanup()
    const { stdout } = await node.exec(['nft', 'list', 'tables'])
    expect(stdout).toBe('')
  })

  test('packets leave without a class number as their priority', async () => {
    using open = openMode()
    await open.mode.sync(compile(both))
    await node.exec([
      'nft',
      'add table inet probe; add chain inet probe out { type filter hook postrouting priority 300; }',
    ])
    await node.exec(['nft', 'add rule inet probe out meta priority >= f000:0 counter'])
    for (const f of families) {
      await ask(() => node.connectTcp(f.vip, 80), 4)
      await ask(() => pods.asking.connectTcp(f.vip, 80), 4)
      await ask(() => neighbour.connectTcp(f.node, 30080), 4)
    }
    const { stdout } = await node.exec(['nft', 'list', 'table', 'inet', 'probe'])
    await node.exec(['nft', 'delete', 'table', 'inet', 'probe'])
    expect(stdout).toContain('counter packets 0')
  })
})
