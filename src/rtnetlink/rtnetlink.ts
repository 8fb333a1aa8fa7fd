import type { Netns } from '../linux/netns.ts'
import { Addresses, decodeAddress, RTM_DELADDR, RTM_NEWADDR, type LinkAddress } from './addresses.ts'
import { AF_UNSPEC } from '../netlink/families.ts'
import { decodeLink, RTM_DELLINK, RTM_NEWLINK, type Link } from './link.ts'
import { getLink } from './link-requests.ts'
import { Links } from './links.ts'
import { NETLINK_ROUTE, type NetlinkMessage } from '../netlink/message.ts'
import { Neighbours } from './neighbours.ts'
import { nearbyFilter } from './nearby-filter.ts'
import { openNetlink, type NetlinkRequest, type NetlinkSocket } from '../netlink/netlink-socket.ts'
import { decodeRoute, Routes, RTM_DELROUTE, RTM_NEWROUTE, type Route } from './routes.ts'
import { decodeRule, RTM_DELRULE, Rules, type RoutingRule } from './rules.ts'
import { runAll, runEach } from '../netlink/run-all.ts'
import type { TransportOptions } from '../netlink/transport.ts'

/** enum rtnetlink_groups of include/uapi/linux/rtnetlink.h. */
const groups = {
  link: 1,
  ipv4Address: 5,
  ipv4Route: 7,
  ipv4Rule: 8,
  ipv6Address: 9,
  ipv6Route: 11,
  ipv6Rule: 19,
} as const

/** `set` is said of new things and of changed ones; the kernel does not tell them apart. */
export type LinkEvent = { readonly kind: 'set' | 'deleted'; readonly link: Link }
export type AddressEvent = { readonly kind: 'set' | 'deleted'; readonly address: LinkAddress }
export type RouteEvent = { readonly kind: 'set' | 'deleted'; readonly route: Route }

/**
 * What was taken away, or set about a link, in some namespace. `asked`: by a program, and not by the kernel because something
 * else went (the kernel says so of IPv6 only).
 */
export type NearbyEvent =
  | { readonly what: 'link'; readonly link: Link }
  | { readonly what: 'address gone'; readonly address: LinkAddress }
  | { readonly what: 'route gone'; readonly route: Route; readonly asked: boolean }
  | { readonly what: 'rule gone'; readonly rule: RoutingRule }

/**
 * Called when the kernel had to drop notifications: what was followed may have changed in any way, so read it all again.
 */
export type OnLost = (error: Error) => void

/** Links, addresses, routes, routing rules and neighbours of one network namespace, over NETLINK_ROUTE. */
export class Rtnetlink implements Disposable {
  readonly links: Links
  readonly addresses: Addresses
  readonly routes: Routes
  readonly neighbours: Neighbours
  readonly rules: Rules
  readonly #socket: NetlinkSocket
  readonly #openSocket: OpenSocket
  #events: NetlinkSocket | undefined

  /** Use {@link openRtnetlink}; tests hand in sockets to a fake kernel. */
  constructor(openSocket: OpenSocket) {
    this.#openSocket = openSocket
    this.#socket = openSocket()
    this.links = new Links(this.#socket)
    this.addresses = new Addresses(this.#socket)
    this.routes = new Routes(this.#socket)
    this.neighbours = new Neighbours(this.#socket)
    this.rules = new Rules(this.#socket)
  }

  /**
   * Runs requests of the builder functions (`createVeth(...)`, `addRoute(...)`) in one datagram. All are tried; throws
   * the one error, or NetlinkRequestsError with all of them.
   */
  async run(requests: readonly NetlinkRequest[]): Promise<NetlinkMessage[][]> {
    return await runAll(this.#socket, requests)
  }

  /** As {@link run}, with each request's answer or its own error, in order. */
  async runEach(requests: readonly NetlinkRequest[]): Promise<(NetlinkMessage[] | Error)[]> {
    return await runEach(this.#socket, requests)
  }

  /** Follows links from now on, until this object is disposed. */
  watchLinks(onEvent: (event: LinkEvent) => void, onLost: OnLost): void {
    this.#watch([groups.link], onLost, ({ type, payload }) => {
      // A bridge reports its ports in this group too (family AF_BRIDGE): a port that leaves is no link that goes.
      if (payload[0] !== AF_UNSPEC) return
      if (type === RTM_NEWLINK) onEvent({ kind: 'set', link: decodeLink(payload) })
      else if (type === RTM_DELLINK) onEvent({ kind: 'deleted', link: decodeLink(payload) })
    })
  }

  /** Follows the addresses of links, of both families. */
  watchAddresses(onEvent: (event: AddressEvent) => void, onLost: OnLost): void {
    this.#watch([groups.ipv4Address, groups.ipv6Address], onLost, ({ type, payload }) => {
      if (type === RTM_NEWADDR) onEvent({ kind: 'set', address: decodeAddress(payload) })
      else if (type === RTM_DELADDR) onEvent({ kind: 'deleted', address: decodeAddress(payload) })
    })
  }

  /**
   * Follows routes of all tables and both families. The kernel says nothing of the IPv4 routes that it drops when a
   * link goes down or away: follow links too.
   */
  watchRoutes(onEvent: (event: RouteEvent) => void, onLost: OnLost): void {
    this.#watch([groups.ipv4Route, groups.ipv6Route], onLost, ({ type, payload }) => {
      if (type !== RTM_NEWROUTE && type !== RTM_DELROUTE) return
      const route = decodeRoute(payload)
      if (route) onEvent({ kind: type === RTM_NEWROUTE ? 'set' : 'deleted', route })
    })
  }

  /**
   * Follows what goes, and links, in this namespace and in all others that veth pairs lead to from here. Nothing says which one
   * it was: the addresses must. Dispose what it returns to hear no more.
   */
  watchNearby(onEvent: (event: NearbyEvent) => void, onLost: OnLost): Disposable {
    const socket = this.#openSocket({ everyNamespace: true, filter: nearbyFilter })
    join(socket, Object.values(groups), {
      onLost,
      onMessage({ type, payload, port }) {
        if (type === RTM_NEWLINK && payload[0] === AF_UNSPEC) onEvent({ what: 'link', link: decodeLink(payload) })
        else if (type === RTM_DELADDR) onEvent({ what: 'address gone', address: decodeAddress(payload) })
        else if (type === RTM_DELROUTE) {
          const route = decodeRoute(payload)
          if (route) onEvent({ what: 'route gone', route, asked: port !== 0 })
        } else if (type === RTM_DELRULE) {
          const rule = decodeRule(payload)
          if (rule) onEvent({ what: 'rule gone', rule })
        }
      },
    })
    return socket
  }

  /** Resolves when the listeners have heard of everything that happened before. Throws NetlinkError. */
  async notified(): Promise<void> {
    // The answer stands in the same queue as the notifications.
    await this.#events?.request(getLink('lo'))
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
    this.#events?.[Symbol.dispose]()
  }

  /**
   * Notifications come on a socket of their own: they carry the sequence number of the request that caused them, and
   * would be taken for its answer.
   */
  #watch(groupNumbers: readonly number[], onLost: OnLost, onMessage: (message: NetlinkMessage) => void): void {
    join((this.#events ??= this.#openSocket()), groupNumbers, { onMessage, onLost })
  }
}

type OpenSocket = (options?: Pick<TransportOptions, 'everyNamespace' | 'filter'>) => NetlinkSocket

function join(
  socket: NetlinkSocket,
  [first, ...others]: readonly number[],
  { onMessage, onLost }: { readonly onMessage: (message: NetlinkMessage) => void; readonly onLost: OnLost },
): void {
  if (first === undefined) return
  // A listener hears all groups of its socket; the other groups need to be joined only.
  socket.subscribe(first, onMessage, onLost)
  for (const group of others)
    socket.subscribe(
      group,
      () => {},
      () => {},
    )
}

/** Opens rtnetlink, in another network namespace if one is given. Throws SyscallError (EPERM without root). */
export function openRtnetlink(options: { readonly netns?: Netns } = {}): Rtnetlink {
  return new Rtnetlink((more) => openNetlink({ protocol: NETLINK_ROUTE, ...options, ...more }))
}
