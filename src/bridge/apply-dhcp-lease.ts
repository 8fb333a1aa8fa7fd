import type { DhcpLease } from '../dhcp/lease.ts'
import { anyAddress } from '../dhcp/message.ts'
import { cidrContains, formatCidr, type Cidr } from '../net/cidr.ts'
import { deleteAddress, addAddress } from '../rtnetlink/addresses.ts'
import { setLink } from '../rtnetlink/link-requests.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { deleteRoute, type AddRoute } from '../rtnetlink/routes.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'

/** RTPROT_DHCP of include/uapi/linux/rtnetlink.h: by it, the routes of a lease are known again. */
const dhcpProtocol = 16

const everywhere: Cidr = { address: anyAddress, prefix: 0 }

/** The routes that a lease brings, besides the one of its network, which the kernel makes; those without gateway come first. Pure. */
export function routesOfLease(lease: DhcpLease): Omit<AddRoute, 'dev'>[] {
  const [router] = lease.routers
  const routes = router === undefined ? lease.routes : [...lease.routes, { destination: everywhere, gateway: router }]
  return routes
    .toSorted((a, b) => Number(b.gateway === anyAddress) - Number(a.gateway === anyAddress))
    .map(({ destination, gateway }) => ({
      destination,
      src: lease.address.address,
      protocol: dhcpProtocol,
      // Some networks give single addresses, with the router outside of them.
      ...(gateway !== anyAddress && { via: gateway, onlink: !cidrContains(lease.address, gateway) }),
    }))
}

/**
 * Makes a link's IPv4 addresses, its DHCP routes and its MTU what a lease says; without a lease, it has no addresses.
 * Doing it again changes nothing. Throws NetlinkError (ENODEV when the link is gone).
 */
export async function applyDhcpLease(
  rtnetlink: Rtnetlink,
  {
    link: name,
    lease,
    leadsOut = true,
  }: {
    readonly link: string
    readonly lease: DhcpLease | undefined
    /** Whether its default route is wanted. @default true */
    readonly leadsOut?: boolean
  },
): Promise<void> {
  const { index: link, mtu } = await rtnetlink.links.get(name)
  const present = await rtnetlink.addresses.list({ link, family: 4 })
  const wanted = lease && formatCidr(lease.address)
  const isThere = present.some(({ address }) => formatCidr(address) === wanted)
  await rtnetlink.run([
    ...(lease && !isThere ? [addAddress({ link, address: lease.address })] : []),
    ...present
      .filter(({ address }) => formatCidr(address) !== wanted)
      .map(({ address }) => deleteAddress(link, address)),
  ])
  if (lease?.mtu !== undefined && lease.mtu !== mtu) await setMtu(rtnetlink, { link, mtu: lease.mtu })
  const routes = lease ? routesOfLease(lease).filter(({ destination }) => leadsOut || destination.prefix > 0) : []
  for (const route of routes) await rtnetlink.routes.replace({ ...route, dev: link })
  const kept = new Set(routes.map(({ destination }) => formatCidr(destination)))
  const ours = await rtnetlink.routes.list({ family: 4, dev: link, protocol: dhcpProtocol })
  await rtnetlink.run(
    ours
      .filter(({ destination, protocol }) => protocol === dhcpProtocol && !kept.has(formatCidr(destination)))
      .map(({ destination }) => deleteRoute({ destination, dev: link, protocol: dhcpProtocol })),
  )
}

/** A LAN's MTU that the parent link does not have is the parent's matter: the kernel refuses it, and packets fit anyway. */
async function setMtu(rtnetlink: Rtnetlink, { link, mtu }: { link: number; mtu: number }): Promise<void> {
  try {
    await rtnetlink.run([setLink(link, { mtu })])
  } catch (error) {
    if (!isNetlinkError(error, 'EINVAL')) throw error
  }
}
