import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { fairleadProtocol, type Route } from '../rtnetlink/routes.ts'
import type { NearbyEvent, Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import type { BridgeKernel } from './kernel.ts'
import type { EndpointPlan } from './plan.ts'
import { PodWatch } from './pod-watch.ts'

function endpoint(name: string, number: number): EndpointPlan {
  const gateway = parseIp('10.7.0.1')
  return {
    port: `flv${name}`,
    alias: `fairlead pod default/${name}`,
    bridge: 'fl0',
    netns: `/run/netns/${name}`,
    link: 'eth0',
    options: { hairpin: true, isolated: false },
    mac: macOf(number),
    mtu: 1500,
    addresses: [parseCidr(`10.7.0.${number}/32`), parseCidr(`fd00:7::${number}/128`)],
    routes: [{ destination: parseCidr('10.7.0.1/32') }, { destination: parseCidr('0.0.0.0/0'), via: gateway }],
  }
}

const macOf = (number: number) => parseMac(`02:00:00:00:00:0${number}`)
const endpoints = [endpoint('a', 2), endpoint('b', 3)]

/** Which pods are looked into after these events. */
async function lookedInto(events: readonly NearbyEvent[], busy: readonly string[] = []): Promise<string[]> {
  const clock = new FakeClock()
  const looks: string[] = []
  let tell: (event: NearbyEvent) => void = () => {}
  const kernel = {
    rtnetlink: {
      watchNearby(onEvent: typeof tell) {
        tell = onEvent
        return { [Symbol.dispose]() {} }
      },
    } as unknown as Rtnetlink,
    openNamespace(path: string) {
      looks.push(path.slice('/run/netns/'.length))
      throw new Error('gone')
    },
  } as unknown as BridgeKernel
  await using _watch = new PodWatch({
    kernel,
    // Each is asked for once more when it could not be looked into: then it is wanted no more.
    endpoints: () => endpoints.filter(({ netns }) => !looks.includes(netns.slice('/run/netns/'.length))),
    isBusy: (port) => busy.includes(port),
    isUsualMtu: (mtu) => mtu === 1500,
    onRepair: () => {},
    log: silentLog,
    clock,
  })
  for (const event of events) tell(event)
  await clock.advance(1000)
  return looks
}

const link = (number: number, up: boolean, mtu = 1500) =>
  ({ what: 'link', link: { kind: 'veth', mac: macOf(number), up, mtu } }) as NearbyEvent
const addressGone = (ip: string) => ({ what: 'address gone', address: { address: parseCidr(ip) } }) as NearbyEvent
const routeGone = (destination: string, options: { via?: string; asked?: boolean } = {}): NearbyEvent => {
  const { via, asked = true } = options
  const family = destination.includes(':') ? 6 : 4
  const fields = { family, type: 'unicast', destination: parseCidr(destination), via: via && parseIp(via) }
  const route = fields as Partial<Route> as Route
  return { what: 'route gone', route, asked }
}
const ruleGone = (ip: string, protocol: number) =>
  ({ what: 'rule gone', rule: { source: parseCidr(ip), protocol } }) as NearbyEvent

describe('PodWatch', () => {
  test.each<[string, readonly NearbyEvent[], string[]]>([
    ['the pod whose address went', [addressGone('10.7.0.2/32')], ['a']],
    ['nobody for an address of others', [addressGone('192.0.2.1/24')], []],
    ['the pod whose link is down', [link(3, false)], ['b']],
    ['nobody for a link that is being made', [link(3, false), link(3, true)], []],
    ['the pod whose MTU is another one', [link(2, true, 1300)], ['a']],
    ['nobody when that was set back', [link(2, true, 1300), link(2, true)], []],
    ['all pods of a gateway', [routeGone('0.0.0.0/0', { via: '10.7.0.1' })], ['a', 'b']],
    ['all pods of a gateway whose own route went', [routeGone('10.7.0.1/32')], ['a', 'b']],
    ['nobody for routes of others', [routeGone('0.0.0.0/0', { via: '192.0.2.1' })], []],
    ['nobody for routes that went with a link', [routeGone('::/0', { via: 'fd00:7::1', asked: false })], []],
    ['the pod whose rule went', [ruleGone('10.7.0.3/32', fairleadProtocol)], ['b']],
    ['nobody for rules of others', [ruleGone('10.7.0.3/32', 4)], []],
  ])('looks into %s', async (_, events, expected) => {
    expect(await lookedInto(events)).toEqual(expected)
  })

  test('leaves alone what is being made or removed', async () => {
    expect(await lookedInto([routeGone('10.7.0.1/32')], ['flva'])).toEqual(['b'])
  })
})
