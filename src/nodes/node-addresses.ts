import { ipFamilies, type IpAddress } from '../net/ip-address.ts'
import { RT_TABLE_MAIN } from '../rtnetlink/routes.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'

/**
 * Where other machines probably reach this one: for each family the source address of the default route, or the first
 * address of its link, as a kubelet finds it. Links of ours do not count. Throws NetlinkError.
 */
export async function findNodeAddresses(
  rtnetlink: Rtnetlink,
  isOwnLink: (name: string) => boolean,
): Promise<readonly IpAddress[]> {
  const [links, addresses, routes] = await Promise.all([
    rtnetlink.links.list(),
    rtnetlink.addresses.list(),
    rtnetlink.routes.list({ table: RT_TABLE_MAIN }),
  ])
  const usable = new Set(
    links.filter(({ name, loopback, up }) => up && !loopback && !isOwnLink(name)).map(({ index }) => index),
  )
  const global = addresses.filter(({ link, scope }) => usable.has(link) && scope === 'global')
  return ipFamilies.flatMap((family) => {
    const defaults = routes
      .filter((route) => route.family === family && route.destination.prefix === 0 && route.type === 'unicast')
      .sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))
    const ofFamily = global.filter(({ address }) => address.address.includes(':') === (family === 6))
    for (const { src, dev } of defaults) {
      const found = src ?? ofFamily.find(({ link }) => link === dev)?.address.address
      if (found !== undefined) return [found]
    }
    // A machine without a way out still has neighbours.
    return ofFamily.slice(0, 1).map(({ address }) => address.address)
  })
}
