import type { Log } from '../base/log.ts'
import type { Rtnetlink } from '../netlink/rtnetlink.ts'
import { isOurs } from './names.ts'

/** What is to be looked at, and whom to tell. */
export interface HostWatch {
  readonly log: Log
  /** Whether a link's name is that of one of our bridges, now. */
  readonly isBridge: (name: string) => boolean
  /** Whether a link is being made or removed by us. */
  readonly isBusy: (name: string) => boolean
  /** Something of ours changed. */
  readonly onChange: () => void
  /** Another link, or a default route, changed: the uplink may be another one, or have another MTU. */
  readonly onUplink: () => void
}

/** Follows, by netlink notifications, whatever could concern our bridges and ports, for as long as `rtnetlink` is open. */
export function watchHost(rtnetlink: Rtnetlink, watch: HostWatch): void {
  let indexes = new Set<number>()
  const lost = (error: Error): void => {
    watch.log.warn({ err: error }, 'Netlink notifications were lost, looking at everything')
    watch.onChange()
    watch.onUplink()
  }
  rtnetlink.links.list().then((links) => {
    for (const { name, index } of links) if (watch.isBridge(name)) indexes.add(index)
    // A hole between the first look and this one.
    watch.onChange()
    watch.onUplink()
  }, lost)
  rtnetlink.watchLinks(({ kind, link }) => {
    if (watch.isBridge(link.name)) {
      if (kind === 'set') indexes.add(link.index)
      else indexes = new Set([...indexes].filter((index) => index !== link.index))
      if (!watch.isBusy(link.name)) watch.onChange()
    } else if (!isOurs(link)) watch.onUplink()
    else if (!watch.isBusy(link.name)) watch.onChange()
  }, lost)
  rtnetlink.watchAddresses(({ address }) => {
    if (indexes.has(address.link)) watch.onChange()
  }, lost)
  rtnetlink.watchRoutes(({ kind, route }) => {
    if (route.destination.prefix === 0) watch.onUplink()
    if (kind === 'deleted' && route.dev !== undefined && indexes.has(route.dev)) watch.onChange()
  }, lost)
}
