import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { DhcpClient } from './dhcp-client.ts'
import { FakeDhcpLink, type SentMessage } from './fake-dhcp-link.ts'
import type { DhcpOptions } from './options.ts'

const mac = parseMac('02:00:00:00:00:01')
const broadcast = parseMac('ff:ff:ff:ff:ff:ff')
const address = parseIp('10.0.0.9')
const server = parseIp('10.0.0.1')
const mask = parseIp('255.255.255.0')
/** T1 at 1,800 s, T2 at 3,150 s. */
const hour: DhcpOptions = { server, leaseSeconds: 3600, subnetMask: mask }

function setUp(options: { kept?: string; conflictCheckMs?: number; random?: () => number; clock?: FakeClock } = {}) {
  const clock = options.clock ?? new FakeClock()
  const link = new FakeDhcpLink()
  const heard: string[] = []
  let kept = options.kept
  const client = new DhcpClient({
    identity: { mac, hostname: 'web-1' },
    link,
    clock,
    log: silentLog,
    random: options.random ?? (() => 0.5),
    conflictCheckMs: options.conflictCheckMs ?? 0,
    storage: { load: () => kept, save: (text) => (kept = text), clear: () => (kept = undefined) },
    events: {
      bound: (lease) => heard.push(`bound ${lease.address.address}/${lease.address.prefix}`),
      changed: (lease, before) => heard.push(`changed mtu ${before.mtu} to ${lease.mtu}`),
      lost: (lease, reason) => heard.push(`lost ${lease.address.address}: ${reason}`),
    },
  })
  const last = (): SentMessage => link.sent.at(-1) ?? expect.fail('nothing was sent')
  const ack = (fields: { yiaddr?: IpAddress; options?: DhcpOptions } = {}): void =>
    link.deliver({ type: 'ack', yiaddr: fields.yiaddr ?? address, options: { ...hour, ...fields.options } }, last())
  const offer = (): void => link.deliver({ type: 'offer', yiaddr: address, options: hour }, last())
  const nak = (from = server): void => link.deliver({ type: 'nak', options: { server: from } }, last())
  return {
    clock, link, heard, client, last, ack, offer, nak,
    kept: () => kept,
    bind(fields?: { options: DhcpOptions }) {
      client.start()
      offer()
      ack(fields)
      expect(client.state).toBe('bound')
      link.take()
    },
  } // prettier-ignore
}

/** Times at which messages of one type leave, while nobody answers. */
async function timesOf(set: ReturnType<typeof setUp>, seconds: number): Promise<number[]> {
  const times: number[] = []
  const start = set.clock.monotonic() / 1000
  for (let s = 0; s <= seconds; s++) {
    for (const _ of set.link.take()) times.push(set.clock.monotonic() / 1000 - start)
    await set.clock.advance(1000)
  }
  return times
}

describe('DhcpClient', () => {
  test('INIT to BOUND: discover, offer, request, ack', () => {
    const { client, link, last, heard, ack, offer } = setUp()
    client.start()
    expect(client.state).toBe('selecting')
    expect(last()).toMatchObject({
      type: 'discover', to: broadcast, source: '0.0.0.0', destination: '255.255.255.255', ciaddr: '0.0.0.0', chaddr: mac,
      options: { hostname: 'web-1', clientId: Uint8Array.of(1, 2, 0, 0, 0, 0, 1), maxMessageSize: 1472 },
    }) // prettier-ignore
    expect([...last().options.requestedOptions!]).toEqual([1, 121, 3, 6, 15, 26, 51, 54, 58, 59])
    const { xid } = last()
    offer()
    expect(client.state).toBe('requesting')
    expect(last()).toMatchObject({ type: 'request', xid, to: broadcast, ciaddr: '0.0.0.0', options: { requestedAddress: address, server } }) // prettier-ignore
    expect(client.lease).toBeUndefined()
    ack()
    expect([client.state, heard, link.isOpen]).toEqual(['bound', ['bound 10.0.0.9/24'], false])
  })

  test.each([
    { random: 0, expected: [0, 3, 10, 25, 56, 119, 182] },
    { random: 0.5, expected: [0, 4, 12, 28, 60, 124, 188] },
    { random: 0.9999, expected: [0, 5, 14, 31, 64, 129, 194] },
  ])(
    'SELECTING: a discover is repeated ever more slowly, spread by a second ($random)',
    async ({ random, expected }) => {
      const set = setUp({ random: () => random })
      set.client.start()
      expect(await timesOf(set, 200)).toEqual(expected)
    },
  )

  test('REQUESTING: after four requests without an answer, it begins anew', async () => {
    const set = setUp()
    set.client.start()
    set.offer()
    set.link.take()
    await set.clock.advance(59_999)
    expect(set.link.take().map(({ type }) => type)).toEqual(['request', 'request', 'request'])
    await set.clock.advance(1)
    expect([set.last().type, set.client.state]).toEqual(['discover', 'selecting'])
  })

  test('RENEWING, REBINDING and expiry: by unicast from T1, by broadcast from T2, lost at the end', async () => {
    const set = setUp()
    set.bind()
    await set.clock.advance(1_799_999)
    expect(set.link.sent).toEqual([])
    await set.clock.advance(1)
    expect(set.client.state).toBe('renewing')
    expect(set.last()).toMatchObject({ type: 'request', to: '02:00:00:00:00:fe', source: address, destination: server, ciaddr: address }) // prettier-ignore
    expect(set.last().options).not.toHaveProperty('requestedAddress')
    expect(set.last().options).not.toHaveProperty('server')
    // Half of the rest until 3,150 s, at least a minute.
    expect((await timesOf(set, 1349)).map(Math.round)).toEqual([0, 675, 1013, 1182, 1266, 1326])
    expect(set.client.state).toBe('rebinding')
    expect(set.last()).toMatchObject({
      type: 'request',
      to: broadcast,
      destination: '255.255.255.255',
      ciaddr: address,
    })
    await set.clock.advance(449_999)
    expect([set.client.state, set.heard.length]).toEqual(['rebinding', 1])
    await set.clock.advance(1)
    expect([set.client.state, set.heard[1], set.kept()]).toEqual(['selecting', 'lost 10.0.0.9: expired', undefined])
  })

  test.each(['renewing', 'rebinding'] as const)(
    '%s: an ack prolongs the lease; what changed is said',
    async (state) => {
      const set = setUp()
      set.bind()
      await set.clock.advance(state === 'renewing' ? 1_800_000 : 3_150_000)
      expect(set.client.state).toBe(state)
      const before = set.kept()
      set.ack()
      expect([set.client.state, set.heard.length]).toEqual(['bound', 1])
      expect(set.kept()).not.toBe(before)
      await set.clock.advance(1_800_000)
      expect(set.client.state).toBe('renewing')
      set.ack({ options: { mtu: 1400 } })
      expect(set.heard[1]).toBe('changed mtu undefined to 1400')
    },
  )

  test.each([
    { what: 'of the server that was asked', state: 'renewing', from: server, lost: true },
    { what: 'of another server, which was not asked', state: 'renewing', from: parseIp('10.0.0.2'), lost: false },
    { what: 'of any server', state: 'rebinding', from: parseIp('10.0.0.2'), lost: true },
  ])('$state: a NAK $what means that the lease is lost: $lost', async ({ state, from, lost }) => {
    const set = setUp()
    set.bind()
    await set.clock.advance(state === 'renewing' ? 1_800_000 : 3_150_000)
    set.nak(from)
    expect(set.client.state).toBe(lost ? 'selecting' : state)
    expect(set.heard.slice(1)).toEqual(lost ? ['lost 10.0.0.9: refused'] : [])
  })

  test('REQUESTING: a NAK begins anew, at once the first time, and then ever more slowly', async () => {
    const set = setUp()
    set.client.start()
    const waits: number[] = []
    for (let i = 0; i < 4; i++) {
      set.offer()
      set.nak()
      const from = set.clock.monotonic()
      while (set.client.state !== 'selecting') await set.clock.advance(1000)
      waits.push((set.clock.monotonic() - from) / 1000)
    }
    expect(waits).toEqual([0, 4, 8, 16])
  })

  test('a lease for ever is not renewed; one of 60 days is, behind what timers hold', async () => {
    const day = 86_400
    const forever = setUp()
    forever.bind({ options: { leaseSeconds: 0xffff_ffff } })
    const long = setUp()
    long.bind({ options: { leaseSeconds: 60 * day } })
    for (const { clock } of [forever, long]) await clock.advance(30 * day * 1000 - 1)
    expect([forever.client.state, long.client.state]).toEqual(['bound', 'bound'])
    for (const { clock } of [forever, long]) await clock.advance(1)
    expect([forever.client.state, long.client.state]).toEqual(['bound', 'renewing'])
  })

  test('a machine whose wall clock is set forward keeps its lease', async () => {
    class SettableClock extends FakeClock {
      offset = 0
      override now(): Date {
        return new Date(super.now().getTime() + this.offset)
      }
    }
    const clock = new SettableClock()
    const set = setUp({ clock })
    set.bind()
    clock.offset = 100 * 86_400_000
    await clock.advance(1_800_000)
    expect([set.client.state, set.heard.length]).toEqual(['renewing', 1])
    expect(set.link.take()).toHaveLength(1)
    await clock.advance(1_349_000)
    expect(set.client.state).toBe('renewing')
  })

  test('the server may say when to renew and rebind', async () => {
    const set = setUp()
    set.bind({ options: { renewSeconds: 100, rebindSeconds: 200 } })
    await set.clock.advance(100_000)
    expect(set.client.state).toBe('renewing')
    await set.clock.advance(100_000)
    expect(set.client.state).toBe('rebinding')
  })

  describe('probing for conflicts', () => {
    test('nobody has the address: bound after two probes', async () => {
      const set = setUp({ conflictCheckMs: 500 })
      set.client.start()
      set.offer()
      set.ack()
      expect([set.client.state, set.client.lease]).toEqual(['probing', undefined])
      set.link.deliverArp(parseIp('10.0.0.8'))
      await set.clock.advance(499)
      expect([set.link.probes.length, set.client.state]).toEqual([2, 'probing'])
      expect(set.link.probes[0]).toMatchObject({ senderIp: '0.0.0.0', targetIp: address })
      await set.clock.advance(1)
      expect([set.client.state, set.heard]).toEqual(['bound', ['bound 10.0.0.9/24']])
    })

    test('somebody has it: declined, and after 10 s looked for another', async () => {
      const set = setUp({ conflictCheckMs: 500 })
      set.client.start()
      set.offer()
      set.ack()
      set.link.deliverArp(address)
      expect(set.last()).toMatchObject({ type: 'decline', to: broadcast, ciaddr: '0.0.0.0', options: { requestedAddress: address, server } }) // prettier-ignore
      expect([set.client.state, set.heard, set.kept()]).toEqual(['init', [], undefined])
      await set.clock.advance(9999)
      expect(set.client.state).toBe('init')
      await set.clock.advance(1)
      expect(set.last().type).toBe('discover')
    })
  })

  describe('after a restart', () => {
    /** A client that took over what another one kept 100 s ago. */
    async function restarted(fields: { options: DhcpOptions } = { options: {} }, after = 100_000) {
      const clock = new FakeClock()
      const first = setUp({ clock })
      first.bind(fields)
      first.client[Symbol.dispose]()
      expect(first.client.state).toBe('stopped')
      await clock.advance(after)
      expect(first.link.sent).toEqual([])
      const second = setUp({ clock, kept: first.kept()! })
      second.client.start()
      return second
    }

    test('the lease is used at once, and the server asked (INIT-REBOOT)', async () => {
      const set = await restarted({ options: { mtu: 1400, routes: [{ destination: { address: parseIp('10.9.0.0'), prefix: 16 }, gateway: server }] } }) // prettier-ignore
      expect([set.client.state, set.heard]).toEqual(['rebooting', ['bound 10.0.0.9/24']])
      expect(set.client.lease).toMatchObject({ mtu: 1400, routes: [{ gateway: server }] })
      expect(set.last()).toMatchObject({ type: 'request', to: broadcast, ciaddr: '0.0.0.0', source: '0.0.0.0', options: { requestedAddress: address } }) // prettier-ignore
      expect(set.last().options).not.toHaveProperty('server')
      set.ack({ options: { mtu: 1400 } })
      expect(set.client.state).toBe('bound')
    })

    test('nobody answers: the lease is used on until its own times', async () => {
      const set = await restarted()
      await set.clock.advance(28_000)
      expect([set.client.state, set.link.take().length]).toEqual(['bound', 3])
      await set.clock.advance(1_800_000 - 128_000)
      expect(set.client.state).toBe('renewing')
    })

    test('it expires while nobody answers', async () => {
      const set = await restarted({ options: { leaseSeconds: 105 } })
      await set.clock.advance(5000)
      expect(set.heard).toEqual(['bound 10.0.0.9/24', 'lost 10.0.0.9: expired'])
    })

    test('the server refuses: lost, and a new one looked for', async () => {
      const set = await restarted()
      set.nak(parseIp('10.0.0.2'))
      expect([set.client.state, set.heard[1]]).toEqual(['selecting', 'lost 10.0.0.9: refused'])
    })

    test.each([
      { what: 'that has expired', kept: () => restarted({ options: {} }, 3_600_000) },
      { what: 'that is no text of ours', kept: async () => startWith('{"address": {}}') },
      { what: 'that is cut off', kept: async () => startWith('{"addr') },
    ])('a lease $what is not used', async ({ kept }) => {
      const set = await kept()
      expect([set.client.state, set.heard]).toEqual(['selecting', []])
    })

    function startWith(kept: string) {
      const set = setUp({ kept })
      set.client.start()
      return set
    }
  })

  test('release(): said to the server by unicast, and forgotten', () => {
    const set = setUp()
    set.bind()
    set.client.release()
    expect(set.link.take()).toMatchObject([
      { type: 'release', to: '02:00:00:00:00:fe', source: address, destination: server, ciaddr: address, options: { server } },
    ]) // prettier-ignore
    expect([set.client.state, set.kept(), set.link.isOpen]).toEqual(['stopped', undefined, false])
    set.client.release()
    expect(set.link.sent).toEqual([])
  })

  test('dispose: nothing more is sent, and nothing that comes is heard', async () => {
    const set = setUp()
    set.client.start()
    const discover = set.last()
    set.client[Symbol.dispose]()
    set.link.take()
    set.link.deliver({ type: 'offer', yiaddr: address, options: hour }, discover)
    await set.clock.advance(100_000)
    expect([set.link.sent, set.client.state]).toEqual([[], 'stopped'])
  })

  test('renew(): asks now; without a lease, looks for one now', async () => {
    const set = setUp()
    set.bind()
    set.client.renew()
    expect(set.last()).toMatchObject({ type: 'request', destination: server })
    const looking = setUp()
    looking.client.start()
    looking.client.renew()
    expect(looking.link.take()).toHaveLength(2)
  })

  test.each([
    { what: 'another exchange', fields: { xid: 1 } },
    { what: 'another client', fields: { chaddr: parseMac('02:00:00:00:00:02') } },
    { what: 'nobody: an offer without a server', fields: { options: {} } },
    { what: 'a host with the address 127.0.0.1', fields: { yiaddr: parseIp('127.0.0.1') } },
    { what: 'a host with the address 0.0.0.0', fields: { yiaddr: parseIp('0.0.0.0') } },
  ])('SELECTING: passes over an offer for $what', ({ fields }) => {
    const { client, link, last } = setUp()
    client.start()
    link.deliver({ type: 'offer', yiaddr: address, options: hour, ...fields }, last())
    expect(client.state).toBe('selecting')
  })

  test.each([
    { what: 'from another server', fields: { options: { server: parseIp('10.0.0.2') } } },
    { what: 'of another address', fields: { yiaddr: parseIp('10.0.0.10') } },
    { what: 'without a time', fields: { options: { leaseSeconds: 0 } } },
    { what: 'with an MTU of 67', fields: { options: { mtu: 67 } } },
    { what: 'with a mask of holes', fields: { options: { subnetMask: parseIp('255.0.255.0') } } },
    { what: 'of a broadcast address', fields: { options: { subnetMask: parseIp('255.255.255.248') } }, yiaddr: true },
  ])('REQUESTING: passes over an ack $what', ({ fields, yiaddr }) => {
    const { client, link, last, ack } = setUp()
    client.start()
    const offered = parseIp(yiaddr ? '10.0.0.15' : '10.0.0.9')
    link.deliver({ type: 'offer', yiaddr: offered, options: hour }, last())
    ack({ yiaddr: offered, ...fields })
    expect(client.state).toBe('requesting')
  })

  test('any bytes from the network are passed over', () => {
    const { client, link } = setUp()
    client.start()
    for (const hex of ['', '45', '450000', 'ff'.repeat(400)]) link.deliverBytes(Buffer.from(hex, 'hex'))
    expect(client.state).toBe('selecting')
  })

  test('a link that fails is tried again with the next message', async () => {
    const { client, link, clock } = setUp()
    link.failure = new Error('ENETDOWN')
    client.start()
    expect(client.state).toBe('selecting')
    link.failure = undefined
    await clock.advance(4000)
    expect(link.take()).toHaveLength(1)
    link.break(new Error('ENXIO'))
    expect(link.isOpen).toBe(false)
    await clock.advance(8000)
    expect([link.isOpen, link.take().length]).toEqual([true, 1])
  })

  test('two offers: the first is taken', () => {
    const { client, link, last, offer } = setUp()
    client.start()
    offer()
    link.deliver(
      { type: 'offer', yiaddr: parseIp('10.0.0.99'), options: { ...hour, server: parseIp('10.0.0.2') } },
      last(),
    )
    expect([client.state, last().options.requestedAddress]).toEqual(['requesting', address])
  })
})
