import { afterAll, beforeAll, expect, test } from 'vitest'
import { createLab } from '../../test/lab/lab.ts'
import { patience } from '../../test/lab/patience.ts'
import type { Host } from '../../test/lab/host.ts'
import { parseIp } from '../net/ip-address.ts'
import { diffTable } from '../nftables/diff.ts'
import { openNftables } from '../nftables/open-client.ts'
import { compileServices, defaultProxySettings } from '../proxy/compile-services.ts'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { ipvsTable } from './ipvs-table.ts'
import { compileIpvs } from './ipvs-wanted.ts'

/** The table alone, as it is in the moment before virtual servers are there, and where somebody took them away. No IPVS is needed. */
const vips = ['10.96.0.5', 'fd00:96::5']
const lab = createLab()
let node: Host
let neighbour: Host

beforeAll(async () => {
  node = await lab.host('node')
  neighbour = await lab.host('neighbour')
  await lab.link(node, neighbour, {
    aName: 'eth0',
    bName: 'eth0',
    a: ['192.0.2.1/24', '2001:db8::1/64'],
    b: ['192.0.2.2/24', '2001:db8::2/64'],
  })
  for (const vip of vips) await node.exec(['ip', 'address', 'add', vip, 'dev', 'lo'])
  await neighbour.exec(['ip', 'route', 'add', `${vips[0]}/32`, 'via', '192.0.2.1'])
  await neighbour.exec(['ip', 'route', 'add', `${vips[1]}/128`, 'via', '2001:db8::1'])
  const service = exampleService('web', { clusterIPs: vips, ports: ['http=80/tcp', 'dns=53/udp'] })
  const slices = [['10.0.0.1'], ['fd00::1']].map((addresses, i) =>
    exampleSlice(service, addresses, { name: `web-${i}`, ports: ['http=8080/tcp', 'dns=5353/udp'] }),
  )
  const services = compileServices(exampleSnapshot([[service, ...slices]]), {
    nodeName: 'this-node',
    settings: defaultProxySettings,
  })
  const { table } = compileIpvs(services, {
    others: new Set([parseIp('192.0.2.1')]),
    scheduler: 'rr',
    table: undefined,
  })
  using nft = openNftables({ netns: node.netns })
  await nft.run({ family: 'inet', table: ipvsTable, changes: diffTable(undefined, table) })
}, patience(20_000))

afterAll(() => lab[Symbol.asyncDispose]())

test.each(vips)('the table keeps ports of the node itself from answering at %s', async (vip) => {
  await using _tcp = await node.listenTcp(80, { reply: 'node itself' })
  await using _udp = await node.listenUdp(53, { reply: 'node itself' })
  for (const client of [neighbour, node]) {
    expect(await client.connectTcp(vip, 80, { timeout: 2500 })).toBe('refused')
    expect(await client.connectUdp(vip, 53, { timeout: 2500 })).toBe('refused')
    expect(await client.connectTcp(vip, 22, { timeout: 2500 })).toBe('refused')
  }
})

test('the table resets TCP where it refuses after IPVS', async () => {
  const { stdout } = await node.exec(['nft', 'list', 'chain', 'inet', ipvsTable, 'unserved'])
  expect(stdout.match(/reject.*$/gm)).toEqual(['reject with tcp reset', 'reject', 'reject with tcp reset', 'reject'])
})
