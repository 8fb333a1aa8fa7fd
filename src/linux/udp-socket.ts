import koffi from 'koffi'
import { type IpAddress, ipFamilyOf, ipFromBytes, ipToBytes } from '../net/ip-address.ts'
import { SyscallError } from './errno.ts'
import { bindSocket, getSocketName, setSocketOption, socket } from './libc.ts'

const libc = koffi.load('libc.so.6')
const shutdownFunction = libc.func('int shutdown(int fd, int how)')
// closeSync() of a worker thread complains about descriptors that it did not open itself.
const closeFunction = libc.func('int close(int fd)')
/** struct timeval of 64-bit Linux: seconds, microseconds. */
const setTimeoutFunction = libc.func(
  'int setsockopt(int fd, int level, int name, _In_ int64_t *value, uint32_t length)',
)
const connectFunction = libc.func('int connect(int fd, _In_ uint8_t *address, uint32_t length)')
/** struct iovec and struct msghdr of recvmsg(2), as sendmsg(2) takes them. */
koffi.struct('udp_iovec', { base: 'uint8_t *', length: 'size_t' })
koffi.struct('udp_msghdr', {
  name: 'uint8_t *',
  nameLength: 'uint32_t',
  parts: 'udp_iovec *',
  partCount: 'size_t',
  control: 'uint8_t *',
  controlLength: 'size_t',
  flags: 'int',
})
const sendmsgFunction = libc.func('int64_t sendmsg(int fd, _In_ udp_msghdr *message, int flags)')

/* include/linux/socket.h, asm-generic/socket.h, linux/in.h, linux/in6.h */
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0x8_0000
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SO_REUSEPORT = 15
const SO_RCVTIMEO = 20
const SO_RCVBUFFORCE = 33
const IPPROTO_IP = 0
const IP_PKTINFO = 8
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
const IPV6_RECVPKTINFO = 49
const SHUT_RD = 0
const MSG_DONTWAIT = 0x40

/**
 * How long a thread waits in the kernel at a time, in milliseconds. Node cannot interrupt a system call: a thread, and a process that ends with threads,
 * ends when its call returns.
 */
export const longestWait = 500

/** Octets of the larger socket address (struct sockaddr_in6). */
export const socketAddressSize = 28
/** Octets of control data that say to which address a datagram was sent: a header of 16 and struct in6_pktinfo, aligned. */
export const packetInfoSize = 40

export interface UdpSocketOptions {
  readonly address: IpAddress
  /** 0: chosen by the kernel. */
  readonly port: number
  /** False: nobody else may be there, now or later. Default true. */
  readonly reusePort?: boolean
  /** Octets that may wait to be read; default 4 MiB (without CAP_NET_ADMIN at most net.core.rmem_max). */
  readonly receiveBuffer?: number
}

/**
 * A UDP socket as a file descriptor, for threads that wait in recvmmsg(2) themselves. It shares its address with other such sockets of this user
 * (SO_REUSEPORT): the kernel gives each client's datagrams to one of them. On the unspecified address it tells to which one of the
 * machine's addresses each datagram was sent, so that the answer can come from there.
 */
export class UdpSocket implements Disposable {
  readonly fd: number
  readonly address: IpAddress
  readonly port: number
  /** Whether datagrams come with {@link packetInfoSize} octets of control data. */
  readonly packetInfo: boolean
  #open = true

  private constructor(fd: number, { address }: UdpSocketOptions) {
    this.fd = fd
    this.address = address
    this.packetInfo = isUnspecified(address)
    this.port = (getSocketName(fd) ?? Buffer.alloc(4)).readUInt16BE(2)
  }

  /** Throws {@link SyscallError}: EADDRINUSE when a socket without SO_REUSEPORT, or another user's, is there. */
  static open(options: UdpSocketOptions): UdpSocket {
    const { address, port, reusePort = true, receiveBuffer = 4 << 20 } = options
    const family = ipFamilyOf(address)
    const fd = socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try {
      if (reusePort) setSocketOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)
      if (family === 6) setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
      setReceiveBuffer(fd, receiveBuffer)
      limitWait(fd)
      if (isUnspecified(address)) {
        if (family === 4) setSocketOption(fd, IPPROTO_IP, IP_PKTINFO, 1)
        else setSocketOption(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
      }
      bindSocket(fd, socketAddress(address, port))
      return new UdpSocket(fd, options)
    } catch (error) {
      closeFunction(fd)
      throw error
    }
  }

  /**
   * Takes no new datagrams, if other sockets share the address: they go to those from now on. What waits already can still be read, and answers
   * can still be sent. (The kernel chooses none that is connected, `reuseport_select_sock_by_hash()` of
   * net/core/sock_reuseport.c; this one is connected to itself.)
   */
  leaveGroup(): void {
    const self = getSocketName(this.fd)
    if (!self || connectFunction(this.fd, self, self.length) !== 0) throw new SyscallError('connect', koffi.errno())
  }

  /** Ends the wait of a thread that reads this socket, for good: what waits is still given to it, then nothing, at once. */
  endWaiting(): void {
    // ENOTCONN is said for a socket that is not connected, after its readers were woken (inet_shutdown() of net/ipv4/af_inet.c).
    shutdownFunction(this.fd, SHUT_RD)
  }

  /** Sends one datagram, or fails at once. Throws {@link SyscallError}. */
  send(bytes: Uint8Array, to: DatagramPeer): void {
    const message = {
      name: to.address,
      nameLength: to.address.length,
      parts: [{ base: bytes, length: bytes.length }],
      partCount: 1,
      control: to.control.length > 0 ? to.control : null,
      controlLength: to.control.length,
      flags: 0,
    }
    if (Number(sendmsgFunction(this.fd, message, MSG_DONTWAIT)) < 0) throw new SyscallError('sendmsg', koffi.errno())
  }

  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#open = false
    closeFunction(this.fd)
  }
}

/** Who sent a datagram, and to which of our addresses, as the kernel says it and takes it back. */
export interface DatagramPeer {
  /** A sockaddr. */
  readonly address: Uint8Array
  /** Control data; empty for a socket that is bound to one address. */
  readonly control: Uint8Array
}

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(ip: IpAddress, port: number): Buffer {
  const bytes = ipToBytes(ip)
  const isIPv4 = bytes.length === 4
  const address = Buffer.alloc(isIPv4 ? 16 : socketAddressSize)
  address.writeUInt16LE(isIPv4 ? AF_INET : AF_INET6, 0)
  address.writeUInt16BE(port, 2)
  address.set(bytes, isIPv4 ? 4 : 8)
  return address
}

/** The address in a sockaddr as text; a link-local one with the number of its link (`fe80::1%2`). */
export function socketAddressText(address: Uint8Array): string {
  const view = new DataView(address.buffer, address.byteOffset, address.length)
  if (view.getUint16(0, true) === AF_INET) return ipFromBytes(address.subarray(4, 8))
  const scope = view.getUint32(24, true)
  const text = ipFromBytes(address.subarray(8, 24))
  return scope === 0 ? text : `${text}%${scope}`
}

function isUnspecified(address: IpAddress): boolean {
  return address === '0.0.0.0' || address === '::'
}

function limitWait(fd: number): void {
  const wait = [0n, BigInt(longestWait * 1000)]
  if (setTimeoutFunction(fd, SOL_SOCKET, SO_RCVTIMEO, wait, 16) !== 0)
    throw new SyscallError('setsockopt', koffi.errno())
}

/** A burst that comes while the reader waits for a CPU is kept, not lost. */
function setReceiveBuffer(fd: number, octets: number): void {
  try {
    setSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, octets)
  } catch {
    // Without CAP_NET_ADMIN the kernel gives what net.core.rmem_max allows, and does not complain.
    setSocketOption(fd, SOL_SOCKET, SO_RCVBUF, octets)
  }
}
