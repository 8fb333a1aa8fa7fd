import type { Socket } from 'node:net'
import { getSocketStruct } from '../linux/libc.ts'
import { ipFromBytes } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Target } from './target.ts'

/* include/uapi/linux/in.h, include/uapi/linux/netfilter_ipv4.h, include/uapi/linux/netfilter_ipv6/ip6_tables.h */
const [SOL_IP, SO_ORIGINAL_DST] = [0, 80]
const [SOL_IPV6, IP6T_SO_ORIGINAL_DST] = [41, 80]

/** Where a connection was going before the kernel redirected it (conntrack knows); undefined when it was not, or is gone. */
export function originalDestination(socket: Socket): Target | undefined {
  // Node has no documented way to a socket's descriptor; libuv's handle has had this one since Node 0.6.
  const { fd } = (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle ?? {}
  if (fd === undefined || fd < 0) return undefined
  if (socket.remoteFamily === 'IPv6') {
    // struct sockaddr_in6
    const address = Buffer.alloc(28)
    if (!getSocketStruct(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, address)) return undefined
    return { ip: ipFromBytes(address.subarray(8, 24)), port: address.readUInt16BE(2) as Port }
  }
  // struct sockaddr_in
  const address = Buffer.alloc(16)
  if (!getSocketStruct(fd, SOL_IP, SO_ORIGINAL_DST, address)) return undefined
  return { ip: ipFromBytes(address.subarray(4, 8)), port: address.readUInt16BE(2) as Port }
}
