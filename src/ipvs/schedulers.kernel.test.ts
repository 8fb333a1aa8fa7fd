import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Host } from '../../test/lab/host.ts'
import { createLab } from '../../test/lab/lab.ts'
import { patience } from '../../test/lab/patience.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import type { IpvsClient } from './client.ts'
import { diffServers } from './diff.ts'
import type { RealServer, VirtualServer } from './objects.ts'
import { openIpvs } from './open-client.ts'

/** What the kernel's schedulers do with connections, in counts. All in one namespace: its real servers are its own addresses. */
const available = await hasIpvs()

const at = { ip: parseIp('10.96.0.1'), port: parsePort(80), protocol: 'tcp' } as const
const address = (n: number): string => `10.1.0.${n}`
const client = (n: number): string => `10.2.${n >> 8}.${n & 255}`

describe.skipIf(!available)('schedulers (where the kernel has IPVS: npm run test:vm)', () => {
  const lab = createLab()
  let host: Host
  let ipvs: IpvsClient

  beforeAll(async () => {
    host = await lab.host('ipvs')
    await host.exec(['ip', 'link', 'set', 'lo', 'up'])
    for (const local of ['10.96.0.1/32', '10.1.0.0/24', '10.2.0.0/16'])
      await host.exec(['ip', 'route', 'add', 'local', local, 'dev', 'lo'])
    for (let n = 1; n <= 10; n++) await host.listenTcp(8080, { address: address(n), reply: address(n) })
    ipvs = openIpvs({ netns: host.netns })
  }, patience(60_000))

  afterAll(async () => {
    ipvs[Symbol.dispose]()
    await lab[Symbol.asyncDispose]()
  })

  beforeEach(async () => {
    await ipvs.run(diffServers(await ipvs.list(), [], { drains: () => false }).commands)
  })

  /** Real servers 1 to n with these weights. */
  async function serve(virtual: Omit<VirtualServer, 'at'>, weights: readonly number[]): Promise<void> {
    const reals = weights.map((weight, i): RealServer => ({
      ip: parseIp(address(i + 1)),
      port: parsePort(8080),
      weight,
    }))
    const { commands } = diffServers(await ipvs.list(), [{ at, ...virtual, reals }], { drains: () => false })
    await ipvs.run(commands)
  }

  async function ask(from = client(1)): Promise<string> {
    const outcome = await host.connectTcp(at.ip, at.port, { sourceAddress: from })
    return typeof outcome === 'string' ? outcome : outcome.reply
  }

  async function count(times: number, from: (n: number) => string = () => client(1)): Promise<Record<string, number>> {
    const counts: Record<string, number> = {}
    for (let n = 0; n < times; n++) {
      const reply = await ask(from(n))
      counts[reply] = (counts[reply] ?? 0) + 1
    }
    return counts
  }

  /** Connections that stay; who answers each. */
  async function hold(times: number, held: AsyncDisposableStack): Promise<string[]> {
    const replies: string[] = []
    for (let n = 0; n < times; n++) replies.push(held.use(await host.openTcp(at.ip, at.port)).reply)
    return replies
  }

  test('wrr: shares are exactly the weights', async () => {
    await serve({ scheduler: 'wrr' }, [3, 1, 0])
    expect(await count(40)).toEqual({ [address(1)]: 30, [address(2)]: 10 })
  })

  test('lc: a server that holds fewer connections gets the next one', async () => {
    await using held = new AsyncDisposableStack()
    await serve({ scheduler: 'lc' }, [1])
    await hold(3, held)
    await serve({ scheduler: 'lc' }, [1, 1])
    expect(await hold(3, held)).toEqual([address(2), address(2), address(2)])
  })

  test.each(['sh', 'mh'])('%s: a client meets one server, whatever its port; clients spread', async (scheduler) => {
    await serve({ scheduler }, [1, 1, 1, 1])
    expect(Object.keys(await count(10))).toHaveLength(1)
    expect(Object.keys(await count(60, client))).toHaveLength(4)
  })

  test.each(['sh', 'mh'])('%s with the port: one client spreads', async (scheduler) => {
    await serve({ scheduler, hashPort: true }, [1, 1])
    expect(Object.keys(await count(40))).toHaveLength(2)
  })

  test('mh: when one of ten servers goes, hardly more clients move than it had', async () => {
    const ten = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    const everybody = async (): Promise<string[]> => {
      const replies: string[] = []
      for (let n = 0; n < 200; n++) replies.push(await ask(client(n)))
      return replies
    }
    await serve({ scheduler: 'mh' }, ten)
    const before = await everybody()
    await serve({ scheduler: 'mh' }, ten.slice(0, 9))
    const after = await everybody()
    const had = before.filter((reply) => reply === address(10)).length
    const moved = before.filter((reply, n) => reply !== after[n]).length
    expect(had).toBeGreaterThan(5)
    expect(moved).toBeGreaterThanOrEqual(had)
    expect(moved).toBeLessThanOrEqual(1.5 * had)
  })

  test('fo: the highest weight takes all, and the next one when it drains', async () => {
    await serve({ scheduler: 'fo' }, [1, 5, 3])
    expect(await count(5)).toEqual({ [address(2)]: 5 })
    await serve({ scheduler: 'fo' }, [1, 0, 3])
    expect(await count(5)).toEqual({ [address(3)]: 5 })
  })

  test('ovf: the highest weight takes connections until it has more than its weight, the next one the rest', async () => {
    await using held = new AsyncDisposableStack()
    await serve({ scheduler: 'ovf' }, [1, 3])
    expect(await hold(4, held)).toEqual([address(2), address(2), address(2), address(2)])
    expect(await hold(1, held)).toEqual([address(1)])
  })
})

async function hasIpvs(): Promise<boolean> {
  using ipvs = openIpvs()
  return await ipvs.info().then(
    () => true,
    () => false,
  )
}
