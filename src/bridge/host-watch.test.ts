import { setImmediate } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { FakeRtnetlink } from '../rtnetlink/fake-rtnetlink.ts'
import { createVeth, setLink, type NetnsHandle } from '../rtnetlink/link-requests.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { watchHost } from './host-watch.ts'
import { linkGroup } from './names.ts'
import type { BridgePlan, PortPlan } from './plan.ts'

const bridge: BridgePlan = {
  name: 'fl0',
  network: 'default',
  alias: 'fairlead network default',
  mac: parseMac('02:00:00:00:00:01'),
  mtu: 1500,
  addresses: [parseCidr('10.7.0.1/24')],
  routes: [{ destination: parseCidr('10.7.0.0/24'), src: parseIp('10.7.0.1') }],
  sysctls: [],
}
const port: PortPlan = {
  port: 'flv1',
  alias: 'fairlead pod default/a',
  bridge: 'fl0',
  mtu: 1500,
  options: { hairpin: true, isolated: false },
}

let kernel: FakeRtnetlink
let host: NetnsHandle
let pod: NetnsHandle
let rtnetlink: Rtnetlink
let bridges: BridgePlan[]
let ports: PortPlan[]
let busy: Set<string>
let heard: string[]

/** What was heard since, once all notifications are in. */
async function settled(): Promise<readonly string[]> {
  for (let turn = 0; turn < 10; turn++) await setImmediate()
  return [...new Set(heard.splice(0))]
}

/** As create-endpoints.ts does it, in one datagram, whose first steps leave it half made. */
async function makePort(name = port.port): Promise<number> {
  const master = (await rtnetlink.links.get('fl0')).index
  await rtnetlink.run([
    createVeth({ name, master, group: linkGroup, peer: { name: 'eth0', netns: pod } }),
    setLink(name, { alias: port.alias }),
    setLink(name, { hairpin: true }),
  ])
  return (await rtnetlink.links.get(name)).index
}

beforeEach(async () => {
  kernel = new FakeRtnetlink()
  host = kernel.createNetns('host')
  pod = kernel.createNetns('pod')
  rtnetlink = kernel.open(host)
  bridges = [bridge]
  ports = []
  busy = new Set()
  heard = []
  const { name, alias, mac } = bridge
  const { index } = await rtnetlink.links.createBridge({ name, alias, mac, group: linkGroup })
  await rtnetlink.addresses.add({ link: index, address: bridge.addresses[0]! })
  watchHost(rtnetlink, {
    log: silentLog,
    bridge: (name) => bridges.find((one) => one.name === name),
    port: (name) => ports.find((one) => one.port === name),
    isBusy: (name) => busy.has(name),
    onChange: () => heard.push('change'),
    onUplink: () => heard.push('uplink'),
    onGone: (index) => heard.push(`gone ${index}`),
  })
  expect(await settled()).toEqual(['change', 'uplink'])
})

describe('watchHost', () => {
  test('a port that is being made is no change, and none afterwards', async () => {
    ports.push(port)
    busy.add(port.port)
    await makePort()
    busy.clear()
    expect(await settled()).toEqual([])
  })

  test('a port whose notifications are late, so that the first ones tell of it half made, is no change', async () => {
    ports.push(port)
    await makePort()
    expect(await settled()).toEqual([])
  })

  test('a port that stays half made is a change', async () => {
    ports.push({ ...port, alias: 'fairlead pod default/other' })
    await makePort()
    expect(await settled()).toEqual(['change'])
  })

  test('a port of ours that nobody wants is a change', async () => {
    await makePort('flv2')
    expect(await settled()).toEqual(['change'])
  })

  test('a port that goes and is not wanted any more is gone, and no change', async () => {
    ports.push(port)
    const index = await makePort()
    await settled()
    ports = []
    await rtnetlink.links.delete(index)
    expect(await settled()).toEqual([`gone ${index}`])
  })

  test('a port that goes and is wanted is a change', async () => {
    ports.push(port)
    const index = await makePort()
    await settled()
    await rtnetlink.links.delete(index)
    expect(await settled()).toEqual([`gone ${index}`, 'change'])
  })

  test.each<[string, (index: number) => Promise<void>]>([
    ['is switched off', (index) => rtnetlink.links.set(index, { up: false })],
    ['has another MTU', (index) => rtnetlink.links.set(index, { mtu: 1400 })],
    ['has another alias', (index) => rtnetlink.links.set(index, { alias: 'mine' })],
    ['has another name', (index) => rtnetlink.links.set(index, { up: false, name: 'mine' })],
    ['leaves its bridge', (index) => rtnetlink.links.set(index, { master: 0 })],
  ])('a port that %s is a change', async (_, act) => {
    ports.push(port)
    const index = await makePort()
    expect(await settled()).toEqual([])
    await act(index)
    expect(await settled()).toContain('change')
  })

  test.each<[string, boolean, (index: number) => Promise<void>]>([
    ['loses its address', true, (index) => rtnetlink.addresses.delete(index, bridge.addresses[0]!)],
    ['gets another address', true, (link) => rtnetlink.addresses.add({ link, address: parseCidr('10.8.0.1/24') })],
    ['gets a link-local one', false, (link) => rtnetlink.addresses.add({ link, address: parseCidr('fe80::1/64') })],
    ['has another MAC', true, (index) => rtnetlink.links.set(index, { mac: parseMac('02:00:00:00:00:09') })],
    ['is told what it is', false, (index) => rtnetlink.links.set(index, { alias: bridge.alias })],
    ['goes', true, (index) => rtnetlink.links.delete(index)],
  ])('a bridge that %s: a change is %s', async (_, isChange, act) => {
    await act((await rtnetlink.links.get('fl0')).index)
    expect((await settled()).includes('change')).toBe(isChange)
  })

  test('a bridge that goes with its network is no change', async () => {
    bridges = []
    await rtnetlink.links.delete('fl0')
    expect(await settled()).not.toContain('change')
  })

  test('a link of others may be the uplink', async () => {
    await rtnetlink.links.createBridge({ name: 'br0', mac: parseMac('02:00:00:00:00:05') })
    expect(await settled()).toEqual(['uplink'])
  })

  test('lost notifications are a reason to look at everything', async () => {
    kernel.overrun()
    expect(await settled()).toEqual(['change', 'uplink'])
  })
})
