import { describe, expect, test } from 'vitest'
import type { IpvsClient } from '../../src/ipvs/client.ts'
import { diffServers } from '../../src/ipvs/diff.ts'
import type { Command, RealServer, VirtualAddress, VirtualServerWithReals } from '../../src/ipvs/objects.ts'
import { parseIp } from '../../src/net/ip-address.ts'
import { parsePort } from '../../src/net/port.ts'

const http: VirtualAddress = { ip: parseIp('10.96.0.1'), port: parsePort(80), protocol: 'tcp' }
const dns: VirtualAddress = { ip: parseIp('10.96.0.1'), port: parsePort(53), protocol: 'udp' }
const https6: VirtualAddress = { ip: parseIp('fd00::1'), port: parsePort(443), protocol: 'tcp' }
const marked: VirtualAddress = { mark: 7, family: 4 }

const real = (ip: string, port: number, weight = 1): RealServer => ({
  ip: parseIp(ip),
  port: port === 0 ? 0 : parsePort(port),
  weight,
})
const a = real('10.0.0.1', 8080)
const b = real('10.0.0.2', 8080, 3)
const six = real('fd00:1::1', 8443)

/** All that a virtual server can be. */
const examples: readonly VirtualServerWithReals[] = [
  { at: http, scheduler: 'wrr', reals: [a, b] },
  { at: { ...http, protocol: 'sctp' }, scheduler: 'rr', reals: [{ ...a, upperThreshold: 100, lowerThreshold: 50 }] },
  { at: dns, scheduler: 'sh', fallback: true, hashPort: true, onePacket: true, reals: [real('10.0.0.1', 53, 0)] },
  { at: https6, scheduler: 'mh', persistence: { seconds: 10_800 }, reals: [six] },
  { at: { ...https6, port: parsePort(80) }, scheduler: 'rr', persistence: { seconds: 60, prefix: 64 }, reals: [] },
  { at: { ...http, port: parsePort(81) }, scheduler: 'wlc', persistence: { seconds: 60, prefix: 24 }, reals: [] },
  { at: marked, scheduler: 'rr', persistence: { seconds: 60 }, reals: [real('10.0.0.1', 0)] },
  { at: { ...marked, family: 6 }, scheduler: 'lc', reals: [] },
  {
    at: { ...http, port: parsePort(82) },
    scheduler: 'nq',
    reals: [
      { ...real('10.0.0.1', 82), forwarding: 'route' },
      { ...real('fd00:1::2', 82), forwarding: 'tunnel' },
    ],
  },
]

const refusals: readonly { readonly name: string; readonly commands: readonly Command[]; readonly code: string }[] = [
  {
    name: 'a virtual server that is there',
    commands: [{ op: 'add-virtual', virtual: { at: http, scheduler: 'rr' } }],
    code: 'EEXIST',
  },
  {
    name: 'a scheduler that is not there',
    commands: [{ op: 'add-virtual', virtual: { at: dns, scheduler: 'nosuch' } }],
    code: 'ENOENT',
  },
  {
    name: 'to change a virtual server that is not there',
    commands: [{ op: 'set-virtual', virtual: { at: dns, scheduler: 'rr' } }],
    code: 'ESRCH',
  },
  {
    name: 'to delete a virtual server that is not there',
    commands: [{ op: 'delete-virtual', at: dns }],
    code: 'ESRCH',
  },
  { name: 'a real server that is there', commands: [{ op: 'add-real', at: http, real: a }], code: 'EEXIST' },
  {
    name: 'a real server of a virtual server that is not there',
    commands: [{ op: 'add-real', at: dns, real: a }],
    code: 'ESRCH',
  },
  {
    name: 'to change a real server that is not there',
    commands: [{ op: 'set-real', at: http, real: b }],
    code: 'ENOENT',
  },
  {
    name: 'to delete a real server that is not there',
    commands: [{ op: 'delete-real', at: http, real: b }],
    code: 'ENOENT',
  },
  { name: 'a real server of the other family', commands: [{ op: 'add-real', at: http, real: six }], code: 'EINVAL' },
  {
    name: 'a lower threshold above the upper one',
    commands: [{ op: 'add-real', at: http, real: { ...b, upperThreshold: 1, lowerThreshold: 2 } }],
    code: 'ERANGE',
  },
]

/** A client under test, with nothing in it. */
export interface IpvsClientUnderTest extends Disposable {
  readonly client: IpvsClient
}

/** What every IPVS does, whichever kernel answers: run on the fake and on the real one, so that they cannot part. */
export function testIpvsClient(open: () => IpvsClientUnderTest | Promise<IpvsClientUnderTest>): void {
  async function wantedOf(client: IpvsClient): Promise<readonly VirtualServerWithReals[]> {
    const found = (await client.list()).map(({ traffic: _traffic, ...virtual }) => ({
      ...virtual,
      reals: virtual.reals.map(({ counts: _counts, traffic: _traffic, ...wish }) => wish).sort(byText),
    }))
    return found.sort(byText)
  }
  const sorted = (servers: readonly VirtualServerWithReals[]): VirtualServerWithReals[] =>
    servers.map((virtual) => ({ ...virtual, reals: [...virtual.reals].sort(byText) })).sort(byText)

  test('run, list: the kernel holds what was asked for, whatever a virtual server can be', async () => {
    using opened = await open()
    const { client } = opened
    await client.run(diffServers([], examples).commands)
    expect(await wantedOf(client)).toEqual(sorted(examples))
    expect(diffServers(await client.list(), examples)).toEqual({ commands: [], draining: [] })
  })

  test('run: changes of all kinds lead from one state to another', async () => {
    using opened = await open()
    const { client } = opened
    await client.run(diffServers([], examples).commands)
    const changed: readonly VirtualServerWithReals[] = [
      { at: http, scheduler: 'lc', persistence: { seconds: 5 }, reals: [{ ...b, weight: 7 }, real('10.0.0.9', 80)] },
      { at: marked, scheduler: 'rr', reals: [] },
    ]
    await client.run(diffServers(await client.list(), changed).commands)
    expect(await wantedOf(client)).toEqual(sorted(changed))
    await client.run(diffServers(await client.list(), []).commands)
    expect(await client.list()).toEqual([])
  })

  test('reals: of a virtual server that is not there, none', async () => {
    using opened = await open()
    const { client } = opened
    expect(await client.reals(http)).toEqual([])
    await client.run([
      { op: 'add-virtual', virtual: { at: http, scheduler: 'rr' } },
      { op: 'add-real', at: http, real: b },
    ])
    expect(await client.reals(http)).toMatchObject([{ ...b, counts: { active: 0, inactive: 0, persistent: 0 } }])
  })

  test('run: 300 commands are a few datagrams, and what is refused does not keep others from being done', async () => {
    using opened = await open()
    const { client } = opened
    const adds = Array.from({ length: 300 }, (_, i): Command => {
      const at = { ...http, port: parsePort(1000 + (i === 150 ? 0 : i)) }
      return { op: 'add-virtual', virtual: { at, scheduler: 'rr' } }
    })
    await expect(client.run(adds)).rejects.toMatchObject({ code: 'EEXIST' })
    const listed = await client.list()
    expect(listed).toHaveLength(299)
    expect(await client.run(listed.map(({ at }) => ({ op: 'delete-virtual', at })))).toMatchObject({
      commands: 299,
      messages: 2,
    })
  })

  describe('run() is refused', () => {
    test.each(refusals)('$name: $code', async ({ commands, code }) => {
      using opened = await open()
      const { client } = opened
      await client.run([
        { op: 'add-virtual', virtual: { at: http, scheduler: 'rr' } },
        { op: 'add-real', at: http, real: a },
      ])
      const before = await wantedOf(client)
      await expect(client.run(commands)).rejects.toMatchObject({ code })
      expect(await wantedOf(client)).toEqual(before)
    })
  })

  test('setTimeouts: 0 leaves a timeout as it is', async () => {
    using opened = await open()
    const { client } = opened
    await client.setTimeouts({ tcp: 600, tcpFin: 60, udp: 30 })
    await client.setTimeouts({ tcp: 0, tcpFin: 0, udp: 31 })
    expect(await client.timeouts()).toEqual({ tcp: 600, tcpFin: 60, udp: 31 })
  })

  test('info: there is a version and a connection table', async () => {
    using opened = await open()
    const { client } = opened
    expect(await client.info()).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/) as string,
      connectionTableSize: expect.any(Number) as number,
    })
  })
}

function byText(one: object, other: object): number {
  return JSON.stringify(Object.values(one)[0]) < JSON.stringify(Object.values(other)[0]) ? -1 : 1
}
