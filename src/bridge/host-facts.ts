import { isIPv6 } from 'node:net'
import type { Link } from '../rtnetlink/link.ts'
import type { Route } from '../rtnetlink/routes.ts'
import { parseIp } from '../net/ip-address.ts'
import type { BridgeKernel } from './kernel.ts'
import type { HostFacts, HostRoute } from './network.ts'

/** The kernel's own table of this host's addresses (RT_TABLE_LOCAL): not routes to anywhere. */
const localTable = 255

/** Reads what {@link HostFacts} tells of the kernel; the rest is handed in. Throws NetlinkError. */
export async function readHostFacts(
  kernel: BridgeKernel,
  known: Pick<HostFacts, 'machineId' | 'reserved' | 'previous'>,
): Promise<HostFacts> {
  const [links, routes] = await Promise.all([kernel.rtnetlink.links.list(), kernel.rtnetlink.routes.list()])
  const names = new Map(links.map((link) => [link.index, link.name]))
  return {
    ...known,
    routes: routes.filter(isObstacle).map(({ destination, dev }): HostRoute => {
      return { destination, device: dev === undefined ? undefined : names.get(dev) }
    }),
    links,
    uplinkMtu: uplinkOf(links, routes)?.mtu,
    ipv6: kernel.readSysctl('net/ipv6/conf/all/forwarding') !== undefined,
  }
}

/** The link of the host's default route; undefined without one. */
export function uplinkOf(links: readonly Link[], routes: readonly Route[]): Link | undefined {
  const defaults = routes
    .filter(({ destination, type, dev }) => destination.prefix === 0 && type === 'unicast' && dev !== undefined)
    .toSorted((a, b) => a.family - b.family || (a.metric ?? 0) - (b.metric ?? 0))
  return links.find(({ index }) => index === defaults[0]?.dev)
}

const linkLocal = parseIp('fe80::')
const multicast = parseIp('ff00::')

function isObstacle({ table, destination }: Route): boolean {
  if (table === localTable) return false
  // Every IPv6 link has these.
  return !isIPv6(destination.address) || (destination.address !== linkLocal && destination.address !== multicast)
}
