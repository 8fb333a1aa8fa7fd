import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Packet } from 'dns2'
import { describe, expect, test, vi } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseIp } from '../net/ip-address.ts'
import { encodeRequest } from '../dns-message/encode-request.ts'
import { encodeError, encodeResponse } from '../dns-message/encode-response.ts'
import { parseName } from '../dns-message/name.ts'
import { parseRequest, type Query } from '../dns-message/query.ts'
import { addressSets, type Answer, emptyAnswer, nameSet, rcodes, recordTypes } from '../dns-message/record-set.ts'
import { createDnsServer, type DnsServer, type DnsServerOptions } from './server.ts'
import { snapshotOf } from './testing.ts'

const loopback = parseIp('127.0.0.1')
const snapshot = snapshotOf({
  'shop/cart': { ips: ['172.30.4.10'] },
  'shop/pay': { externalName: 'www.example.com' },
  'shop/gone': { externalName: 'gone.example.com' },
  'shop/broken': { externalName: 'broken.example.com' },
  'shop/basket': { externalName: 'cart.shop.svc.cluster.local' },
  'shop/ghost': { externalName: 'nobody.shop.svc.cluster.local' },
  'shop/a': { externalName: 'b.shop.svc.cluster.local' },
  'shop/b': { externalName: 'a.shop.svc.cluster.local' },
})

/** A resolver that knows a few names and misbehaves for others. */
async function openUpstream() {
  const seen: string[] = []
  const udp = createSocket('udp4')
  const answer = (query: Query): Answer => {
    const { name, type } = query.question
    const label = Buffer.from(name.wire)
      .toString('latin1', 1, 1 + (name.wire[0] ?? 0))
      .toLowerCase()
    if (label === 'www' || label === 'noedns' || label === 'big' || label === 'forged') {
      const ips = Array.from({ length: label === 'big' ? 60 : 1 }, (_, i) => parseIp(`198.51.100.${i + 1}`))
      return {
        ...emptyAnswer(0),
        answer: addressSets(ips, { owner: name, ttl: 20 }).filter((set) => set.type === type),
      }
    }
    if (label === 'alias')
      return {
        ...emptyAnswer(0),
        answer: [nameSet(recordTypes.CNAME, [parseName('www.example.com')], { owner: name, ttl: 20 })],
      }
    return emptyAnswer(label === 'broken' ? rcodes.SERVFAIL : rcodes.NXDOMAIN)
  }
  const reply = (message: Buffer, transport: 'udp' | 'tcp') => {
    const request = parseRequest(message)
    if (request.kind !== 'query') throw new Error('the forwarder sent no query')
    const { query } = request
    const text = Packet.parse(message).questions[0]?.name.toLowerCase() ?? ''
    seen.push(`${transport} ${text}`)
    if (text.startsWith('silent')) return []
    if (text.startsWith('noedns') && query.edns) return [encodeError(query.id, 0, rcodes.FORMERR)]
    const real = encodeResponse({ ...query, edns: undefined }, answer(query), {
      transport,
      recursionAvailable: true,
      rotation: 0,
    })
    if (!text.startsWith('forged')) return [real]
    const otherId = Buffer.from(real)
    otherId.writeUInt16BE((query.id + 1) & 0xffff, 0)
    const otherName = Buffer.from(real)
    otherName[13] = 0x78
    return [otherId, otherName, Buffer.from('garbage'), real]
  }
  udp.on('message', (message, client) => {
    for (const response of reply(message, 'udp')) udp.send(response, client.port, client.address)
  })
  const tcp = createServer((socket) => {
    socket.on('data', (data) => {
      for (const response of reply(data.subarray(2), 'tcp')) socket.end(frame(response))
    })
  })
  // TCP first: more of its ports are taken, by connections of other tests.
  tcp.listen(0, '127.0.0.1')
  await once(tcp, 'listening')
  const { port } = tcp.address() as AddressInfo
  udp.bind(port, '127.0.0.1')
  await once(udp, 'listening')
  return {
    port,
    seen,
    [Symbol.dispose]() {
      udp.close()
      tcp.close()
    },
  }
}

async function openServer(options: Partial<DnsServerOptions> = {}): Promise<DnsServer> {
  const folder = mkdtempSync(join(tmpdir(), 'dns-server-'))
  const resolvConf = join(folder, 'resolv.conf')
  writeFileSync(resolvConf, 'nameserver 127.0.0.1\n')
  const server = createDnsServer({ addresses: [loopback], port: 0, resolvConf, log: silentLog, ...options })
  await server.listen()
  rmSync(folder, { recursive: true })
  server.update(snapshot, true)
  return server
}

/** How long is waited for what comes soon, on a machine that may have other things to do. */
const patience = { timeout: 10_000, interval: 2 }

const portOf = (server: DnsServer) => server.endpoints[0]?.udpPort ?? 0
const frame = (message: Uint8Array) => {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}
const request = (name: string, { id = 1, type = 1, edns = false } = {}) =>
  encodeRequest({ name: parseName(name), type, class: 1 }, { id, edns, dnssecOk: false, checkingDisabled: false })

async function askUdp(server: DnsServer, message: Uint8Array): Promise<Packet> {
  const socket: UdpSocket = createSocket('udp4')
  try {
    socket.send(message, portOf(server), '127.0.0.1')
    const [response] = (await once(socket, 'message')) as [Buffer]
    return Packet.parse(response)
  } finally {
    socket.close()
  }
}

/** Sends bytes over one connection, optionally ends it, and returns all responses until the server closes. */
async function askTcp(server: DnsServer, chunks: readonly Uint8Array[], { end = true } = {}): Promise<Packet[]> {
  const socket = connect({ port: portOf(server), host: '127.0.0.1', noDelay: true })
  const received: Buffer[] = []
  socket.on('data', (chunk) => received.push(chunk))
  socket.on('error', () => {})
  // Not once() of node:events, which takes a reset for its own failure.
  const closed = new Promise((resolve) => socket.once('close', resolve))
  for (const chunk of chunks) {
    socket.write(chunk)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  if (end) socket.end()
  await closed
  const packets: Packet[] = []
  let rest = Buffer.concat(received)
  while (rest.length >= 2) {
    const length = rest.readUInt16BE(0)
    packets.push(Packet.parse(rest.subarray(2, 2 + length)))
    rest = rest.subarray(2 + length)
  }
  return packets
}

describe('createDnsServer() over UDP', () => {
  test('answers for the cluster, and goes on after garbage', async () => {
    await using server = await openServer()
    const socket = createSocket('udp4')
    for (const junk of [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(1400, 0xff), request('a').fill(0xc0, 12)])
      socket.send(junk, portOf(server), '127.0.0.1')
    const packet = await askUdp(server, request('Cart.shop.svc.cluster.local', { id: 77 }))
    socket.close()
    expect(packet.header).toMatchObject({ id: 77, qr: 1, aa: 1, ra: 1, rd: 1, rcode: 0 })
    expect(packet.answers).toMatchObject([{ name: 'Cart.shop.svc.cluster.local', address: '172.30.4.10' }])
    expect(packet.additionals).toEqual([])
    expect(server.stats).toMatchObject({ queries: 1, dropped: 3, answers: { NOERROR: 1, FORMERR: 1 }, errors: 0 })
  })

  for (const [name, rcode, records] of [
    ['www.example.com', 'NOERROR', ['198.51.100.1']],
    ['nowhere.example.com', 'NXDOMAIN', []],
    ['broken.example.com', 'SERVFAIL', []],
    ['noedns.example.com', 'NOERROR', ['198.51.100.1']],
    ['forged.example.com', 'NOERROR', ['198.51.100.1']],
    ['pay.shop.svc.cluster.local', 'NOERROR', ['www.example.com', '198.51.100.1']],
    ['basket.shop.svc.cluster.local', 'NOERROR', ['cart.shop.svc.cluster.local', '172.30.4.10']],
    // RFC 6604: the code is that of the last name.
    ['gone.shop.svc.cluster.local', 'NXDOMAIN', ['gone.example.com']],
    ['ghost.shop.svc.cluster.local', 'NXDOMAIN', ['nobody.shop.svc.cluster.local']],
    ['broken.shop.svc.cluster.local', 'SERVFAIL', []],
    ['a.shop.svc.cluster.local', 'SERVFAIL', []],
  ] as const)
    test(`answers ${rcode} to ${name}`, async () => {
      using upstream = await openUpstream()
      await using server = await openServer({ upstreamPort: upstream.port })
      const packet = await askUdp(server, request(name))
      expect(packet.header.rcode).toBe(rcodes[rcode])
      expect(packet.answers.map((record) => record.address ?? record.domain)).toEqual(records)
    })

  test('asks upstream over TCP when the reply was truncated, and truncates for the client', async () => {
    using upstream = await openUpstream()
    await using server = await openServer({ upstreamPort: upstream.port })
    const small = await askUdp(server, request('big.example.com'))
    expect([small.header.tc, small.answers.length]).toEqual([1, 0])
    const large = await askUdp(server, request('big.example.com', { edns: true }))
    expect([large.header.tc, large.answers.length]).toEqual([0, 60])
    expect(upstream.seen).toContain('tcp big.example.com')
  })

  test('keeps cluster names fast while an upstream is silent, and says SERVFAIL for the others in the end', async () => {
    using upstream = await openUpstream()
    // For the forwarder no time passes until the cluster has answered.
    const clock = new FakeClock()
    await using server = await openServer({
      upstreamPort: upstream.port,
      limits: { forwardDeadline: 300, tryNextAfter: 100 },
      clock,
    })
    const slow = askUdp(server, request('silent.example.com'))
    await vi.waitFor(() => expect(upstream.seen).toEqual(['udp silent.example.com']), patience)
    expect((await askUdp(server, request('cart.shop.svc.cluster.local'))).header.rcode).toBe(rcodes.NOERROR)
    await clock.advance(300)
    expect((await slow).header.rcode).toBe(rcodes.SERVFAIL)
    expect(server.stats).toMatchObject({ forwarded: 1, forwardFailures: 1 })
  })

  test('has only one of several equal questions in flight, and refuses more than its limit', async () => {
    using upstream = await openUpstream()
    const limits = { forwardDeadline: 300, tryNextAfter: 1000, maxForwarded: 1 }
    const clock = new FakeClock()
    await using server = await openServer({ upstreamPort: upstream.port, limits, clock })
    const equal = [askUdp(server, request('silent.example.com')), askUdp(server, request('SILENT.example.com'))]
    await vi.waitFor(() => expect(upstream.seen).toHaveLength(1), patience)
    expect((await askUdp(server, request('www.example.com'))).header.rcode).toBe(rcodes.REFUSED)
    await clock.advance(300)
    await Promise.all(equal)
    expect(upstream.seen).toEqual(['udp silent.example.com'])
  })
})

describe('createDnsServer() over TCP', () => {
  test('answers many queries of one connection, cut anywhere, after the client ended its side', async () => {
    await using server = await openServer()
    const bytes = Buffer.concat([1, 2, 3].map((id) => frame(request('cart.shop.svc.cluster.local', { id }))))
    const packets = await askTcp(server, [
      bytes.subarray(0, 1),
      bytes.subarray(1, 20),
      bytes.subarray(20, 90),
      bytes.subarray(90),
    ])
    expect(packets.map((packet) => packet.header.id)).toEqual([1, 2, 3])
  })

  test('does not let a slow question hold up the next one', async () => {
    using upstream = await openUpstream()
    const clock = new FakeClock()
    await using server = await openServer({ upstreamPort: upstream.port, limits: { forwardDeadline: 200 }, clock })
    const slow = frame(request('silent.example.com', { id: 1 }))
    const packets = askTcp(server, [slow, frame(request('cart.shop.svc.cluster.local', { id: 2 }))])
    await vi.waitFor(() => expect(server.stats.queries).toBe(1), patience)
    await clock.advance(200)
    expect((await packets).map((packet) => [packet.header.id, packet.header.rcode])).toEqual([
      [2, rcodes.NOERROR],
      [1, rcodes.SERVFAIL],
    ])
  })

  test('closes a connection that says a length of 0, and one that sends byte after byte', async () => {
    const clock = new FakeClock()
    await using server = await openServer({ limits: { idleTimeout: 100 }, clock })
    expect(await askTcp(server, [Buffer.alloc(2)], { end: false })).toEqual([])
    const socket = connect({ port: portOf(server), host: '127.0.0.1', noDelay: true })
    socket.on('error', () => {})
    let closed = false
    socket.once('close', () => (closed = true))
    socket.write(Buffer.of(1, 0))
    // Bytes come more often than the limit: it counts from the last whole message, or this would never end.
    await vi.waitFor(
      async () => {
        socket.write(Buffer.of(1))
        await clock.advance(20)
        expect(closed).toBe(true)
      },
      { ...patience, interval: 5 },
    )
  })

  test('gives one client a quarter of the connections, and others the rest', async () => {
    await using server = await openServer({ limits: { maxConnections: 8 } })
    const held = [1, 2].map(() => connect({ port: portOf(server), host: '127.0.0.1', localAddress: '127.0.0.2' }))
    await Promise.all(held.map((socket) => once(socket, 'connect')))
    const third = connect({ port: portOf(server), host: '127.0.0.1', localAddress: '127.0.0.2' })
    third.on('error', () => {})
    await new Promise((resolve) => third.once('close', resolve))
    expect(await askTcp(server, [frame(request('cart.shop.svc.cluster.local', { id: 5 }))])).toHaveLength(1)
    for (const socket of held) socket.destroy()
    await Promise.all(held.map((socket) => once(socket, 'close')))
  })

  test('keeps to its number of connections', async () => {
    await using server = await openServer({ limits: { maxConnections: 1 } })
    const first = connect({ port: portOf(server), host: '127.0.0.1' })
    await once(first, 'connect')
    expect(await askTcp(server, [frame(request('cart.shop.svc.cluster.local'))], { end: false })).toEqual([])
    first.destroy()
  })
})

describe('createDnsServer().listen()', () => {
  const listening = async (options: Partial<DnsServerOptions>) => {
    await using server = await openServer(options)
    return portOf(server)
  }

  test('says which address is taken', async () => {
    await using server = await openServer()
    await expect(listening({ port: portOf(server) })).rejects.toThrow(
      `cannot listen on udp 127.0.0.1 port ${portOf(server)} for DNS: another program already listens there`,
    )
  })

  test('says so when only TCP is taken, and leaves no socket open', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    await expect(listening({ port })).rejects.toThrow(`cannot listen on tcp 127.0.0.1 port ${port}`)
    other.close()
    await once(other, 'close')
    expect(await listening({ port })).toBe(port)
  })

  test('says which address no interface has', async () => {
    await expect(listening({ addresses: [parseIp('192.0.2.1')] })).rejects.toMatchObject({
      code: 'EADDRNOTAVAIL',
      message: expect.stringContaining('no interface has this address; add it') as string,
    })
  })
})
