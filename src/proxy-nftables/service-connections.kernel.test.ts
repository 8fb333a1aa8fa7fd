import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Host } from '../../test/lab/host.ts'
import { createLab, type Lab } from '../../test/lab/lab.ts'
import { patience } from '../../test/lab/patience.ts'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { openNftables } from '../nftables/open-client.ts'
import type { NftClient } from '../nftables/client.ts'
import { compileServices, defaultProxySettings, type CompiledServices } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { NftablesMode } from './nftables-mode.ts'
import { openServiceConnections, type ServiceConnections } from '../proxy/service-connections.ts'

/** A client and two servers behind a node, and the connections that the client keeps while the Service changes. */
let lab: Lab
let node: Host
let client: Host
let nft: NftClient
let mode: NftablesMode
let connections: ServiceConnections
let previous: CompiledServices | undefined

const servers = { one: { 4: '10.0.1.2', 6: 'fd00:1::2' }, two: { 4: '10.0.2.2', 6: 'fd00:2::2' } } as const
const settings = { ...defaultProxySettings, localPods: [parseCidr('10.0.0.0/8'), parseCidr('fd00:1::/32')] }

beforeAll(async () => {
  lab = createLab()
  node = await lab.host('node', { forward: true })
  client = await lab.host('client')
  await lab.link(client, node, { a: ['10.0.0.2/24', 'fd00::2/64'], b: ['10.0.0.1/24', 'fd00::1/64'] })
  await client.addRoute('0.0.0.0/0', { via: '10.0.0.1' })
  await client.addRoute('::/0', { via: 'fd00::1' })
  for (const [name, subnet] of [
    ['one', 1],
    ['two', 2],
  ] as const) {
    const server = await lab.host(name)
    await lab.link(server, node, {
      a: [`10.0.${subnet}.2/24`, `fd00:${subnet}::2/64`],
      b: [`10.0.${subnet}.1/24`, `fd00:${subnet}::1/64`],
    })
    await server.addRoute('0.0.0.0/0', { via: `10.0.${subnet}.1` })
    await server.addRoute('::/0', { via: `fd00:${subnet}::1` })
    await server.listenUdp(5353)
    await server.listenTcp(8080)
  }
  nft = openNftables({ log: silentLog, netns: node.netns })
  mode = new NftablesMode(nft, { log: silentLog })
  connections = openServiceConnections({ clock: systemClock, log: silentLog, netns: node.netns })
})

afterAll(async () => {
  connections[Symbol.dispose]()
  nft[Symbol.dispose]()
  await lab[Symbol.asyncDispose]()
})

async function apply(endpoints: readonly ('one' | 'two')[] | undefined, annotations: Record<string, string> = {}) {
  const service = exampleService('web', {
    clusterIPs: ['10.96.0.5', 'fd00:96::5'],
    ports: ['dns=53:30053/udp', 'http=80/tcp'],
    annotations,
  })
  const slices = ([4, 6] as const).map((family) =>
    exampleSlice(
      service,
      (endpoints ?? []).map((name) => servers[name][family]),
      { name: `web-${family}`, ports: ['dns=5353/udp', 'http=8080/tcp'] },
    ),
  )
  previous = compileServices(exampleSnapshot(endpoints ? [[service, ...slices]] : []), {
    nodeName: 'this-node',
    settings,
    previous,
  })
  await mode.sync(previous)
  return await connections.follow(previous)
}

test.each([
  { family: 4, to: '10.96.0.5', port: 53, sourcePort: 5001 },
  { family: 4, to: '10.0.0.1', port: 30053, sourcePort: 5002 },
  { family: 6, to: 'fd00:96::5', port: 53, sourcePort: 5003 },
])(
  'a UDP client that keeps its socket follows the Service at $to port $port',
  async ({ family, to, port, sourcePort }) => {
    await apply(['one'])
    await using kept = client.udpClient({ sourcePort })
    expect(await kept.ask(to, port)).toMatchObject({ reply: 'one' })
    const other = await client.connectTcp(family === 4 ? '10.96.0.5' : 'fd00:96::5', 80)
    expect(other).toMatchObject({ reply: 'one' })

    expect((await apply(['two'])).deleted).toMatchObject({ [family]: 1 })
    expect(await kept.ask(to, port)).toMatchObject({ reply: 'two' })

    expect((await apply([])).deleted).toMatchObject({ [family]: 1 })
    expect(await kept.ask(to, port)).toBe('refused')

    await apply(['one', 'two'])
    const { reply } = (await kept.ask(to, port)) as { reply: 'one' | 'two' }
    expect(['one', 'two']).toContain(reply)
    // Another endpoint's coming and going is none of its business.
    expect((await apply([reply])).deleted).toEqual({ 4: 0, 6: 0 })
    expect(await kept.ask(to, port)).toMatchObject({ reply })
    // The Service goes: nobody translates any more.
    expect((await apply(undefined)).deleted).toMatchObject({ [family]: 1 })
  },
)

test('connections to an endpoint that went are counted, go on, and are ended when the Service says so', async () => {
  const annotations = { 'fairlead.dev/drain-seconds': '1' }
  await apply(['one'], annotations)
  await using kept = await client.openTcp('10.96.0.5', 80)
  await apply(['two'], annotations)
  expect(connections.draining.map(({ ip, port }) => `${ip} ${port}`)).toEqual(['10.0.1.2 8080', 'fd00:1::2 8080'])
  expect(await kept.echo('still here')).toBe('ok')
  await vi.waitFor(() => expect(connections.connectionsReset).toBe(1), { timeout: patience(5000) })
  expect(connections.draining).toEqual([])
  expect(await kept.echo('and now?')).toBe('reset')
  expect(await client.connectTcp('10.96.0.5', 80)).toMatchObject({ reply: 'two' })
})
