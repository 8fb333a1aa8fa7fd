import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Host, Outcome } from '../../test/lab/host.ts'
import { patience } from '../../test/lab/patience.ts'
import { createServiceNode, families } from '../../test/lab/service-node.ts'
import { silentLog } from '../base/log.ts'
import { virtualKey } from '../ipvs/objects.ts'
import { openIpvs } from '../ipvs/open-client.ts'
import { createAnonymousNetns } from '../linux/netns.ts'
import { writeSysctl } from '../linux/sysctl.ts'
import type { Service } from '../model/service.ts'
import { parseCidr } from '../net/cidr.ts'
import { ipFamilyOf, parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { openConntrack, tcpEstablished } from '../netlink/conntrack.ts'
import { compileServices, defaultProxySettings, type ProxySettings } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { IpvsMode } from './ipvs-mode.ts'
import { openIpvsParts } from './ipvs-parts.ts'

/** Real packets through the IPVS mode, where the kernel has it: `npm run test:vm -- src/proxy/ipvs`. */
const available = await hasIpvs()

const [v4, v6] = families
type Pod = 'web1' | 'web2'
const settings: ProxySettings = {
  ...defaultProxySettings,
  localPods: [parseCidr('10.0.0.0/24'), parseCidr('fd00:10::/64')],
}
const ports = ['http=80:30080/tcp', 'dns=53:30053/udp']
const web = exampleService('web', { clusterIPs: [v4.vip, v6.vip], ports })
const empty = exampleService('empty', {
  clusterIPs: [v4.empty, v6.empty],
  ports: ['http=80:30081/tcp', 'dns=53:30054/udp'],
})

function slices(service: Service, pods: readonly Pod[], nodeOf: (pod: Pod) => string) {
  return families.map((f) =>
    exampleSlice(
      service,
      pods.map((pod) => ({ address: f.pods[pod], nodeName: nodeOf(pod) })),
      { name: `${service.name}-${f.name}`, ports: ['http=8080/tcp', 'dns=5353/udp'] },
    ),
  )
}

function compile(
  pods: readonly Pod[],
  annotations: Readonly<Record<string, string>> = {},
  {
    policy = 'Cluster',
    nodeOf = () => 'this-node',
  }: { policy?: 'Cluster' | 'Local'; nodeOf?: (pod: Pod) => string } = {},
) {
  const service = { ...web, annotations, externalTrafficPolicy: policy }
  const snapshot = exampleSnapshot([[service, ...slices(web, pods, nodeOf)], [empty]])
  return compileServices(snapshot, { nodeName: 'this-node', settings })
}

describe.skipIf(!available)('IpvsMode with packets (where the kernel has IPVS: npm run test:vm)', () => {
  let world: Awaited<ReturnType<typeof createServiceNode>>
  let node: Host
  let neighbour: Host
  let pods: typeof world.pods
  let mode: IpvsMode

  beforeAll(async () => {
    world = await createServiceNode()
    ;({ node, neighbour, pods } = world)
    // The node sends pods that answer each other to the bridge itself, and IPVS would not see the answer (ip6_forward()).
    for (const pod of Object.values(pods)) {
      for (const name of ['all', 'node']) {
        writeSysctl(`net/ipv6/conf/${name}/accept_redirects`, 0, { netns: pod.netns })
      }
    }
    mode = new IpvsMode(() => openIpvsParts({ netns: node.netns }), { log: silentLog, intervalMs: 200 })
  }, patience(60_000))

  afterAll(async () => {
    mode[Symbol.dispose]()
    await world[Symbol.asyncDispose]()
  })

  test('probe() finds all that it needs', async () => {
    expect(await mode.probe()).toMatchObject({ usable: true })
  })

  /** Connections that the connection table has of an endpoint: it is what `fairlead status` counts. */
  async function established(endpoint: string, vip: string): Promise<number> {
    using conntrack = openConntrack({ netns: node.netns })
    const reply = { source: parseIp(endpoint), protocol: 6, sourcePort: parsePort(8080) }
    const found = await conntrack.list({ family: ipFamilyOf(reply.source), reply })
    return found.filter((one) => one.original.destination === vip && one.tcpState === tcpEstablished).length
  }

  describe.each(families)('over $name', (f) => {
    beforeAll(async () => {
      await mode.sync(compile(['web1', 'web2']))
    })

    const all = { replies: ['web1', 'web2'] }
    // Nothing is left to chance: rr takes turns.
    const ask = async (attempt: () => Promise<Outcome>, times = 4) => {
      const outcomes: Outcome[] = []
      for (let i = 0; i < times; i++) outcomes.push(await attempt())
      const of = (pick: (outcome: Outcome) => string): string[] => [...new Set(outcomes.map(pick))].sort()
      return {
        replies: of((outcome) => (typeof outcome === 'string' ? outcome : outcome.reply)),
        sources: of((outcome) => (typeof outcome === 'string' ? '' : outcome.seenSource)),
      }
    }

    test('a pod reaches each endpoint at the cluster IP, TCP and UDP, with its own address', async () => {
      const expected = { ...all, sources: [f.pods.asking] }
      expect(await ask(() => pods.asking.connectTcp(f.vip, 80))).toEqual(expected)
      expect(await ask(() => pods.asking.connectUdp(f.vip, 53))).toEqual(expected)
    })

    test('the node and a neighbour reach each endpoint at the cluster IP, with the node’s address', async () => {
      const expected = { ...all, sources: [f.gateway] }
      expect(await ask(() => node.connectTcp(f.vip, 80))).toEqual(expected)
      expect(await ask(() => neighbour.connectTcp(f.vip, 80))).toEqual(expected)
    })

    test('node port: a neighbour, the node and a pod reach each endpoint, with the node’s address', async () => {
      const expected = { ...all, sources: [f.gateway] }
      expect(await ask(() => neighbour.connectTcp(f.node, 30080))).toEqual(expected)
      expect(await ask(() => neighbour.connectUdp(f.node, 30053))).toEqual(expected)
      expect(await ask(() => node.connectTcp(f.node, 30080))).toEqual(expected)
      expect(await ask(() => pods.asking.connectTcp(f.node, 30080))).toEqual(expected)
    })

    test('an endpoint reaches itself, from the node’s address', async () => {
      const { replies, sources } = await ask(() => pods.web1.connectTcp(f.vip, 80))
      expect([replies, sources]).toEqual([['web1', 'web2'], [f.gateway, f.pods.web1].sort()])
    })

    test('no endpoints, and other ports of a cluster IP, although the node itself listens there: refused', async () => {
      await using _listener = await node.listenTcp(22, { reply: 'node itself' })
      for (const client of [pods.asking, neighbour, node]) {
        expect(await client.connectTcp(f.empty, 80, { timeout: 2500 })).toBe('refused')
        expect(await client.connectUdp(f.empty, 53)).toBe('refused')
        expect(await client.connectTcp(f.vip, 22, { timeout: 2500 })).toBe('refused')
        expect(await client.connectTcp(f.node, 30081, { timeout: 2500 })).toBe('refused')
      }
    })

    test('20 connections to an endpoint that goes live on, are counted as they end, and the last one takes the real server along', async () => {
      await mode.sync(compile(['web1']))
      const held = await Promise.all(Array.from({ length: 20 }, () => pods.asking.openTcp(f.vip, 80)))
      const at = { ip: parseIp(f.vip), port: parsePort(80), protocol: 'tcp' } as const
      using ipvs = openIpvs({ netns: node.netns })
      const realServers = async () => (await ipvs.reals(at)).map(({ ip, weight }) => `${ip} ${weight}`).sort()
      const left = (): number[] => mode.draining.map(({ real }) => real.counts.active).filter((count) => count > 0)
      await mode.sync(compile(['web2']))
      expect(await ask(() => pods.asking.connectTcp(f.vip, 80))).toMatchObject({ replies: ['web2'] })
      await expect.poll(left, { timeout: patience(5000) }).toEqual([20])
      expect(await established(f.pods.web1, f.vip)).toBe(20)
      for (const connection of held) expect(await connection.echo('still here')).toBe('ok')
      for (const connection of held.splice(0, 10)) await connection.abort()
      await expect.poll(left, { timeout: patience(5000) }).toEqual([10])
      expect(await established(f.pods.web1, f.vip)).toBe(10)
      expect(await realServers()).toEqual([`${f.pods.web1} 0`, `${f.pods.web2} 1`].sort())
      for (const connection of held) await connection.abort()
      await expect.poll(left, { timeout: patience(5000) }).toEqual([])
      // IPVS remembers a connection that was reset for ten seconds, and one that was closed for two minutes.
      await expect.poll(realServers, { timeout: 20_000 + patience(2000) }).toEqual([`${f.pods.web2} 1`])
      const draining = () => mode.draining.filter(({ virtual }) => virtualKey(virtual.at) === virtualKey(at))
      await expect.poll(draining, { timeout: patience(2000) }).toEqual([])
      await mode.sync(compile(['web1', 'web2']))
    })

    test('connections to the last endpoint live on when it goes; new ones are refused', async () => {
      await mode.sync(compile(['web1']))
      await using held = await pods.asking.openTcp(f.vip, 80)
      await mode.sync(compile([]))
      expect(await held.echo('still here')).toBe('ok')
      expect(await pods.asking.connectTcp(f.vip, 80, { timeout: 2500 })).toBe('refused')
      await mode.sync(compile(['web1', 'web2']))
      expect(await held.echo('and here')).toBe('ok')
    })

    test('what ipvsadm or ip take away is put back within a second', async () => {
      let asked = 0
      mode.watch(() => asked++)
      const at = { ip: parseIp(f.vip), port: parsePort(80), protocol: 'tcp' } as const
      using ipvs = openIpvs({ netns: node.netns })
      const takeAway = [
        () => ipvs.run([{ op: 'delete-virtual', at }]),
        () => node.exec(['ip', 'address', 'del', f.vip, 'dev', 'kube-ipvs0']),
      ]
      for (const [index, take] of takeAway.entries()) {
        await take()
        await expect.poll(() => asked, { timeout: patience(1000) }).toBe(index + 1)
        expect(await mode.sync(compile(['web1', 'web2']))).toMatchObject({ repaired: true })
        expect(await ask(() => pods.asking.connectTcp(f.vip, 80))).toMatchObject(all)
      }
    })

    test('policy Local: a neighbour meets this node’s endpoints with its own address, pods meet all', async () => {
      const elsewhere = (pod: 'web1' | 'web2') => (pod === 'web1' ? 'this-node' : 'other-node')
      await mode.sync(compile(['web1', 'web2'], {}, { policy: 'Local', nodeOf: elsewhere }))
      const seen = await ask(() => neighbour.connectTcp(f.node, 30080))
      expect(seen.replies).toEqual(['web1'])
      expect(seen.sources).toEqual([f.neighbour])
      expect(await ask(() => pods.asking.connectTcp(f.node, 30080))).toMatchObject(all)
      // With the other node's endpoint gone, everybody has the same ones; old connections stay where they are.
      await using held = await neighbour.openTcp(f.node, 30080)
      await mode.sync(compile(['web1'], {}, { policy: 'Local', nodeOf: elsewhere }))
      expect(await held.echo('still here')).toBe('ok')
      await mode.sync(compile(['web1', 'web2']))
    })
  })

  test.each(['sh', 'mh'])('scheduler %s: who met an endpoint that drains meets another one', async (scheduler) => {
    const annotations = { 'fairlead.dev/ipvs-scheduler': scheduler }
    await mode.sync(compile(['web1', 'web2'], annotations))
    await using held = await pods.asking.openTcp(v4.vip, 80)
    const other = held.reply === 'web1' ? 'web2' : 'web1'
    await mode.sync(compile([other], annotations))
    expect(await pods.asking.connectTcp(v4.vip, 80)).toMatchObject({ reply: other })
    expect(await held.echo('still here')).toBe('ok')
    await mode.sync(compile(['web1', 'web2']))
  })

  test('a connection ends with its real server at the deadline of its Service', async () => {
    const annotations = { 'fairlead.dev/drain-seconds': '1' }
    await mode.sync(compile(['web1'], annotations))
    await using held = await pods.asking.openTcp(v4.vip, 80)
    await mode.sync(compile(['web2'], annotations))
    await expect.poll(() => mode.draining, { timeout: patience(5000) }).toEqual([])
    expect(await held.echo('too late', { timeout: 2000 })).not.toBe('ok')
  })

  test('cleanup() leaves nothing, and Services do not answer any more', async () => {
    await mode.sync(compile(['web1', 'web2']))
    await mode.cleanup()
    using ipvs = openIpvs({ netns: node.netns })
    expect(await ipvs.list()).toEqual([])
    expect((await node.exec(['ip', '-brief', 'link'])).stdout).not.toContain('kube-ipvs0')
    expect((await node.exec(['nft', 'list', 'tables'])).stdout).not.toContain('fairlead')
  })
})

test.skipIf(available)('IpvsMode says what is missing where the kernel has no IPVS', async () => {
  using netns = createAnonymousNetns()
  using mode = new IpvsMode(() => openIpvsParts({ netns }), { log: silentLog })
  const { usable, reason } = await mode.probe()
  expect([usable, reason]).toEqual([false, expect.stringContaining('CONFIG_IP_VS') as string])
})

async function hasIpvs(): Promise<boolean> {
  using ipvs = openIpvs()
  return await ipvs.info().then(
    () => true,
    () => false,
  )
}
