import { ipFamilies, ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import type { ConnectionEntry, Conntrack } from '../netlink/conntrack.ts'
import type { Lease } from './leases.ts'
import { isAnyAddress, type Publication } from './publication.ts'

/*
 * Translations are decided for the first packet of a connection and then remembered: without this, a UDP client that goes on
 * sending would reach a pod that has gone, or would not reach the one that has come, for as long as it sends.
 */

/** Ends the connections that came to an endpoint by its published ports, which are not published any more. Throws NetlinkError. */
export async function forgetPublished(conntrack: Conntrack, lease: Pick<Lease, 'ips' | 'published'>): Promise<number> {
  const found: ConnectionEntry[] = []
  for (const ip of lease.ips) {
    for (const { hostPort, port, protocol } of lease.published ?? []) {
      const entries = await conntrack.list({
        family: ipFamilyOf(ip),
        original: { protocol: protocolNumbers[protocol], destinationPort: hostPort },
        reply: { source: ip, protocol: protocolNumbers[protocol], sourcePort: port },
      })
      found.push(...entries)
    }
  }
  await conntrack.delete(found)
  return found.length
}

/**
 * Ends the UDP connections to ports of the host (by its addresses) that nobody translated, because the port was not
 * published when they began. Throws NetlinkError.
 */
export async function forgetUntranslated(
  conntrack: Conntrack,
  published: readonly Publication[],
  host: ReadonlySet<IpAddress>,
): Promise<number> {
  const found: ConnectionEntry[] = []
  for (const { hostIp, hostPort, protocol } of published) {
    if (protocol !== 'udp') continue
    for (const family of ipFamilies) {
      if (hostIp !== undefined && ipFamilyOf(hostIp) !== family) continue
      const destination = hostIp === undefined || isAnyAddress(hostIp) ? {} : { destination: hostIp }
      const entries = await conntrack.list({
        family,
        original: { ...destination, protocol: protocolNumbers.udp, destinationPort: hostPort },
      })
      found.push(
        ...entries.filter(({ status, original }) => (status & natBits) === 0 && host.has(original.destination)),
      )
    }
  }
  await conntrack.delete(found)
  return found.length
}

/** IPS_SRC_NAT, IPS_DST_NAT (include/uapi/linux/netfilter/nf_conntrack_common.h) */
const natBits = 0x10 | 0x20
