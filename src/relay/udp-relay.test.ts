import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { Quota } from './quota.ts'
import type { Choose, Target } from './target.ts'
import { UdpRelay, type UdpRelayOptions } from './udp-relay.ts'

const ip = parseIp('::1')
const cleanup: (() => void)[] = []
afterEach(() => {
  for (const undo of cleanup.splice(0)) undo()
})

async function openSocket(): Promise<Socket> {
  const socket = createSocket('udp6').bind(0, ip)
  await once(socket, 'listening')
  cleanup.push(() => socket.close())
  return socket
}

/** Answers with its name and what it was sent. */
async function target(name: string): Promise<Target> {
  const socket = await openSocket()
  socket.on('message', (bytes, from) => socket.send(`${name} ${String(bytes)}`, from.port, from.address))
  return { ip, port: socket.address().port as Port }
}

async function relayTo(choose: Choose, options: Partial<UdpRelayOptions> = {}): Promise<UdpRelay> {
  const relay = await UdpRelay.open({ listen: { ip, port: 0 }, choose, quota: new Quota(100), ...options })
  cleanup.push(() => relay[Symbol.dispose]())
  return relay
}

async function ask(client: Socket, relay: UdpRelay, text: string): Promise<string> {
  const answer = once(client, 'message', { signal: AbortSignal.timeout(1000) })
  client.send(text, relay.port, ip)
  return String((await answer)[0])
}

describe('UdpRelay', () => {
  test('carries datagrams both ways, and keeps a client’s target', async () => {
    const targets = [await target('a'), await target('b')]
    let next = 0
    const relay = await relayTo(() => targets[next++ % 2])
    const [one, two] = [await openSocket(), await openSocket()]
    expect(await ask(one, relay, '1')).toBe('a 1')
    expect(await ask(two, relay, '2')).toBe('b 2')
    expect(await ask(one, relay, '3')).toBe('a 3')
    expect(relay.clients).toBe(2)
  })

  test('keeps what comes before the target’s socket is connected', async () => {
    const to = await target('a')
    const relay = await relayTo(() => to)
    const client = await openSocket()
    const answers: string[] = []
    client.on('message', (bytes) => answers.push(String(bytes)))
    for (const text of ['1', '2', '3']) client.send(text, relay.port, ip)
    await expect.poll(() => answers).toEqual(['a 1', 'a 2', 'a 3'])
  })

  test('keepOnly() lets the clients of other targets choose anew', async () => {
    const [a, b] = [await target('a'), await target('b')]
    let current = a
    const relay = await relayTo(() => current)
    const client = await openSocket()
    expect(await ask(client, relay, '1')).toBe('a 1')
    current = b
    relay.keepOnly((kept) => kept.port === a.port)
    expect(await ask(client, relay, '2')).toBe('a 2')
    relay.keepOnly((kept) => kept.port === b.port)
    expect(await ask(client, relay, '3')).toBe('b 3')
  })

  test('a target that does not listen is chosen anew at the next datagram', async () => {
    const deaf = createSocket('udp6').bind(0, ip)
    await once(deaf, 'listening')
    const port = deaf.address().port as Port
    deaf.close()
    const to = await target('a')
    let tries = 0
    const relay = await relayTo(() => (tries++ === 0 ? { ip, port } : to))
    const client = await openSocket()
    client.send('lost', relay.port, ip)
    await expect.poll(() => tries).toBe(1)
    await expect.poll(() => relay.clients).toBe(0)
    expect(await ask(client, relay, 'found')).toBe('a found')
  })

  test('forgets a client that was silent, sooner when it was never answered', async () => {
    const to = await target('a')
    const mute = await openSocket()
    const targets = [to, { ip, port: mute.address().port as Port }]
    const relay = await relayTo(() => targets.shift(), { idleMs: 500, unansweredMs: 100 })
    const [one, two] = [await openSocket(), await openSocket()]
    await ask(one, relay, '1')
    two.send('2', relay.port, ip)
    await expect.poll(() => relay.clients, { interval: 5 }).toBe(2)
    await expect.poll(() => relay.clients, { interval: 5 }).toBe(1)
    await expect.poll(() => relay.clients).toBe(0)
  })

  test('forgets the longest silent client for one more than the quota', async () => {
    const to = await target('a')
    const relay = await relayTo(() => to, { quota: new Quota(2) })
    const [one, two, three] = [await openSocket(), await openSocket(), await openSocket()]
    await ask(one, relay, '1')
    await ask(two, relay, '2')
    await ask(one, relay, '1')
    expect(await ask(three, relay, '3')).toBe('a 3')
    expect(relay.clients).toBe(2)
  })

  test('is silent where nothing is chosen', async () => {
    const relay = await relayTo(() => undefined)
    const client = await openSocket()
    client.send('x', relay.port, ip)
    await sleep(50)
    expect(relay.clients).toBe(0)
  })
})
