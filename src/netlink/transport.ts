import { closeSync, openSync, readdirSync } from 'node:fs'
import { RawNetlinkSocket } from 'netlink'
import {
  attachSocketFilter,
  getSocketDrops,
  getSocketName,
  getSocketOption,
  sendInPool,
  setSocketOption,
} from '../linux/libc.ts'
import type { Netns } from '../linux/netns.ts'
import { AF_NETLINK } from './families.ts'

/** What carries datagrams to a kernel: the real one, or a scripted one in tests. */
export interface NetlinkTransport {
  /** The socket's port, which answers to its requests carry. Undefined: every message may be an answer. */
  readonly port?: number
  /**
   * Hands one datagram to the kernel. The kernel works on it before this returns; its answers come through `receive`
   * later. Returns the milliseconds that the kernel took.
   */
  send(datagram: Buffer): number
  /** As {@link send}, in another thread: the kernel may work on it long after this has returned. */
  sendApart(datagram: Buffer): void
  /** Called for each datagram from the kernel. Set before the first send. */
  receive: (datagram: Buffer) => void
  /** Called when the kernel dropped messages for us (ENOBUFS) or the socket broke. */
  failed: (error: Error) => void
  /** Calls `failed` now if messages were dropped; by itself, the transport does so a moment later. */
  checkLoss(): void
  join(group: number): void
  /** While referenced, the socket keeps the process alive. */
  ref(): void
  unref(): void
  close(): void
}

export interface TransportOptions {
  /** NETLINK_ROUTE, NETLINK_NETFILTER, ... */
  readonly protocol: number
  /** The namespace to create the socket in; it stays there. Default: the thread's own. */
  readonly netns?: Netns
  /**
   * Hears notifications of every namespace that has a number in this one, too (NETLINK_LISTEN_ALL_NSID): those where the far ends
   * of its veth pairs are. Which one it was is in a control message, which the package does not hand on.
   */
  readonly everyNamespace?: boolean
  /** Classic BPF: what the kernel does not hand over at all. */
  readonly filter?: Uint8Array
  /** Bytes that one send may have. Default 1 MiB. Needs CAP_NET_ADMIN. */
  readonly sendBuffer?: number
  /** Bytes of answers and notifications that the kernel keeps for us. Default 4 MiB. Needs CAP_NET_ADMIN. */
  readonly receiveBuffer?: number
  /**
   * Bytes that one read takes. Default: as many as the next datagram has. The kernel fills dumps up to what a read takes
   * (at most 32 KiB), so a large table is read much faster with 32 KiB or more; each answer then holds that much memory.
   */
  readonly datagramSize?: number
}

/* include/uapi/asm-generic/socket.h, include/uapi/linux/netlink.h */
const SOL_SOCKET = 1
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SO_PROTOCOL = 38
const SO_DOMAIN = 39
const SOL_NETLINK = 270
const NETLINK_NO_ENOBUFS = 5
const NETLINK_LISTEN_ALL_NSID = 8
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

/**
 * A netlink socket of the `netlink` package on Node's event loop. The package cannot force buffer sizes or ask for
 * extended acks and does not show its descriptor, so the descriptor is found and the options are set through libc
 * (docs/adr/0002-netlink-socket.md).
 */
export function openTransport(options: TransportOptions): NetlinkTransport {
  const {
    protocol,
    netns,
    sendBuffer = 1 << 20,
    receiveBuffer = 4 << 20,
    datagramSize,
    everyNamespace,
    filter,
  } = options
  const open = (): OpenedSocket => {
    const opened = openAndConfigure(protocol, { sendBuffer, receiveBuffer, datagramSize })
    if (filter) attachSocketFilter(opened.fd, filter)
    if (everyNamespace) setSocketOption(opened.fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
    return opened
  }
  const { socket, fd } = netns ? netns.enter(open) : open()
  let isOpen = true
  let drops = 0
  /** Datagrams that another thread sends at this moment. */
  const apart = new Set<Promise<void>>()
  const transport: NetlinkTransport = {
    port: socket.address().port,
    send(datagram) {
      const start = performance.now()
      socket.send(datagram, {}, (error) => {
        if (error) transport.failed(error)
      })
      return performance.now() - start
    },
    sendApart(datagram) {
      const sending = sendInPool(fd, datagram)
        .catch((error: Error) => transport.failed(error))
        .finally(() => apart.delete(sending))
      apart.add(sending)
    },
    checkLoss,
    receive: () => {},
    failed: () => {},
    join: (group) => socket.addMembership(group),
    ref: () => socket.ref(),
    unref: () => socket.unref(),
    close: () => {
      isOpen = false
      transport.receive = () => {}
      transport.failed = () => {}
      // Not from within the package's own callback, where whoever awaited an answer runs: it goes on to use what a close has
      // just freed when the socket is writable at the same time (PollHandler in its netlink.cc), and the process dies.
      // And not while another thread sends, which would then write into whatever gets the descriptor next.
      void Promise.all(apart).then(() => setImmediate(() => socket.close()))
    },
  }
  let willCheck = false
  function checkLoss(): void {
    const now = isOpen ? getSocketDrops(fd) : drops
    if (now === drops) return
    drops = now
    transport.failed(Object.assign(new Error('ENOBUFS: the receive buffer was full'), { code: 'ENOBUFS' }))
  }
  socket.on('message', (datagram) => {
    transport.receive(datagram)
    // The kernel drops messages only while others wait to be read, so no loss is missed here. Once for all that this turn of
    // the event loop reads: the look costs as much as the reading.
    if (willCheck) return
    willCheck = true
    setImmediate(() => {
      willCheck = false
      checkLoss()
    })
  })
  socket.on('error', (error) => transport.failed(error))
  return transport
}

interface OpenedSocket {
  readonly socket: RawNetlinkSocket
  readonly fd: number
}

function openAndConfigure(
  protocol: number,
  sizes: { readonly sendBuffer: number; readonly receiveBuffer: number; readonly datagramSize: number | undefined },
): OpenedSocket {
  const { sendBuffer, receiveBuffer, datagramSize } = sizes
  const reading = datagramSize === undefined ? {} : { messagePeeking: false, msgBufferSize: datagramSize }
  // The package wants buffer sizes; the kernel cuts these to its limits, unlike the forced ones below.
  const options = { recvBufferSize: receiveBuffer, sendBufferSize: sendBuffer, ...reading }
  for (;;) {
    const next = nextDescriptor()
    const socket = new RawNetlinkSocket(protocol, options)
    try {
      const [fd, ...others] = isSocket(next, { socket, protocol }) ? [next] : descriptorsOf(socket, protocol)
      if (fd === undefined) throw new Error('cannot find the descriptor of a netlink socket that was just opened')
      if (others.length > 0) {
        socket.close()
        continue
      }
      setSocketOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, sendBuffer)
      setSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBuffer)
      // A full receive buffer sets an error on the socket, which reaches the package as POLLERR, and there it ends the
      // process (it makes a string of a null pointer). So the kernel is asked to count only, and we look at the count.
      setSocketOption(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
      setSocketOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1)
      setSocketOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1)
      setSocketOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
      return { socket, fd }
    } catch (error) {
      socket.close()
      throw error
    }
  }
}

/** The number that the next descriptor of this process gets, unless another thread is quicker: the lowest that is free. */
function nextDescriptor(): number {
  const fd = openSync('/dev/null', 'r')
  closeSync(fd)
  return fd
}

/** Whether a descriptor is a netlink socket of this protocol with the port of `socket`. */
function isSocket(fd: number, { socket, protocol }: { socket: RawNetlinkSocket; protocol: number }): boolean {
  return (
    getSocketOption(fd, SOL_SOCKET, SO_DOMAIN) === AF_NETLINK &&
    getSocketOption(fd, SOL_SOCKET, SO_PROTOCOL) === protocol &&
    // struct sockaddr_nl: family, pad, port id, groups
    getSocketName(fd)?.readUInt32LE(4) === socket.address().port
  )
}

/**
 * Descriptors that are such a socket, for when another thread took the descriptor that was expected: much slower with many
 * open files. The package picks ports at random, so two sockets of this process share one rarely, and only across
 * namespaces; the caller then opens another.
 */
function descriptorsOf(socket: RawNetlinkSocket, protocol: number): number[] {
  return readdirSync('/proc/self/fd', { encoding: 'utf8' })
    .map(Number)
    .filter((fd) => isSocket(fd, { socket, protocol }))
}
