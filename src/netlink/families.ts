import type { IpFamily } from '../net/ip-address.ts'

/** include/linux/socket.h */
export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_INET6 = 10
export const AF_NETLINK = 16

/** The kernel's address family number of an IP version. */
export const addressFamilyNumbers = { 4: AF_INET, 6: AF_INET6 } as const satisfies Record<IpFamily, number>

/** Undefined for families other than IP. */
export function familyFromNumber(number: number): IpFamily | undefined {
  if (number === AF_INET) return 4
  return number === AF_INET6 ? 6 : undefined
}

/** enum rt_scope_t of include/uapi/linux/rtnetlink.h. */
export const routeScopes = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const

/** How far an address or a route's next hop reaches. */
export type RouteScope = keyof typeof routeScopes

/** Numbers without a name here, which only a hand-made configuration has, read as global. */
export function scopeFromNumber(number: number): RouteScope {
  const found = Object.entries(routeScopes).find(([, value]) => value === number)
  return (found?.[0] as RouteScope | undefined) ?? 'global'
}
