import { formatCidr, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { decodeAttributes, encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { addressFamilyNumbers, AF_INET6, familyFromNumber, routeScopes, scopeFromNumber } from '../netlink/families.ts'
import type { RouteScope } from '../netlink/families.ts'
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from '../netlink/message.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest, NetlinkSocket } from '../netlink/netlink-socket.ts'

/** include/uapi/linux/rtnetlink.h */
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26

/** The main routing table. */
export const RT_TABLE_MAIN = 254
/** Ours among the routing protocol numbers (rtm_protocol), so that our routes can be told from others. */
export const fairleadProtocol = 102
const RTNH_F_ONLINK = 4
/** The answer to a lookup is the FIB's own entry, not what was made of it for this destination. */
const RTM_F_FIB_MATCH = 0x2000

/** enum RTN_* of include/uapi/linux/rtnetlink.h. */
const routeTypes = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const

/** What happens to packets of a route. */
export type RouteType = keyof typeof routeTypes

/** enum RTA_* of include/uapi/linux/rtnetlink.h. */
export const routeAttributes = {
  destination: { id: 1, type: 'ip' },
  outputLink: { id: 4, type: 'u32' },
  gateway: { id: 5, type: 'ip' },
  priority: { id: 6, type: 'u32' },
  preferredSource: { id: 7, type: 'ip' },
  table: { id: 15, type: 'u32' },
} as const satisfies AttributeTable

/** A route of one table. */
export interface Route {
  readonly family: IpFamily
  /** `0.0.0.0/0` or `::/0` for a default route. */
  readonly destination: Cidr
  readonly type: RouteType
  readonly table: number
  /** Index of the link that packets leave by. */
  readonly dev: number | undefined
  readonly via: IpAddress | undefined
  /** The source address that the node's own packets get. */
  readonly src: IpAddress | undefined
  readonly scope: RouteScope
  readonly metric: number | undefined
  /** rtm_protocol: who made it; {@link fairleadProtocol} is ours, 2 the kernel. */
  readonly protocol: number
}

export interface AddRoute {
  readonly destination: Cidr
  /** Default unicast. */
  readonly type?: RouteType
  /** Default {@link RT_TABLE_MAIN}. */
  readonly table?: number
  /** Index of the link. */
  readonly dev?: number
  readonly via?: IpAddress
  readonly src?: IpAddress
  /** Default: link without gateway, host for local routes, else global. */
  readonly scope?: RouteScope
  readonly metric?: number
  /** The gateway counts as a neighbour on `dev` whatever its address. */
  readonly onlink?: boolean
  /** Default {@link fairleadProtocol}. */
  readonly protocol?: number
}

/** What identifies a route to delete; what is left out matches anything. */
export type DeleteRoute = Pick<AddRoute, 'destination' | 'type' | 'table' | 'dev' | 'via' | 'metric' | 'protocol'>

export interface RouteFilter {
  readonly family?: IpFamily
  readonly table?: number
  readonly dev?: number
  readonly protocol?: number
}

/** Builds RTM_NEWROUTE that fails with EEXIST when the table has the destination with that metric. */
export function addRoute(route: AddRoute): NetlinkRequest {
  return routeRequest('add', RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route)
}

/** Builds RTM_NEWROUTE that takes the place of a route with that destination and metric. */
export function replaceRoute(route: AddRoute): NetlinkRequest {
  return routeRequest('replace', RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route)
}

/** Builds RTM_DELROUTE. The kernel answers ESRCH when there is none. */
export function deleteRoute(route: DeleteRoute): NetlinkRequest {
  return routeRequest('delete', RTM_DELROUTE, 0, { protocol: 0, scope: 'nowhere', ...route })
}

/** A dump, filtered by the kernel. */
export function listRoutes(filter: RouteFilter & { family: IpFamily }): NetlinkRequest {
  const header = routeHeader({ family: filter.family, protocol: filter.protocol ?? 0 })
  const attributes = encodeAttributes(routeAttributes, { outputLink: filter.dev, table: filter.table })
  return { name: 'list routes', type: RTM_GETROUTE, payload: Buffer.concat([header, attributes]) }
}

/** Asks which route packets to an address take. */
export function lookupRoute(destination: IpAddress): NetlinkRequest {
  const family = ipFamilyOf(destination)
  const header = routeHeader({ family, prefix: family === 4 ? 32 : 128, flags: RTM_F_FIB_MATCH })
  const attributes = encodeAttributes(routeAttributes, { destination })
  return { name: `find route to ${destination}`, type: RTM_GETROUTE, payload: Buffer.concat([header, attributes]) }
}

/** Reads an RTM_NEWROUTE or RTM_DELROUTE payload; undefined when it is not an IP route. */
export function decodeRoute(payload: Buffer): Route | undefined {
  const family = familyFromNumber(payload[0] ?? 0)
  if (family === undefined) return undefined
  const attributes = decodeAttributes(routeAttributes, payload.subarray(12))
  const type = Object.entries(routeTypes).find(([, number]) => number === payload[7])?.[0] as RouteType | undefined
  if (type === undefined) return undefined
  return {
    family,
    destination: {
      address: attributes.destination ?? parseIp(family === 4 ? '0.0.0.0' : '::'),
      prefix: payload[1] ?? 0,
    },
    type,
    table: attributes.table ?? payload[4] ?? 0,
    dev: attributes.outputLink,
    via: attributes.gateway,
    src: attributes.preferredSource,
    scope: scopeFromNumber(payload[6] ?? 0),
    metric: attributes.priority,
    protocol: payload[5] ?? 0,
  }
}

/** The reverse of {@link decodeRoute}, for fakes: what the kernel would send for a route. */
export function encodeRoute(route: Route): Buffer {
  const header = routeHeader({
    family: route.family,
    prefix: route.destination.prefix,
    table: route.table,
    protocol: route.protocol,
    scope: routeScopes[route.scope],
    type: routeTypes[route.type],
  })
  const attributes = encodeAttributes(routeAttributes, {
    destination: route.destination.prefix === 0 ? undefined : route.destination.address,
    outputLink: route.dev,
    gateway: route.via,
    priority: route.metric,
    preferredSource: route.src,
    table: route.table,
  })
  return Buffer.concat([header, attributes])
}

/** Routes of one namespace. Throws NetlinkError. */
export class Routes {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  /** Without a family, both. A table that does not exist is empty. */
  async list(filter: RouteFilter = {}): Promise<Route[]> {
    const families: IpFamily[] = filter.family === undefined ? [4, 6] : [filter.family]
    const lists = await Promise.all(families.map((family) => this.#listFamily({ ...filter, family })))
    return lists.flat()
  }

  /** Throws NetlinkError EEXIST when the table has the destination with that metric. */
  async add(route: AddRoute): Promise<void> {
    await this.#socket.request(addRoute(route))
  }

  async replace(route: AddRoute): Promise<void> {
    await this.#socket.request(replaceRoute(route))
  }

  /** Throws NetlinkError ESRCH when there is none. */
  async delete(route: DeleteRoute): Promise<void> {
    await this.#socket.request(deleteRoute(route))
  }

  /** The route that the node's own packets to an address would take; undefined when there is none. */
  async lookup(destination: IpAddress): Promise<Route | undefined> {
    try {
      const [message] = await this.#socket.request(lookupRoute(destination))
      return message && decodeRoute(message.payload)
    } catch (error) {
      // Unreachable, blackhole and prohibit routes answer with the error that a packet would get, too.
      if (isNetlinkError(error, 'ENETUNREACH') || isNetlinkError(error, 'EHOSTUNREACH')) return undefined
      throw error
    }
  }

  async #listFamily(filter: RouteFilter & { family: IpFamily }): Promise<Route[]> {
    let messages
    try {
      messages = await this.#socket.dump(listRoutes(filter))
    } catch (error) {
      // "FIB table does not exist" (net/ipv4/fib_frontend.c, net/ipv6/ip6_fib.c)
      if (filter.table !== undefined && isNetlinkError(error, 'ENOENT')) return []
      throw error
    }
    return messages
      .filter(({ type }) => type === RTM_NEWROUTE)
      .map(({ payload }) => decodeRoute(payload))
      .filter((route) => route !== undefined)
      .filter(
        (route) =>
          (filter.table === undefined || route.table === filter.table) &&
          (filter.dev === undefined || route.dev === filter.dev) &&
          (filter.protocol === undefined || route.protocol === filter.protocol),
      )
  }
}

function routeRequest(verb: string, type: number, flags: number, route: AddRoute): NetlinkRequest {
  const network = networkOf(route.destination)
  const family = ipFamilyOf(network.address)
  const routeType = route.type ?? 'unicast'
  const table = route.table ?? RT_TABLE_MAIN
  const header = routeHeader({
    family,
    prefix: network.prefix,
    table,
    protocol: route.protocol ?? fairleadProtocol,
    scope: routeScopes[route.scope ?? defaultScope(routeType, route.via, family)],
    // A deletion without a type matches all of them (RTN_UNSPEC).
    type: type === RTM_DELROUTE && route.type === undefined ? 0 : routeTypes[routeType],
    flags: route.onlink === true ? RTNH_F_ONLINK : 0,
  })
  const attributes = encodeAttributes(routeAttributes, {
    destination: network.prefix === 0 ? undefined : network.address,
    outputLink: route.dev,
    gateway: route.via,
    priority: route.metric,
    preferredSource: route.src,
    table,
  })
  const via = route.via === undefined ? '' : ` via ${route.via}`
  const dev = route.dev === undefined ? '' : ` dev ${route.dev}`
  return {
    name: `${verb} route ${routeType === 'unicast' ? '' : `${routeType} `}${formatCidr(network)}${via}${dev}`,
    type,
    flags,
    payload: Buffer.concat([header, attributes]),
  }
}

/** As ip-route(8) chooses it. The kernel refuses a gateway that is not nearer than its route. */
function defaultScope(type: RouteType, via: IpAddress | undefined, family: IpFamily): RouteScope {
  if (addressFamilyNumbers[family] === AF_INET6) return 'global'
  if (type === 'local') return 'host'
  if (type === 'unicast') return via === undefined ? 'link' : 'global'
  return type === 'broadcast' || type === 'anycast' || type === 'multicast' ? 'link' : 'global'
}

/** struct rtmsg */
function routeHeader(fields: {
  family: IpFamily
  prefix?: number
  table?: number
  protocol?: number
  scope?: number
  type?: number
  flags?: number
}): Buffer {
  const header = Buffer.alloc(12)
  header[0] = addressFamilyNumbers[fields.family]
  header[1] = fields.prefix ?? 0
  // Numbers over 8 bits stand in RTA_TABLE only.
  header[4] = (fields.table ?? 0) > 255 ? 252 : (fields.table ?? 0)
  header[5] = fields.protocol ?? 0
  header[6] = fields.scope ?? 0
  header[7] = fields.type ?? 0
  header.writeUInt32LE(fields.flags ?? 0, 8)
  return header
}
