import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { BufferGuard } from './buffer-guard.ts'
import { Quota } from './quota.ts'
import type { Choose, Target } from './target.ts'
import { TcpRelay, type TcpClient, type TcpRelayOptions } from './tcp-relay.ts'

const ip = parseIp('127.0.0.1')
const cleanup: (() => void)[] = []
afterEach(() => {
  for (const undo of cleanup.splice(0)) undo()
})

async function target(onConnection: (socket: Socket) => void): Promise<Target & { server: Server }> {
  const server = createServer({ allowHalfOpen: true }, onConnection).listen(0, ip)
  await once(server, 'listening')
  cleanup.push(() => server.close())
  return { ip, port: (server.address() as AddressInfo).port as Port, server }
}

async function relayTo(choose: Choose<TcpClient>, options: Partial<TcpRelayOptions> = {}): Promise<TcpRelay> {
  const relay = await TcpRelay.open({ listen: { ip, port: 0 }, choose, quota: new Quota(100), ...options })
  cleanup.push(() => relay[Symbol.dispose]())
  return relay
}

function ask(relay: TcpRelay): Socket {
  const socket = connect({ host: ip, port: relay.port, allowHalfOpen: true })
  cleanup.push(() => socket.destroy())
  return socket
}

async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

/** A port where nobody listens. */
async function deafTarget(): Promise<Target> {
  const server = createServer().listen(0, ip)
  await once(server, 'listening')
  const port = (server.address() as AddressInfo).port as Port
  server.close()
  await once(server, 'close')
  return { ip, port }
}

describe('TcpRelay', () => {
  test('carries bytes both ways and half-closes, also of what was sent before the target accepted', async () => {
    const to = await target((socket) => void readAll(socket).then((text) => socket.end(`you said ${text}`)))
    const relay = await relayTo(() => to)
    const client = ask(relay)
    client.end('hello')
    expect(await readAll(client)).toBe('you said hello')
    await expect.poll(() => relay.connections).toBe(0)
  })

  test('a target that ends first is heard so, and goes on reading', async () => {
    const heard = Promise.withResolvers<string>()
    const to = await target((socket) => {
      socket.end('bye')
      heard.resolve(readAll(socket))
    })
    const client = ask(await relayTo(() => to))
    expect(await readAll(client)).toBe('bye')
    client.end('still talking')
    expect(await heard.promise).toBe('still talking')
  })

  test('passes large answers on whole, to a client that reads slowly', async () => {
    const size = 8 << 20
    const to = await target((socket) => socket.end(Buffer.alloc(size, 'x')))
    const client = ask(await relayTo(() => to))
    client.end()
    let length = 0
    for await (const chunk of client) {
      length += (chunk as Buffer).length
      if (length < size / 4) await sleep(1)
    }
    expect(length).toBe(size)
  })

  test('holds a sender back that its reader does not follow', async () => {
    const to = await target((socket) => socket.pause())
    const relay = await relayTo(() => to)
    const client = ask(relay)
    const before = process.memoryUsage().arrayBuffers
    const chunk = Buffer.alloc(1 << 20)
    for (let i = 0; i < 64; i++) client.write(chunk)
    await sleep(300)
    // What the kernel and the relay took; the rest waits with the client.
    expect(client.writableLength).toBeGreaterThan(32 << 20)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 << 20)
  })

  test('resets connections that take nothing when all together hold too much, and no others', async () => {
    const mute = await target((socket) => socket.on('error', () => {}).pause())
    const echo = await target((socket) => socket.pipe(socket))
    const targets = [mute, mute, mute, echo]
    const relay = await relayTo(() => targets.shift(), { buffers: new BufferGuard(200_000) })
    const clients = [ask(relay), ask(relay), ask(relay)]
    for (const client of clients) client.on('error', () => {}).write(Buffer.alloc(16 << 20))
    await expect.poll(() => targets.length).toBe(1)
    const lively = ask(relay)
    lively.write('hello')
    await once(lively, 'data')
    await expect.poll(() => clients.filter((client) => client.destroyed).length, { timeout: 5000 }).toBeGreaterThan(1)
    lively.write('still here')
    expect(String((await once(lively, 'data'))[0])).toBe('still here')
  })

  test('passes a reset on, in both directions', async () => {
    const reset = await target((socket) => socket.resetAndDestroy())
    const client = ask(await relayTo(() => reset))
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).toBe('ECONNRESET')

    const accepted = Promise.withResolvers<Socket>()
    const to = await target((socket) => accepted.resolve(socket))
    const other = ask(await relayTo(() => to))
    const socket = await accepted.promise
    socket.resume()
    const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>
    other.resetAndDestroy()
    expect((await failed)[0].code).toBe('ECONNRESET')
  })

  test('tries another target when one refuses, and resets the client when none is left', async () => {
    const deaf = await deafTarget()
    const to = await target((socket) => socket.end('here'))
    const tried: number[] = []
    const good = ask(
      await relayTo((_client, failed) => {
        tried.push(failed.length)
        return failed.length === 0 ? deaf : to
      }),
    )
    expect(await readAll(good)).toBe('here')
    expect(tried).toEqual([0, 1])
    const bad = ask(await relayTo(() => deaf, { attempts: 2 }))
    await expect(once(bad, 'end')).rejects.toThrow('ECONNRESET')
  })

  test('resets a connection beyond the quota, and takes one again when another ended', async () => {
    const to = await target(
      (socket) =>
        void socket
          .on('end', () => socket.end())
          .resume()
          .write('hi'),
    )
    const quota = new Quota(1)
    const relay = await relayTo(() => to, { quota })
    const first = ask(relay)
    await once(first, 'data')
    await expect(once(ask(relay), 'data')).rejects.toThrow('ECONNRESET')
    first.destroy()
    await expect.poll(() => quota.used).toBe(0)
    await once(ask(relay), 'data')
  })

  test('closes connections on which nothing moves, sooner when one side has ended', async () => {
    const to = await target((socket) => socket.resume())
    const relay = await relayTo(() => to, { idleMs: 60_000, halfClosedIdleMs: 50 })
    const client = ask(relay)
    client.end()
    await expect.poll(() => relay.connections, { timeout: 2000 }).toBe(0)
    const idle = await relayTo(() => to, { idleMs: 50 })
    ask(idle)
    await expect.poll(() => idle.connections).toBe(1)
    await expect.poll(() => idle.connections, { timeout: 2000 }).toBe(0)
  })

  test('closes without its connections, or with them', async () => {
    const to = await target((socket) => socket.pipe(socket))
    const relay = await relayTo(() => to)
    const client = ask(relay)
    client.write('a')
    await once(client, 'data')
    relay.close({ abort: false })
    client.write('b')
    expect(String((await once(client, 'data'))[0])).toBe('b')
    const { port } = relay
    await expect(once(connect({ host: ip, port }), 'connect')).rejects.toThrow('ECONNREFUSED')
  })
})
