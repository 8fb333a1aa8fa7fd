import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseIp } from '../net/ip-address.ts'
import { encodeResponse } from '../dns-message/encode-response.ts'
import { Forwarder } from './forward.ts'
import { parseName } from '../dns-message/name.ts'
import { parseRequest } from '../dns-message/query.ts'
import { addressSets, emptyAnswer, rcodes, recordTypes } from '../dns-message/record-set.ts'
import { parseUpstream } from './upstream.ts'

/** A certificate of `resolver.example`; undefined where there is no openssl to make one. */
function makeCertificate(): { key: string; cert: string } | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'dns-tls-'))
  try {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const name = ['-subj', '/CN=resolver.example', '-addext', 'subjectAltName=DNS:resolver.example']
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const { status } = spawnSync('openssl', ['req', '-x509', ...kind, ...name, '-keyout', key, '-out', cert])
    return status === 0 ? { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') } : undefined
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const certificate = makeCertificate()

/** A resolver that answers all questions of a connection in the opposite order, two at a time. */
async function openResolver({ key, cert }: { key: string; cert: string }) {
  let connections = 0
  let questions = 0
  const server = createServer({ key, cert }, (socket) => {
    connections++
    let received = Buffer.alloc(0)
    const held: Buffer[] = []
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0)
        const request = parseRequest(received.subarray(2, end))
        received = received.subarray(end)
        if (request.kind !== 'query') throw new Error('not a query')
        questions++
        const { query } = request
        const last = query.question.name.wire[1] ?? 0
        const sets = addressSets([parseIp(`198.51.100.${last}`)], { owner: query.question.name, ttl: 20 })
        const options = { transport: 'tcp', recursionAvailable: true, rotation: 0 } as const
        const response = encodeResponse(query, { ...emptyAnswer(0), answer: sets }, options)
        const length = Buffer.alloc(2)
        length.writeUInt16BE(response.length)
        held.unshift(Buffer.concat([length, response]))
      }
      if (held.length >= 2) socket.write(Buffer.concat(held.splice(0)))
    })
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    questions: () => questions,
    [Symbol.dispose]: () => {
      server.close()
    },
  }
}

describe.skipIf(!certificate)('TlsConnections', () => {
  const { key, cert } = certificate ?? { key: '', cert: '' }
  const setup = (port: number, name: string) => {
    const upstream = parseUpstream(`tls://127.0.0.1:${port}#${name}`)
    const forwarder = new Forwarder({ servers: () => [upstream], log: silentLog, tlsAuthorities: cert, deadline: 2000 })
    const ask = (text: string) =>
      forwarder.forward(
        { name: parseName(text), type: recordTypes.A, class: 1 },
        { dnssecOk: false, checkingDisabled: false },
      )
    return { forwarder, ask }
  }

  test('TlsConnections asks many questions over one connection, answered in any order', async () => {
    using resolver = await openResolver({ key, cert })
    const { forwarder, ask } = setup(resolver.port, 'resolver.example')
    const answers = await Promise.all([ask('a.example'), ask('b.example')])
    const more = await Promise.all([ask('c.example'), ask('d.example')])
    forwarder.stop()
    const last = (answer: (typeof answers)[number]) => (answer.answer[0]?.rdata[0]?.[0] as Uint8Array | undefined)?.[3]
    expect([...answers, ...more].map(last)).toEqual([...Buffer.from('abcd')])
    expect(resolver.connections()).toBe(1)
  })

  test('TlsConnections tells nothing to a resolver whose certificate is of another name', async () => {
    using resolver = await openResolver({ key, cert })
    const { forwarder, ask } = setup(resolver.port, 'other.example')
    expect((await ask('a.example')).rcode).toBe(rcodes.SERVFAIL)
    forwarder.stop()
    expect(resolver.questions()).toBe(0)
  })
})
