import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import { ipFamilyOf, ipToBytes, type IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { SyscallError } from './errno.ts'
import { bindSocket, getSocketName, setSocketOption, socket } from './libc.ts'
import type { Netns } from './netns.ts'

/* include/linux/socket.h, include/uapi/asm-generic/socket.h, include/uapi/linux/in6.h */
const [AF_INET, AF_INET6] = [2, 10]
const [SOCK_STREAM, SOCK_DGRAM, SOCK_CLOEXEC] = [1, 2, 0x8_0000]
const [SOL_SOCKET, SO_REUSEADDR] = [1, 2]
const [IPPROTO_IPV6, IPV6_V6ONLY] = [41, 26]

/** Where a program could listen. */
export interface PortProbe {
  /** One of the host's, or 0.0.0.0 or `::`. */
  readonly ip: IpAddress
  /** Undefined: any free one (of ip_local_port_range). */
  readonly port: Port | undefined
  readonly protocol: 'tcp' | 'udp'
}

/**
 * Finds out whether a port is free by binding a socket to it, which is closed again before this returns: nothing is
 * held, and whoever binds a moment later gets it. Returns the port; `taken` when a program has it; `no-address` when the
 * host has no such address. Throws {@link SyscallError}.
 *
 * TCP sockets are bound with SO_REUSEADDR and never listen, so that a listener is in the way (inet_csk_bind_conflict), but
 * not what a closed one leaves for a minute in TIME_WAIT, and nobody can connect meanwhile. UDP has no such remains.
 */
export function probePort(probe: PortProbe, options: { readonly netns?: Netns } = {}): Port | 'taken' | 'no-address' {
  return options.netns ? options.netns.enter(() => bindOnce(probe)) : bindOnce(probe)
}

function bindOnce({ ip, port, protocol }: PortProbe): Port | 'taken' | 'no-address' {
  const isIpv4 = ipFamilyOf(ip) === 4
  const type = (protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC
  let fd: number
  try {
    fd = socket(isIpv4 ? AF_INET : AF_INET6, type, 0)
  } catch (error) {
    // A kernel without IPv6.
    if (error instanceof SyscallError && error.errno === constants.errno.EAFNOSUPPORT) return 'no-address'
    throw error
  }
  try {
    if (protocol === 'tcp') setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    if (!isIpv4) setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
    bindSocket(fd, socketAddress(ip, port ?? 0))
    const name = getSocketName(fd)
    return (name?.readUInt16BE(2) ?? 0) as Port
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    if (error.errno === constants.errno.EADDRINUSE) return 'taken'
    if (error.errno === constants.errno.EADDRNOTAVAIL) return 'no-address'
    throw error
  } finally {
    closeSync(fd)
  }
}

/** struct sockaddr_in, struct sockaddr_in6 */
function socketAddress(ip: IpAddress, port: number): Buffer {
  const isIpv4 = ipFamilyOf(ip) === 4
  const address = Buffer.alloc(isIpv4 ? 16 : 28)
  address.writeUInt16LE(isIpv4 ? AF_INET : AF_INET6, 0)
  address.writeUInt16BE(port, 2)
  address.set(ipToBytes(ip), isIpv4 ? 4 : 8)
  return address
}
