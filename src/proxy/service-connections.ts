import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { openConntrack, type Conntrack } from '../netlink/conntrack.ts'
import type { Netns } from '../linux/netns.ts'
import type { CompiledServices } from './compile-services.ts'
import { Draining, type DrainingEndpoint } from './draining.ts'
import { ownAddresses, StaleFlows, type FlowsForgotten } from './stale-flows.ts'

/** What becomes of established connections when Services change: stale UDP ones are forgotten, the rest may drain. */
export interface ServiceConnections extends Disposable {
  /** Call it once `services` are in the kernel. Throws NetlinkError; the next call makes up for it. */
  follow(services: CompiledServices): Promise<FlowsForgotten>
  readonly draining: readonly DrainingEndpoint[]
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
    ...(netns && { localAddresses: () => netns.enter(ownAddresses) }),
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
  return {
    async follow(services) {
      draining.update(services)
      return await flows.reconcile(services)
    },
    get draining() {
      return draining.endpoints
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
