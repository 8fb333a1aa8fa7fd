import type { CountedLink, DirectionCounters } from '../rtnetlink/link-counters.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { leaseKey, type Lease, type LeaseKey } from './leases.ts'
import { podInterface, portOf } from './names.ts'
import type { BridgeKernel } from './kernel.ts'

/** How an endpoint is in the kernel, seen from its pod. */
export interface EndpointState {
  /** The link on the host: the endpoint's own, or the one that it is on. */
  readonly port: string
  /** `down`: switched off, or without a carrier. */
  readonly state: 'up' | 'down' | 'missing'
  /** What came in to the pod. Absent: the kernel counts nothing there. */
  readonly received?: DirectionCounters
  readonly sent?: DirectionCounters
}

/** Reads what the kernel has of endpoints, in one dump. Throws NetlinkError. */
export async function readEndpointStates(
  leases: readonly Lease[],
  rtnetlink: Pick<Rtnetlink, 'links'>,
): Promise<ReadonlyMap<LeaseKey, EndpointState>> {
  const links = new Map((await rtnetlink.links.listCounted()).map((link) => [link.name, link]))
  return new Map(leases.map((lease) => [leaseKey(lease), stateOf(portOf(lease), links)]))
}

/** The state of an endpoint whose link is in the pod alone; `port` is the host's link below. Throws NetlinkError. */
export async function readInsideState(
  lease: Lease,
  { port, kernel }: { readonly port: string; readonly kernel: BridgeKernel },
): Promise<EndpointState> {
  try {
    using namespace = kernel.openNamespace(lease.netns)
    const links = await namespace.rtnetlink.links.listCounted()
    const link = links.find(({ name }) => name === (lease.link ?? podInterface))
    if (!link) return { port, state: 'missing' }
    const { counters } = link
    return {
      port,
      state: link.up && link.carrier ? 'up' : 'down',
      ...(counters && { received: counters.received, sent: counters.sent }),
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { port, state: 'missing' }
    throw error
  }
}

function stateOf(port: string, links: ReadonlyMap<string, CountedLink>): EndpointState {
  const link = links.get(port)
  if (!link) return { port, state: 'missing' }
  const { counters } = link
  return {
    port,
    state: link.up && link.carrier ? 'up' : 'down',
    // What the host's end took in is what the pod sent.
    ...(counters && { received: counters.sent, sent: counters.received }),
  }
}
