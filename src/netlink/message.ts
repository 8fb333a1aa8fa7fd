import { decodeAttributes } from './attributes.ts'

/** include/uapi/linux/netlink.h */
export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3

export const NLM_F_REQUEST = 0x1
export const NLM_F_MULTI = 0x2
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_CAPPED = 0x100
export const NLM_F_ACK_TLVS = 0x200
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
export const NLM_F_DUMP = 0x300

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

/** One message as the kernel sent it (struct nlmsghdr and what follows). */
export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly seq: number
  /** Port of the socket whose request this is about; 0 for changes that nobody asked for by netlink. */
  readonly port: number
  /** Everything after the 16-byte header. A view into the receive buffer. */
  readonly payload: Buffer
}

/** Splits a datagram into its messages. A cut-off last message is left out. */
export function splitMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = []
  let at = 0
  while (at + 16 <= datagram.length) {
    const length = datagram.readUInt32LE(at)
    if (length < 16 || at + length > datagram.length) break
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      seq: datagram.readUInt32LE(at + 8),
      port: datagram.readUInt32LE(at + 12),
      payload: datagram.subarray(at + 16, at + length),
    })
    at += (length + 3) & ~3
  }
  return messages
}

/** What an NLMSG_ERROR message says. `errno` 0 is an acknowledgement. */
export interface Acknowledgement {
  /** Positive, 0 for success. */
  readonly errno: number
  readonly message?: string
  readonly offset?: number
}

/** enum nlmsgerr_attrs */
const extendedAckAttributes = {
  message: { id: 1, type: 'string' },
  offset: { id: 2, type: 'u32' },
} as const

/** Reads an NLMSG_ERROR payload: errno, the echoed request (its header only, with NETLINK_CAP_ACK), extended ack. */
export function parseAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const errno = -message.payload.readInt32LE(0)
  if (!(message.flags & NLM_F_ACK_TLVS)) return { errno }
  const echoed = message.flags & NLM_F_CAPPED ? 16 : message.payload.readUInt32LE(4)
  const { message: text, offset } = decodeAttributes(
    extendedAckAttributes,
    message.payload.subarray(4 + ((echoed + 3) & ~3)),
  )
  return { errno, ...(text !== undefined && { message: text }), ...(offset !== undefined && { offset }) }
}
