import { readlinkSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Host } from '../lab/host.ts'
import { createLab, type Lab } from '../lab/lab.ts'
import { patience } from '../lab/patience.ts'

let lab: Lab
let client: Host
let router: Host
let server: Host

beforeAll(async () => {
  lab = createLab()
  client = await lab.host('client')
  router = await lab.host('router', { forward: true })
  server = await lab.host('server')
  await lab.link(client, router, { a: ['192.0.2.1/24', 'fd00:a::1/64'], b: ['192.0.2.254/24', 'fd00:a::fe/64'] })
  await lab.link(server, router, {
    a: ['198.51.100.1/24', 'fd00:b::1/64'],
    b: ['198.51.100.254/24', 'fd00:b::fe/64'],
  })
  await client.addRoute('0.0.0.0/0', { via: '192.0.2.254' })
  await client.addRoute('::/0', { via: 'fd00:a::fe' })
  await server.addRoute('0.0.0.0/0', { via: '198.51.100.254' })
  await server.addRoute('::/0', { via: 'fd00:b::fe' })
  await router.rtnetlink.routes.add({
    destination: { address: '203.0.113.0' as never, prefix: 24 },
    type: 'blackhole',
  })
})

afterAll(async () => {
  await lab[Symbol.asyncDispose]()
})

describe.each([
  { family: 'IPv4', source: '192.0.2.1', target: '198.51.100.1' },
  { family: 'IPv6', source: 'fd00:a::1', target: 'fd00:b::1' },
])('lab over $family', ({ source, target }) => {
  test('connectTcp: through a router, the listener says its name and the address that it saw', async () => {
    await using listener = await server.listenTcp(8080)
    const outcome = await client.connectTcp(target, listener.port)
    expect(outcome).toMatchObject({ reply: 'server', seenSource: source })
  })

  test('connectUdp: through a router, the listener says its reply text and the address that it saw', async () => {
    await using listener = await server.listenUdp(5353, { address: target, reply: 'dns' })
    const outcome = await client.connectUdp(target, listener.port)
    expect(outcome).toMatchObject({ reply: 'dns', seenSource: source })
  })

  test('connectTcp: a port without listener is refused', async () => {
    expect(await client.connectTcp(target, 81)).toBe('refused')
  })

  test('connectUdp: a port without listener is refused (ICMP port unreachable)', async () => {
    expect(await client.connectUdp(target, 82)).toBe('refused')
  })

  test('connectTcp: a source port that is asked for is the one that the listener sees', async () => {
    await using listener = await server.listenTcp(8081)
    const options = { sourceAddress: source, sourcePort: 40_001 }
    expect(await client.connectTcp(target, listener.port, options)).toMatchObject({ seenSourcePort: 40_001 })
  })

  test('openTcp: a kept connection echoes, also after its listener was closed', async () => {
    const listener = await server.listenTcp(8082)
    await using connection = await client.openTcp(target, listener.port)
    expect(await connection.echo('one')).toBe('ok')
    await listener[Symbol.asyncDispose]()
    expect(await client.connectTcp(target, 8082)).toBe('refused')
    expect(await connection.echo('two')).toBe('ok')
  })
})

test('connectTcp and connectUdp: packets that are dropped on the way end in a timeout', async () => {
  expect(await client.connectTcp('203.0.113.9', 80, { timeout: 200 })).toBe('timeout')
  expect(await client.connectUdp('203.0.113.9', 80, { timeout: 200 })).toBe('timeout')
})

test('connectTcp: an address without a route is unreachable', async () => {
  await using other = createLab()
  const lonely = await other.host('lonely')
  expect(await lonely.connectTcp('192.0.2.1', 80)).toBe('unreachable')
})

test('exec: the program runs in the host’s namespace, and this thread stays in its own', async () => {
  const home = readlinkSync('/proc/thread-self/ns/net')
  const { stdout } = await server.exec(['readlink', '/proc/self/ns/net'])
  expect(stdout.trim()).toBe(`net:[${server.netns.inode}]`)
  expect(stdout.trim()).not.toBe(home)
  expect(readlinkSync('/proc/thread-self/ns/net')).toBe(home)
})

test('createBridge: two hosts on a bridge reach each other and the bridge’s own host', async () => {
  await using lab = createLab()
  const node = await lab.host('node')
  const [one, two] = [await lab.host('one'), await lab.host('two')]
  await node.createBridge('br0', ['10.9.0.1/24'])
  await lab.link(node, one, { aBridge: 'br0', b: '10.9.0.2/24', bName: 'eth0' })
  await lab.link(node, two, { aBridge: 'br0', b: '10.9.0.3/24', bName: 'eth0' })
  await using _node = await node.listenTcp(80)
  await using _two = await two.listenTcp(80)
  expect(await one.connectTcp('10.9.0.3', 80)).toMatchObject({ reply: 'two', seenSource: '10.9.0.2' })
  expect(await one.connectTcp('10.9.0.1', 80)).toMatchObject({ reply: 'node', seenSource: '10.9.0.2' })
})

test('connectTcp: a thousand connections, 50 at a time, take seconds at most', async () => {
  await using listener = await server.listenTcp(8090)
  const start = performance.now()
  for (let round = 0; round < 20; round++) {
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, () => client.connectTcp('198.51.100.1', listener.port)),
    )
    expect(outcomes.filter((outcome) => typeof outcome === 'string')).toEqual([])
  }
  expect(performance.now() - start).toBeLessThan(patience(5000))
})
