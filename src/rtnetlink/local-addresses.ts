import { closeSync, readSync, writeSync } from 'node:fs'
import { socket } from '../linux/libc.ts'
import { SyscallError } from '../linux/errno.ts'
import type { IpAddress } from '../net/ip-address.ts'
import {
  NETLINK_ROUTE,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  splitMessages,
  type NetlinkMessage,
} from '../netlink/message.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'
import { AF_NETLINK } from '../netlink/families.ts'
import { decodeAddress, listAddresses, RTM_NEWADDR } from './addresses.ts'
import { listLinks } from './link-requests.ts'
import { IFF_UP, RTM_NEWLINK } from './link.ts'

/** include/linux/net.h */
const SOCK_RAW = 3
/** The kernel fills no message of a dump further (NLMSG_GOODSIZE, and what is asked for by a larger buffer). */
const bufferLength = 65_536

/**
 * The addresses of this thread's network namespace, now: of all links that are up, those without a carrier too, as a bridge
 * without ports is, which `networkInterfaces()` of node:os leaves out. It does not wait: the kernel answers a dump as it is read.
 * Throws SyscallError, or what node:fs throws.
 */
export function localAddresses(): ReadonlySet<IpAddress> {
  const fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
  try {
    const up = new Set(
      dump(fd, listLinks())
        .filter(({ type, payload }) => type === RTM_NEWLINK && (payload.readUInt32LE(8) & IFF_UP) !== 0)
        .map(({ payload }) => payload.readInt32LE(4)),
    )
    const all = dump(fd, listAddresses()).filter(({ type }) => type === RTM_NEWADDR)
    const addresses = all.map(({ payload }) => decodeAddress(payload))
    return new Set(addresses.filter(({ link }) => up.has(link)).map(({ address }) => address.address))
  } finally {
    closeSync(fd)
  }
}

/** All answers to a request, read in one go. */
function dump(fd: number, { name, type, payload }: NetlinkRequest): NetlinkMessage[] {
  const request = Buffer.alloc(16 + payload.length)
  request.writeUInt32LE(request.length, 0)
  request.writeUInt16LE(type, 4)
  request.writeUInt16LE(NLM_F_REQUEST | NLM_F_DUMP, 6)
  request.set(payload, 16)
  writeSync(fd, request)
  const messages: NetlinkMessage[] = []
  for (;;) {
    const buffer = Buffer.alloc(bufferLength)
    const part = splitMessages(buffer.subarray(0, readSync(fd, buffer)))
    messages.push(...part)
    const last = part.at(-1)
    if (last?.type === NLMSG_ERROR) throw new SyscallError(`netlink: ${name}`, -last.payload.readInt32LE(0))
    if (last === undefined || last.type === NLMSG_DONE) return messages
  }
}
