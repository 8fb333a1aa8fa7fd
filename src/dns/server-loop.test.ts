import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Log, silentLog } from '../base/log.ts'
import { parseName } from '../dns-message/name.ts'
import { rcodes } from '../dns-message/record-set.ts'
import { parseIp } from '../net/ip-address.ts'
import { createDnsServer } from './server.ts'

const one = parseIp('127.0.0.1')

describe('a loop', () => {
  test('createDnsServer() finds out that its resolver asks it back, leaves it out, and goes on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dns-loop-'))
    const resolvConf = join(folder, 'resolv.conf')
    writeFileSync(resolvConf, 'nameserver 127.0.0.1\n')
    const warnings: unknown[] = []
    const log: Log = {
      ...silentLog,
      child: () => log,
      warn: (fields: object, text: string) => warnings.push([fields, text]),
    }
    await using stack = new AsyncDisposableStack()
    // A relay that sends everything back to whom it was asked by.
    const relay = createSocket('udp4')
    const limits = { tryNextAfter: 100, forwardDeadline: 1000 }
    relay.bind(0, '127.0.0.1')
    await once(relay, 'listening')
    const { port: upstreamPort } = relay.address()
    const server = stack.use(createDnsServer({ addresses: [one], port: 0, upstreamPort, resolvConf, log, limits }))
    await server.listen()
    const port = server.endpoints[0]?.udpPort ?? 0
    relay.on('message', (message, client) => {
      if (client.port !== port) relay.send(message, port, '127.0.0.1')
    })
    stack.defer(() => {
      relay.close()
    })
    const ask = async (name: string): Promise<{ rcode: number; ms: number }> => {
      const socket = createSocket('udp4')
      const query = Buffer.concat([
        Buffer.from('000101000001000000000000', 'hex'),
        parseName(name).wire,
        Buffer.of(0, 1, 0, 1),
      ])
      const start = performance.now()
      socket.send(query, port, '127.0.0.1')
      const [message] = (await once(socket, 'message')) as [Buffer]
      socket.close()
      return { rcode: (message[3] ?? 0) & 0xf, ms: performance.now() - start }
    }
    expect((await ask('first.example')).rcode).toBe(rcodes.SERVFAIL)
    expect(warnings).toEqual([
      [{ upstream: `127.0.0.1:${upstreamPort}` }, expect.stringContaining('does not answer')],
      [{ upstream: `127.0.0.1:${upstreamPort}` }, expect.stringContaining('asks us for what we ask it')],
    ])
    const second = await ask('second.example')
    expect(second.rcode).toBe(rcodes.SERVFAIL)
    expect(second.ms).toBeLessThan(100)
    rmSync(folder, { recursive: true })
  })
})
