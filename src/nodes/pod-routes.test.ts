import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import type { Node } from '../model/node.ts'
import { formatCidr, parseCidr, parseNetwork } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { FakeRtnetlink } from '../rtnetlink/fake-rtnetlink.ts'
import { createBridge } from '../rtnetlink/link-requests.ts'
import type { RoutePlan } from './plan-pod-routes.ts'
import { PodRoutes, podRouteProtocol, removePodRoutes } from './pod-routes.ts'

const node = (name: string, last: number): Node => ({
  name,
  labels: {},
  addresses: [parseIp(`192.168.56.${last}`)],
  podCIDRs: [parseNetwork(`10.1.${last}.0/24`)],
})

test('PodRoutes are written, put back, taken away, and found without any state', async () => {
  const kernel = new FakeRtnetlink()
  const host = kernel.createNetns('host')
  using rtnetlink = kernel.open(host)
  await rtnetlink.run([createBridge({ name: 'lan0', mac: parseMac('02:00:00:00:00:01'), up: true })])
  const { index } = await rtnetlink.links.get('lan0')
  await rtnetlink.addresses.add({ link: index, address: parseCidr('192.168.56.1/24') })
  // Of an earlier daemon, to a node that is gone.
  const old = { dev: index, via: parseIp('192.168.56.9'), protocol: podRouteProtocol }
  await rtnetlink.routes.add({ destination: parseNetwork('10.1.9.0/24'), ...old })
  const present = async (): Promise<string[]> =>
    (await rtnetlink.routes.list({ protocol: podRouteProtocol })).map(
      ({ destination, via }) => `${formatCidr(destination)} via ${via}`,
    )

  const clock = new FakeClock()
  const soon = async (routes: string[]): Promise<void> =>
    await expect
      .poll(async () => {
        await clock.advance(100)
        return (await present()).sort()
      })
      .toEqual(routes)
  const plans: RoutePlan[] = []
  let nodes = [node('self', 1)]
  await using routes = new PodRoutes({
    rtnetlink,
    facts: () => ({ self: 'self', nodes: nodes.values(), own: [], reserved: [], clusterCIDRs: [] }),
    isOwnLink: (name) => name === 'fl0',
    enabled: true,
    onPlan: async (plan) => void plans.push(plan),
    clock,
    log: silentLog,
  })
  routes.follow()
  expect(await present()).toEqual(['10.1.9.0/24 via 192.168.56.9'])
  routes.update()
  await soon([])
  nodes = [node('self', 1), node('b', 2), node('c', 3)]
  routes.update()
  await soon(['10.1.2.0/24 via 192.168.56.2', '10.1.3.0/24 via 192.168.56.3'])
  expect(plans.map(({ pods }) => pods.length)).toEqual([0, 2])

  await rtnetlink.routes.delete({ destination: parseNetwork('10.1.2.0/24') })
  await soon(['10.1.2.0/24 via 192.168.56.2', '10.1.3.0/24 via 192.168.56.3'])
  expect(routes.repairs).toBe(1)

  nodes = [node('self', 1), node('c', 3)]
  routes.update()
  await soon(['10.1.3.0/24 via 192.168.56.3'])
  expect(plans.at(-1)?.pods.map(formatCidr)).toEqual(['10.1.3.0/24'])

  expect(await removePodRoutes(rtnetlink)).toEqual(['route to 10.1.3.0/24 via 192.168.56.3'])
  expect(await present()).toEqual([])
})
