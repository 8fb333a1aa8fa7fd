import { setImmediate } from 'node:timers/promises'
import { ipFamilies, ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { protocolNumbers } from '../net/protocol.ts'
import type { ConnectionEntry, Conntrack } from '../netlink/conntrack.ts'
import type { Lease } from './leases.ts'
import { isAnyAddress, type Publication } from './publication.ts'

/*
 * Translations are decided for the first packet of a connection and then remembered: without this, a UDP client that goes on
 * sending would reach a pod that has gone, or would not reach the one that has come, for as long as it sends.
 */

/** From this many on, it is quicker to read all connections of a protocol once than to have the kernel look for each. */
const manyPublications = 5

/**
 * Ends the connections that came to endpoints by their published ports, which are not published any more. Resolves with
 * their number. Throws NetlinkError.
 */
export async function forgetPublished(
  conntrack: Conntrack,
  leases: readonly Pick<Lease, 'ips' | 'published'>[],
): Promise<number> {
  const wanted = leases.flatMap(({ ips, published = [] }) =>
    ips.flatMap((ip) => published.map((publication) => ({ ip, ...publication }))),
  )
  const found: ConnectionEntry[] = []
  if (wanted.length < manyPublications) {
    for (const { ip, hostPort, port, protocol } of wanted) {
      const entries = await conntrack.list({
        family: ipFamilyOf(ip),
        original: { protocol: protocolNumbers[protocol], destinationPort: hostPort },
        reply: { source: ip, protocol: protocolNumbers[protocol], sourcePort: port },
      })
      found.push(...entries)
    }
  } else {
    const kinds = new Map(wanted.map(({ ip, protocol }) => [`${ipFamilyOf(ip)} ${protocol}`, { ip, protocol }]))
    const ports = new Set(wanted.map(({ ip, hostPort, port, protocol }) => `${protocol} ${hostPort} ${ip} ${port}`))
    for (const { ip, protocol } of kinds.values()) {
      const original = { protocol: protocolNumbers[protocol] }
      const entries = await conntrack.list({ family: ipFamilyOf(ip), original })
      found.push(
        ...entries.filter(({ original: { destinationPort }, reply }) =>
          ports.has(`${protocol} ${destinationPort} ${reply.source} ${reply.sourcePort}`),
        ),
      )
    }
  }
  await conntrack.delete(found)
  return found.length
}

/** Ends the connections of endpoints that go; those that go while it looks at the connection table share the next look. */
export class WithdrawnConnections {
  readonly #conntrack: Conntrack
  #next: { readonly leases: Lease[]; readonly done: Promise<void> } | undefined
  #previous: Promise<void> = Promise.resolve()

  constructor(conntrack: Conntrack) {
    this.#conntrack = conntrack
  }

  /** As {@link forgetPublished}. Throws NetlinkError, to all of its batch. */
  async forget(lease: Lease): Promise<void> {
    if (!this.#next) {
      const leases: Lease[] = []
      const done = this.#forgetNext(leases, this.#previous)
      this.#next = { leases, done }
      this.#previous = done
    }
    this.#next.leases.push(lease)
    await this.#next.done
  }

  async #forgetNext(leases: readonly Lease[], previous: Promise<void>): Promise<void> {
    // A batch that failed was told to those who asked for it.
    await previous.catch(() => {})
    // What else this turn of the event loop brings.
    await setImmediate()
    this.#next = undefined
    await forgetPublished(this.#conntrack, leases)
  }
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
  const wanted = published.filter(({ protocol }) => protocol === 'udp')
  const found: ConnectionEntry[] = []
  for (const family of ipFamilies) {
    const ports = Map.groupBy(
      wanted.filter(({ hostIp }) => hostIp === undefined || ipFamilyOf(hostIp) === family),
      ({ hostPort }) => hostPort,
    )
    const looks = ports.size < manyPublications ? [...ports.keys()] : [undefined]
    for (const destinationPort of looks) {
      const original = { protocol: protocolNumbers.udp, ...(destinationPort !== undefined && { destinationPort }) }
      for (const entry of await conntrack.list({ family, original })) {
        const { destination, destinationPort: port } = entry.original
        if ((entry.status & natBits) !== 0 || !host.has(destination) || port === undefined) continue
        const isPublished = ports
          .get(port as Port)
          ?.some(({ hostIp }) => hostIp === undefined || isAnyAddress(hostIp) || hostIp === destination)
        if (isPublished === true) found.push(entry)
      }
    }
  }
  await conntrack.delete(found)
  return found.length
}

/** IPS_SRC_NAT, IPS_DST_NAT (include/uapi/linux/netfilter/nf_conntrack_common.h) */
const natBits = 0x10 | 0x20
