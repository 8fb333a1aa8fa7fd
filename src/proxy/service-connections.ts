import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ipFamilies, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import { openConntrack, type Conntrack } from '../netlink/conntrack.ts'
import type { Netns } from '../linux/netns.ts'
import type { CompiledServices } from './compile-services.ts'
import { Draining, type DrainingEndpoint } from './draining.ts'
import { relayAddresses } from './relay-addresses.ts'
import { localAddresses } from '../rtnetlink/local-addresses.ts'
import { StaleFlows, type FlowsForgotten } from './stale-flows.ts'

/** What becomes of established connections when Services change: stale UDP ones are forgotten, the rest may drain. */
export interface ServiceConnections extends Disposable {
  /**
   * Call it once `services` are in the kernel. Where they are not there as they were given, `redirected` are what is there
   * ({@link Dataplane.redirected}). Throws NetlinkError; the next call makes up for it.
   */
  follow(services: CompiledServices, redirected?: CompiledServices): Promise<FlowsForgotten>
  /**
   * Ends TCP connections that a daemon carried which is gone, also those that it refused: conntrack would send their clients'
   * next packets where nobody listens. Call it when nothing is redirected any more. Returns their number. Throws NetlinkError.
   */
  forgetRelayed(): Promise<number>
  /** Looks whether the connection table can be read. Throws NetlinkError. */
  probe(): Promise<void>
  readonly draining: readonly DrainingEndpoint[]
  /** UDP connections that were forgotten, ever, by family. */
  readonly forgotten: Readonly<Record<IpFamily, number>>
  /** Connections that were ended because their Service says so, ever. */
  readonly connectionsReset: number
}

/** Follows the connections of this thread's network namespace, or of `netns`. Throws SyscallError (EPERM without root). */
export function openServiceConnections(options: {
  readonly clock: Clock
  readonly log: Log
  readonly netns?: Netns
}): ServiceConnections {
  const { netns } = options
  return followConnections({
    ...options,
    conntrack: openConntrack(netns ? { netns } : {}),
    ...(netns && { localAddresses: () => netns.enter(localAddresses) }),
  })
}

/** As {@link openServiceConnections}, with a connection table that it then owns. */
export function followConnections(options: {
  readonly conntrack: Conntrack
  readonly clock: Clock
  readonly log: Log
  /** See {@link StaleFlows}. */
  readonly localAddresses?: () => ReadonlySet<IpAddress>
}): ServiceConnections {
  const flows = new StaleFlows(options)
  const draining = new Draining(options)
  const forgotten = { 4: 0, 6: 0 }
  return {
    async follow(services, redirected = services) {
      draining.update(services)
      const result = await flows.reconcile(redirected)
      for (const family of ipFamilies) forgotten[family] += result.deleted[family]
      return result
    },
    get draining() {
      return draining.endpoints
    },
    forgotten,
    async forgetRelayed() {
      let count = 0
      for (const family of ipFamilies) {
        const reply = { source: relayAddresses[family], protocol: protocolNumbers.tcp }
        const entries = await options.conntrack.list({ family, reply })
        await options.conntrack.delete(entries)
        count += entries.length
      }
      return count
    },
    async probe() {
      await options.conntrack.list({ family: 4, original: { protocol: protocolNumbers.udp, destinationPort: 0 } })
    },
    get connectionsReset() {
      return draining.connectionsReset
    },
    [Symbol.dispose]() {
      draining[Symbol.dispose]()
      options.conntrack[Symbol.dispose]()
    },
  }
}
