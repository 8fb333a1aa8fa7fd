import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import type { CountedLink } from '../rtnetlink/link-counters.ts'
import type { Links } from '../rtnetlink/links.ts'
import { readEndpointStates } from './endpoint-state.ts'
import type { Lease } from './leases.ts'
import { hostLinkName } from './names.ts'

const lease = (name: string): Lease => ({
  owner: `pod default/${name}`,
  network: 'default',
  ips: [parseIp('172.29.0.2')],
  mac: parseMac('02:00:00:00:00:01'),
  netns: `/run/netns/fl-default.${name}`,
  bootId: 'boot',
})
const none = { packets: 0, bytes: 0, errors: 0, dropped: 0 }
const link = (name: string, more: Partial<CountedLink>): CountedLink =>
  ({ name: hostLinkName(`pod default/${name}`), up: true, carrier: true, counters: undefined, ...more }) as CountedLink

test("readEndpointStates() sees counters from the pod's side, and what is down or missing", async () => {
  const links = [
    link('a', { counters: { received: { ...none, packets: 1 }, sent: { ...none, packets: 2 } } }),
    link('b', { carrier: false }),
    link('c', { up: false }),
  ]
  const rtnetlink = { links: { listCounted: () => Promise.resolve(links) } as Partial<Links> as Links }
  const states = await readEndpointStates(['a', 'b', 'c', 'd'].map(lease), rtnetlink)
  const port = (name: string) => hostLinkName(`pod default/${name}`)
  expect([...states.values()]).toEqual([
    { port: port('a'), state: 'up', received: { ...none, packets: 2 }, sent: { ...none, packets: 1 } },
    { port: port('b'), state: 'down' },
    { port: port('c'), state: 'down' },
    { port: port('d'), state: 'missing' },
  ])
})
