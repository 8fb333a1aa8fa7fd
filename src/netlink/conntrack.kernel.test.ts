import { afterAll, beforeAll, expect, test } from 'vitest'
import { createLab, type Lab } from '../../test/lab/lab.ts'
import type { Host } from '../../test/lab/host.ts'
import { parseIp } from '../net/ip-address.ts'
import { listConnections, openConntrack } from './conntrack.ts'
import { openNetlink } from './netlink-socket.ts'

const NETLINK_NETFILTER = 12

let lab: Lab
let one: Host
let two: Host
beforeAll(async () => {
  lab = createLab()
  one = await lab.host('one')
  two = await lab.host('two')
  await lab.link(one, two, { a: ['192.0.2.1/24', 'fd00::1/64'], b: ['192.0.2.2/24', 'fd00::2/64'] })
  // Connections are only followed where a rule asks for them.
  const ruleset = 'table inet t {\n chain c {\n type filter hook output priority 0\n ct state invalid drop\n }\n}\n'
  await two.exec(['nft', ruleset])
})
afterAll(() => lab[Symbol.asyncDispose]())

test.each([
  { family: 4, from: '192.0.2.1', to: '192.0.2.2' },
  { family: 6, from: 'fd00::1', to: 'fd00::2' },
] as const)('openConntrack() lists and deletes IPv$family connections, which the kernel chooses', async (way) => {
  const { family, from, to } = way
  using conntrack = openConntrack({ netns: two.netns })
  await using _a = await two.listenUdp(53, { address: to })
  await using _b = await two.listenTcp(80, { address: to })
  await one.connectUdp(to, 53, { sourcePort: 5000 })
  await one.connectUdp(to, 53, { sourcePort: 5001 })
  await one.connectTcp(to, 80, { sourcePort: 5002 })
  expect(await conntrack.list({ family })).toHaveLength(3)
  const dns = { family, original: { protocol: 17, destinationPort: 53 } }
  const found = await conntrack.list(dns)
  expect(new Set(found.map(({ original }) => original.sourcePort))).toEqual(new Set([5000, 5001]))
  expect(found[0]).toMatchObject({ original: { source: from, destination: to }, reply: { source: to, sourcePort: 53 } })
  using socket = openNetlink({ protocol: NETLINK_NETFILTER, netns: two.netns })
  expect(await socket.dump(listConnections(dns))).toHaveLength(2)
  const stranger = { family, reply: { source: parseIp(from) } }
  expect(await conntrack.list(stranger)).toEqual([])
  if (family === 4) expect(await socket.dump(listConnections(stranger))).toEqual([])
  expect(await conntrack.list({ family, reply: { source: parseIp(to) } })).toHaveLength(3)
  await conntrack.delete(found)
  expect((await conntrack.list({ family })).map(({ original }) => original.destinationPort)).toEqual([80])
  // Once more: they are gone, and that is no error.
  await conntrack.delete(found)
})
