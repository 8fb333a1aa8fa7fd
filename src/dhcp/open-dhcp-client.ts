import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { takeDeafUdpPort } from '../linux/deaf-udp-port.ts'
import { SyscallError } from '../linux/errno.ts'
import type { Netns } from '../linux/netns.ts'
import { etherTypes, PacketSocket, type LinkPacket } from '../linux/packet-socket.ts'
import { DhcpClient, type DhcpEvents, type LeaseStorage } from './dhcp-client.ts'
import type { DhcpLink, LinkListener, OpenLink } from './link.ts'
import { clientPort, type DhcpIdentity } from './requests.ts'

export interface OpenDhcpClientOptions extends DhcpIdentity {
  /** The link to ask on. It must be up. */
  readonly link: string
  /** The namespace that it is in, open as long as the client lives. Default: this thread's. */
  readonly netns?: Netns
  readonly events: DhcpEvents
  readonly storage?: LeaseStorage
  readonly log: Log
  /** Milliseconds to look for others with the address before it is used; 0: not at all. Default 500. */
  readonly conflictCheckMs?: number
  readonly clock?: Clock
}

/** Starts a DHCP client on a link; `bound` is called before this returns when a lease was kept. Dispose it to stop and keep the lease; `release()` gives the lease back. */
export function openDhcpClient(options: OpenDhcpClientOptions): DhcpClient {
  const { link, netns, mac, clientId, hostname, events, storage, log, clock = systemClock } = options
  const client = new DhcpClient({
    identity: { mac, ...(clientId && { clientId }), ...(hostname !== undefined && { hostname }) },
    link: packetLink({ link, ...(netns && { netns }) }),
    events,
    ...(storage && { storage }),
    clock,
    log: log.child({ link }),
    random: Math.random,
    conflictCheckMs: options.conflictCheckMs ?? 500,
  })
  client.start()
  return client
}

/**
 * How often a link is asked for packets while an answer is awaited: soon, for a server of the LAN answers in a few
 * milliseconds, and then ever less. One look costs about 2 µs.
 */
const pollDelays = { first: 5, last: 100, growth: 1.1 }

/** Looks at most so often for one more packet at a time, so that a flood of them cannot hold up the event loop. */
const packetsAtOnce = 100

/** A link of the kernel. The clock here is always the machine's: packets come when they come. */
export function packetLink(options: { readonly link: string; readonly netns?: Netns }): DhcpLink {
  return {
    open(listener) {
      using resources = new DisposableStack()
      resources.use(takePort(options))
      const ip = resources.use(PacketSocket.open({ ...options, protocol: etherTypes.ipv4, filter: dhcpFilter }))
      const arp = resources.use(PacketSocket.open({ ...options, protocol: etherTypes.arp }))
      return listen({ ip, arp, owned: resources.move() }, listener)
    },
  }
}

/** A program that has the port already keeps the kernel from answering just as well. */
function takePort(options: { readonly link: string; readonly netns?: Netns }): Disposable | undefined {
  try {
    return takeDeafUdpPort({ port: clientPort, ...options })
  } catch (error) {
    if (error instanceof SyscallError && error.code === 'EADDRINUSE') return undefined
    throw error
  }
}

function listen(
  sockets: { readonly ip: PacketSocket; readonly arp: PacketSocket; readonly owned: DisposableStack },
  listener: LinkListener,
): OpenLink {
  const { ip, arp, owned } = sockets
  let timer: Timer | undefined
  let delay = pollDelays.first
  const drain = (socket: PacketSocket, onPacket: (packet: LinkPacket) => void): void => {
    for (let i = 0; i < packetsAtOnce && !owned.disposed; i++) {
      const packet = socket.receive()
      if (!packet) return
      onPacket(packet)
    }
  }
  const poll = (): void => {
    timer = undefined
    try {
      drain(ip, ({ payload, from }) => listener.onIp(payload, from))
      drain(arp, ({ payload }) => listener.onArp(payload))
    } catch (error) {
      return listener.onError(error)
    }
    // The listener may have disposed this, or sent something: then the next look is planned already.
    if (owned.disposed || timer) return
    delay = Math.min(delay * pollDelays.growth, pollDelays.last)
    timer = systemClock.after(delay, poll)
  }
  const soon = (): void => {
    timer?.cancel()
    delay = pollDelays.first
    timer = systemClock.after(delay, poll)
  }
  return {
    sendIp(payload, to) {
      ip.send(payload, to)
      soon()
    },
    sendArp(payload, to) {
      arp.send(payload, to)
      soon()
    },
    [Symbol.dispose]() {
      timer?.cancel()
      owned.dispose()
    },
  }
}

/** Classic BPF (include/uapi/linux/filter.h): UDP to port 68 in an unfragmented IPv4 packet. */
const dhcpFilter = Buffer.concat(
  [
    [0x30, 0, 0, 9], // ldb [9]: the protocol
    [0x15, 0, 6, 17], // jeq #17, or drop
    [0x28, 0, 0, 6], // ldh [6]: fragment
    [0x45, 4, 0, 0x3fff], // jset #0x3fff, drop
    [0xb1, 0, 0, 0], // ldxb 4*([0]&0xf): the header's length
    [0x48, 0, 0, 2], // ldh [x+2]: the destination port
    [0x15, 0, 1, clientPort], // jeq #68, or drop
    [0x06, 0, 0, 0xffff], // ret #65535
    [0x06, 0, 0, 0], // ret #0: drop
  ].map(([code = 0, jt = 0, jf = 0, k = 0]) => {
    const instruction = Buffer.alloc(8)
    instruction.writeUInt16LE(code, 0)
    instruction[2] = jt
    instruction[3] = jf
    instruction.writeUInt32LE(k, 4)
    return instruction
  }),
)
