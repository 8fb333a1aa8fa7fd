import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { decodeAttributes, encodeAttributes, type AttributeTable } from './attributes.ts'
import { addressFamilyNumbers } from './families.ts'
import { isNotFound } from './netlink-error.ts'
import { openNetlink, type NetlinkRequest, type NetlinkSocket } from './netlink-socket.ts'
import type { TransportOptions } from './transport.ts'

/* include/linux/netlink.h, include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h */
const NETLINK_NETFILTER = 12
const NFNL_SUBSYS_CTNETLINK = 1
/** IPCTNL_MSG_CT_NEW, _GET, _DELETE */
const conntrackMessages = {
  new: NFNL_SUBSYS_CTNETLINK << 8,
  get: (NFNL_SUBSYS_CTNETLINK << 8) | 1,
  delete: (NFNL_SUBSYS_CTNETLINK << 8) | 2,
} as const

/** CTA_IP_V4_SRC and so on: the family tells which of them are there. */
const addressAttributes = {
  4: { source: { id: 1, type: 'ip' }, destination: { id: 2, type: 'ip' } },
  6: { source: { id: 3, type: 'ip' }, destination: { id: 4, type: 'ip' } },
} as const satisfies Record<IpFamily, AttributeTable>

const protocolAttributes = {
  number: { id: 1, type: 'u8' },
  sourcePort: { id: 2, type: 'u16be' },
  destinationPort: { id: 3, type: 'u16be' },
} as const satisfies AttributeTable

const tupleAttributes = (family: IpFamily) =>
  ({
    addresses: { id: 1, type: 'nest', of: addressAttributes[family] },
    protocol: { id: 2, type: 'nest', of: protocolAttributes },
  }) as const satisfies AttributeTable

/** CTA_PROTOINFO_TCP, and in it CTA_PROTOINFO_TCP_STATE. */
const protocolStateAttributes = {
  tcp: { id: 1, type: 'nest', of: { state: { id: 1, type: 'u8' } } },
} as const satisfies AttributeTable

const entryAttributes = (family: IpFamily) =>
  ({
    original: { id: 1, type: 'nest', of: tupleAttributes(family) },
    reply: { id: 2, type: 'nest', of: tupleAttributes(family) },
    status: { id: 3, type: 'u32be' },
    protocolState: { id: 4, type: 'nest', of: protocolStateAttributes },
    id: { id: 12, type: 'u32be' },
    /** CTA_FILTER: which parts of the two tuples above must be equal (bits of enum ctattr_filter). */
    filter: {
      id: 25,
      type: 'nest',
      of: { originalFlags: { id: 1, type: 'u32' }, replyFlags: { id: 2, type: 'u32' } },
    },
  }) as const satisfies AttributeTable

/** CTA_FILTER_F_* of net/netfilter/nf_conntrack_netlink.c */
const filterFlags = { source: 1, destination: 2, number: 8, sourcePort: 16, destinationPort: 32 } as const

/** One direction of a connection. Ports of protocols that have none are undefined. */
export interface ConnectionTuple {
  readonly source: IpAddress
  readonly destination: IpAddress
  /** IANA number. */
  readonly protocol: number
  readonly sourcePort: number | undefined
  readonly destinationPort: number | undefined
}

/** An entry of the connection table. */
export interface ConnectionEntry {
  /** What the first packet was. */
  readonly original: ConnectionTuple
  /** What answers are: translated, its source is where the connection really goes. */
  readonly reply: ConnectionTuple
  /** IPS_* bits, such as IPS_DST_NAT (0x20). */
  readonly status: number
  readonly id: number
  /** TCP_CONNTRACK_* (nf_conntrack_tcp.h), such as {@link tcpEstablished}. Undefined for other protocols. */
  readonly tcpState?: number | undefined
}

/** TCP_CONNTRACK_ESTABLISHED: both sides may still send. */
export const tcpEstablished = 3

/** IPS_DST_NAT: the destination was translated (include/uapi/linux/netfilter/nf_conntrack_common.h). */
export const destinationTranslated = 0x20

/** What entries must be; fields that are left out may be anything. The kernel compares what it can, so few entries travel. */
export interface ConnectionFilter {
  readonly family: IpFamily
  readonly original?: Partial<ConnectionTuple>
  readonly reply?: Partial<ConnectionTuple>
}

/** The connection table of one network namespace. */
export interface Conntrack extends Disposable {
  /** Entries that fit. Throws NetlinkError. */
  list(filter: ConnectionFilter): Promise<ConnectionEntry[]>
  /** Deletes entries; those that ended meanwhile are passed over. Throws NetlinkError. */
  delete(entries: readonly ConnectionEntry[]): Promise<void>
}

/** Opens the connection table of this thread's namespace, or of `netns`. Throws SyscallError (EPERM without root). */
export function openConntrack(options: Pick<TransportOptions, 'netns'> = {}): Conntrack {
  return new ConntrackClient(openNetlink({ ...options, protocol: NETLINK_NETFILTER }))
}

/** Refusals, one for each entry that has ended meanwhile, must have room in the socket's buffer. */
const deletionsAtOnce = 500

/** {@link Conntrack} over a socket of NETLINK_NETFILTER, which it owns. */
export class ConntrackClient implements Conntrack {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async list(filter: ConnectionFilter): Promise<ConnectionEntry[]> {
    // The kernel goes through every bucket of its table (262,144 on a larger machine: 10 ms), be there connections or not.
    const messages = await this.#socket.dump(listConnections(filter), { apart: true })
    return (
      messages
        .filter(({ type }) => type === conntrackMessages.new)
        .map(({ payload }) => decodeConnection(payload, filter.family))
        .filter((entry) => entry !== undefined)
        // A kernel before 5.8 does not know the filter, and gives everything; IPv6 addresses are ours to compare.
        .filter((entry) => matches(entry, filter))
    )
  }

  async delete(entries: readonly ConnectionEntry[]): Promise<void> {
    const errors: Error[] = []
    for (let start = 0; start < entries.length; start += deletionsAtOnce) {
      const portion = entries.slice(start, start + deletionsAtOnce)
      const results = await this.#socket.pipeline(portion.map(deleteConnection))
      errors.push(...results.filter((result) => result instanceof Error).filter((error) => !isNotFound(error)))
    }
    if (errors.length === 1) throw errors[0]
    if (errors.length > 1) throw new AggregateError(errors, `cannot delete ${errors.length} connections`)
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
  }
}

/**
 * A dump of the entries that fit (CTA_FILTER, kernel 5.8). IPv6 addresses are not in it: the kernel gives the entries that
 * differ from them (ctnetlink_filter_match_tuple() in 6.18 takes ipv6_addr_cmp() for a yes).
 */
export function listConnections(filter: ConnectionFilter): NetlinkRequest {
  const { family } = filter
  const original = family === 6 ? withoutAddresses(filter.original) : filter.original
  const reply = family === 6 ? withoutAddresses(filter.reply) : filter.reply
  const originalFlags = flagsOf(original)
  const replyFlags = flagsOf(reply)
  const filtered = originalFlags !== 0 || replyFlags !== 0
  return {
    name: `list IPv${family} connections`,
    type: conntrackMessages.get,
    payload: Buffer.concat([
      header(family),
      encodeAttributes(entryAttributes(family), {
        ...(originalFlags !== 0 && { original: encodeTuple(original) }),
        ...(replyFlags !== 0 && { reply: encodeTuple(reply) }),
        ...(filtered && { filter: { originalFlags, replyFlags } }),
      }),
    ]),
  }
}

/** Deletes one entry. The kernel answers ENOENT when it has ended, or when another one has its place (CTA_ID). */
export function deleteConnection({ original, id }: ConnectionEntry): NetlinkRequest {
  const family = ipFamilyOf(original.source)
  return {
    name: `delete connection ${original.source} to ${original.destination} port ${original.destinationPort}`,
    type: conntrackMessages.delete,
    payload: Buffer.concat([
      header(family),
      encodeAttributes(entryAttributes(family), { original: encodeTuple(original), id }),
    ]),
  }
}

/** Reads an IPCTNL_MSG_CT_NEW payload; undefined when it is of another family. */
export function decodeConnection(payload: Buffer, family: IpFamily): ConnectionEntry | undefined {
  if (payload[0] !== addressFamilyNumbers[family]) return undefined
  const {
    original,
    reply,
    status = 0,
    id = 0,
    protocolState,
  } = decodeAttributes(entryAttributes(family), payload.subarray(4))
  const there = decodeTuple(original)
  const back = decodeTuple(reply)
  return there && back && { original: there, reply: back, status, id, tcpState: protocolState?.tcp?.state }
}

type TupleValues = NonNullable<ReturnType<typeof decodeAttributes<ReturnType<typeof entryAttributes>>>['original']>

function decodeTuple(values: TupleValues | undefined): ConnectionTuple | undefined {
  const { source, destination } = values?.addresses ?? {}
  const { number, sourcePort, destinationPort } = values?.protocol ?? {}
  if (source === undefined || destination === undefined || number === undefined) return undefined
  return { source, destination, protocol: number, sourcePort, destinationPort }
}

function encodeTuple(tuple: Partial<ConnectionTuple> = {}): TupleValues {
  const { source, destination, protocol, sourcePort, destinationPort } = tuple
  return { addresses: { source, destination }, protocol: { number: protocol, sourcePort, destinationPort } }
}

function withoutAddresses(tuple: Partial<ConnectionTuple> = {}): Partial<ConnectionTuple> {
  const { source: _, destination: __, ...rest } = tuple
  return rest
}

function flagsOf({
  source,
  destination,
  protocol,
  sourcePort,
  destinationPort,
}: Partial<ConnectionTuple> = {}): number {
  return (
    (source === undefined ? 0 : filterFlags.source) |
    (destination === undefined ? 0 : filterFlags.destination) |
    (protocol === undefined ? 0 : filterFlags.number) |
    (sourcePort === undefined ? 0 : filterFlags.sourcePort) |
    (destinationPort === undefined ? 0 : filterFlags.destinationPort)
  )
}

function matches(entry: ConnectionEntry, filter: ConnectionFilter): boolean {
  return (['original', 'reply'] as const).every((direction) => {
    const wanted = Object.entries(filter[direction] ?? {}) as [keyof ConnectionTuple, unknown][]
    return wanted.every(([name, value]) => value === undefined || entry[direction][name] === value)
  })
}

/** struct nfgenmsg: family, version (NFNETLINK_V0), resource id. */
function header(family: IpFamily): Buffer {
  return Buffer.from([addressFamilyNumbers[family], 0, 0, 0])
}
