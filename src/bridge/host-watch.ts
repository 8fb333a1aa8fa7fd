import type { Log } from '../base/log.ts'
import { cidrContains, formatCidr } from '../net/cidr.ts'
import type { LinkAddress } from '../rtnetlink/addresses.ts'
import type { Link } from '../rtnetlink/link.ts'
import type { Route } from '../rtnetlink/routes.ts'
import type { LinkEvent, Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { linkChanges, linkLocal } from './diff.ts'
import { isOurs } from './names.ts'
import type { BridgePlan, PortPlan } from './plan.ts'

/** What is to be looked at, and whom to tell. */
export interface HostWatch {
  readonly log: Log
  /** The bridge of that name as it should be, now; undefined: none of ours. */
  readonly bridge: (name: string) => BridgePlan | undefined
  /** The port of that name as it should be, now; undefined: there should be none. */
  readonly port: (name: string) => PortPlan | undefined
  /** Whether a link is being made or removed by us. */
  readonly isBusy: (name: string) => boolean
  /** Something of ours is not as it should be. */
  readonly onChange: () => void
  /** Another link, or a default route, changed: the uplink may be another one, or have another MTU. */
  readonly onUplink: () => void
  /** A link is gone, whoever deleted it. */
  readonly onGone: (index: number) => void
}

/**
 * Follows, by netlink notifications, whatever could concern our bridges and ports, for as long as `rtnetlink` is open. What
 * they say is compared with the plan: those of our own changes, and others that do no harm, end here.
 */
export function watchHost(rtnetlink: Rtnetlink, watch: HostWatch): void {
  /** Our bridges, by index. */
  const bridges = new Map<number, string>()
  /** Links that were not right by the last that was heard of them. */
  const wrong = new Set<string>()
  let asked = false
  const lost = (error: Error): void => {
    watch.log.warn({ err: error }, 'Netlink notifications were lost, looking at everything')
    watch.onChange()
    watch.onUplink()
  }

  /** Notifications come late: of a link that we have just made, the first ones tell of it half made. What do the last ones say? */
  const judge = (): void => {
    if (asked) return
    asked = true
    rtnetlink
      .notified()
      .then(() => {
        asked = false
        if (wrong.size > 0) watch.onChange()
        wrong.clear()
      })
      .catch((error: Error) => {
        asked = false
        lost(error)
      })
  }

  const isRight = ({ kind, link }: LinkEvent): boolean => {
    const { name, master } = link
    const bridge = watch.bridge(name)
    const port = bridge ? undefined : watch.port(name)
    if (kind === 'deleted') return !bridge && !port
    if (bridge) return isBridge(link, bridge)
    return port !== undefined && isPort(link, port) && master !== undefined && bridges.get(master) === port.bridge
  }

  rtnetlink.links.list().then((links) => {
    for (const { name, index } of links) if (watch.bridge(name)) bridges.set(index, name)
    // A hole between the first look and this one.
    watch.onChange()
    watch.onUplink()
  }, lost)
  rtnetlink.watchLinks((event) => {
    const { kind, link } = event
    const { name, index } = link
    const isOurBridge = watch.bridge(name) !== undefined
    if (kind === 'deleted') {
      bridges.delete(index)
      watch.onGone(index)
    } else if (isOurBridge) bridges.set(index, name)
    if (watch.isBusy(name)) wrong.delete(name)
    else if (!isOurBridge && !isOurs(link) && !watch.port(name)) watch.onUplink()
    else if (isRight(event)) wrong.delete(name)
    else {
      wrong.add(name)
      judge()
    }
  }, lost)

  const bridgeAt = (index: number | undefined): BridgePlan | undefined => {
    const name = index === undefined ? undefined : bridges.get(index)
    return name === undefined ? undefined : watch.bridge(name)
  }
  rtnetlink.watchAddresses(({ kind, address }) => {
    const bridge = bridgeAt(address.link)
    if (bridge && (kind === 'set' ? !mayHave(bridge, address) : isAddressOf(bridge, address))) watch.onChange()
  }, lost)
  rtnetlink.watchRoutes(({ kind, route }) => {
    if (route.destination.prefix === 0) watch.onUplink()
    const bridge = kind === 'deleted' ? bridgeAt(route.dev) : undefined
    if (bridge && isRouteOf(bridge, route)) watch.onChange()
  }, lost)
}

function isBridge(link: Link, plan: BridgePlan): boolean {
  return link.kind === 'bridge' && !linkChanges(link, plan)
}

function isPort(link: Link, { mtu, alias, options }: PortPlan): boolean {
  return link.kind === 'veth' && !linkChanges(link, { mtu, alias, options })
}

/** The kernel adds link-local ones by itself. */
function mayHave(bridge: BridgePlan, address: LinkAddress): boolean {
  return cidrContains(linkLocal, address.address.address) || isAddressOf(bridge, address)
}

function isAddressOf({ addresses }: BridgePlan, { address }: LinkAddress): boolean {
  return addresses.some((wanted) => formatCidr(wanted) === formatCidr(address))
}

function isRouteOf({ routes }: BridgePlan, { destination }: Route): boolean {
  return routes.some((wanted) => formatCidr(wanted.destination) === formatCidr(destination))
}
