import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Packet } from 'dns2'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseIp } from '../net/ip-address.ts'
import { encodeRequest } from '../dns-message/encode-request.ts'
import { encodeError } from '../dns-message/encode-response.ts'
import { parseName } from '../dns-message/name.ts'
import type { NetworkNames } from './network-names.ts'
import { rcodes, recordTypes } from '../dns-message/record-set.ts'
import { createDnsServer, type DnsServer } from './server.ts'
import { snapshotOf } from './testing.ts'

/** The pod at 127.0.0.2 shares a network with `web-2` and with `four`; nobody else does. */
const networkNames: NetworkNames = {
  seenFrom: (client) =>
    client === '127.0.0.2'
      ? {
          addressesOf: (label) =>
            ({ 'web-2': ['172.29.0.7', 'fd00::7'], four: ['172.29.0.4'] })[label]?.map(parseIp) ?? [],
        }
      : undefined,
}
const pod = '127.0.0.2'
const elsewhere = '127.0.0.3'

describe('createDnsServer({ networkNames })', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dns-names-'))
  const upstream = createSocket('udp4')
  let forwarded = 0
  let server: DnsServer

  beforeAll(async () => {
    // An upstream that refuses everything, so that what it was asked about can be told from what we deny.
    upstream.on('message', (message, client) => {
      forwarded++
      upstream.send(encodeError(message.readUInt16BE(0), 0, rcodes.REFUSED), client.port, client.address)
    })
    upstream.bind(0, '127.0.0.1')
    await once(upstream, 'listening')
    const resolvConf = join(folder, 'resolv.conf')
    writeFileSync(resolvConf, 'nameserver 127.0.0.1\n')
    const addresses = [parseIp('127.0.0.1')]
    const { port: upstreamPort } = upstream.address()
    server = createDnsServer({ addresses, port: 0, resolvConf, upstreamPort, networkNames, log: silentLog })
    await server.listen()
    server.update(
      snapshotOf({ 'default/web-2': { ips: ['172.30.0.2'] }, 'default/out': { externalName: 'web-2' } }),
      true,
    )
  })

  afterAll(async () => {
    await server[Symbol.asyncDispose]()
    upstream.close()
    rmSync(folder, { recursive: true })
  })

  const message = (name: string, type: number) =>
    encodeRequest(
      { name: parseName(name), type, class: 1 },
      { id: 1, edns: false, dnssecOk: false, checkingDisabled: false },
    )
  const port = () => server.endpoints[0]?.udpPort ?? 0

  async function ask(
    name: string,
    { type = 'A', from = pod }: { type?: keyof typeof recordTypes; from?: string } = {},
  ) {
    const before = forwarded
    const socket = createSocket('udp4')
    try {
      socket.bind(0, from)
      await once(socket, 'listening')
      socket.send(message(name, recordTypes[type]), port(), '127.0.0.1')
      const [response] = (await once(socket, 'message')) as [Buffer]
      return { ...read(response), forwarded: forwarded > before }
    } finally {
      socket.close()
    }
  }

  function read(response: Buffer) {
    const packet = Packet.parse(response)
    const rcode = Object.entries(rcodes).find(([, code]) => code === packet.header.rcode)?.[0]
    return { rcode, answers: packet.answers.map(({ address, domain, ttl }) => `${address ?? domain} ${ttl}`) }
  }

  test.each([
    ['the name of a neighbour', 'web-2.', {}, { rcode: 'NOERROR', answers: ['172.29.0.7 0'], forwarded: false }],
    ['a name in upper case', 'WEB-2.', {}, { rcode: 'NOERROR', answers: ['172.29.0.7 0'], forwarded: false }],
    ['the other family', 'web-2.', { type: 'AAAA' }, { rcode: 'NOERROR', answers: ['fd00::7 0'], forwarded: false }],
    [
      'NODATA to a family that the neighbour lacks',
      'four.',
      { type: 'AAAA' },
      { rcode: 'NOERROR', answers: [], forwarded: false },
    ],
    ['NODATA to other types', 'web-2.', { type: 'MX' }, { rcode: 'NOERROR', answers: [], forwarded: false }],
    ['NXDOMAIN at once to an unknown name', 'nobody.', {}, { rcode: 'NXDOMAIN', answers: [], forwarded: false }],
    [
      'NXDOMAIN at once, type HTTPS',
      'nobody.',
      { type: 'HTTPS' },
      { rcode: 'NXDOMAIN', answers: [], forwarded: false },
    ],
    [
      'from upstream about top-level domains',
      'com.',
      { type: 'NS' },
      { rcode: 'REFUSED', answers: [], forwarded: true },
    ],
    ['from upstream to names of more labels', 'web-2.example.', {}, { rcode: 'REFUSED', answers: [], forwarded: true }],
    ['from upstream about the root', '.', {}, { rcode: 'REFUSED', answers: [], forwarded: true }],
    [
      'from upstream to who is no pod',
      'web-2.',
      { from: elsewhere },
      { rcode: 'REFUSED', answers: [], forwarded: true },
    ],
    [
      'the Service to the Service name',
      'web-2.default.svc.cluster.local.',
      {},
      { rcode: 'NOERROR', answers: ['172.30.0.2 5'], forwarded: false },
    ],
    [
      'through an ExternalName',
      'out.default.svc.cluster.local.',
      {},
      { rcode: 'NOERROR', answers: ['web-2 5', '172.29.0.7 0'], forwarded: false },
    ],
    [
      'no neighbour through an ExternalName to others',
      'out.default.svc.cluster.local.',
      { from: elsewhere },
      { rcode: 'REFUSED', answers: [], forwarded: true },
    ],
  ] as const)('answers %s', async (_what, name, options, expected) => {
    expect(await ask(name, options)).toEqual(expected)
  })

  test('says no SOA, so that a denial is not remembered', async () => {
    const socket = createSocket('udp4')
    socket.bind(0, pod)
    await once(socket, 'listening')
    socket.send(message('nobody.', recordTypes.A), port(), '127.0.0.1')
    const [response] = (await once(socket, 'message')) as [Buffer]
    socket.close()
    expect(Packet.parse(response).authorities).toEqual([])
  })

  test('knows the client of a TCP connection too', async () => {
    const answerOverTcp = async (localAddress: string) => {
      const socket = connect({ port: port(), host: '127.0.0.1', localAddress })
      const request = message('web-2.', recordTypes.A)
      socket.write(Buffer.concat([Buffer.from([0, request.length]), request]))
      const [response] = (await once(socket, 'data')) as [Buffer]
      socket.destroy()
      return read(response.subarray(2))
    }
    expect(await answerOverTcp(pod)).toEqual({ rcode: 'NOERROR', answers: ['172.29.0.7 0'] })
    expect(await answerOverTcp(elsewhere)).toEqual({ rcode: 'REFUSED', answers: [] })
  })
})
