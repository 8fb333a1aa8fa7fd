import { decodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import type { Link } from './link.ts'

/** What passed a link in one direction since it was made. */
export interface DirectionCounters {
  readonly packets: number
  readonly bytes: number
  readonly errors: number
  readonly dropped: number
}

/** What passed a link, as seen from the namespace that it is in. */
export interface LinkCounters {
  /** What the host took in by it: of a veth, what the other end sent. */
  readonly received: DirectionCounters
  readonly sent: DirectionCounters
}

/** A link with its counters. */
export type CountedLink = Link & { readonly counters: LinkCounters | undefined }

/** IFLA_STATS64 (include/uapi/linux/if_link.h), apart from the other attributes, which no list of links has counters in. */
const statsAttributes = { stats64: { id: 23, type: 'bytes' } } as const satisfies AttributeTable

/** Octets of the fields of struct rtnl_link_stats64 that are read here: eight of u64, received and sent by turns. */
const readSize = 64

/** Reads the counters of an RTM_NEWLINK payload; undefined when it has none. */
export function decodeLinkCounters(payload: Buffer): LinkCounters | undefined {
  const { stats64 } = decodeAttributes(statsAttributes, payload.subarray(16))
  if (!stats64 || stats64.length < readSize) return undefined
  const stats = Buffer.from(stats64)
  // Exact up to 2^53: eight petabytes.
  const field = (index: number): number => Number(stats.readBigUInt64LE(index * 8))
  const direction = (first: number): DirectionCounters => ({
    packets: field(first),
    bytes: field(first + 2),
    errors: field(first + 4),
    dropped: field(first + 6),
  })
  return { received: direction(0), sent: direction(1) }
}
