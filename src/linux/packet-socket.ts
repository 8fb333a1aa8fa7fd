import { closeSync } from 'node:fs'
import { macFromBytes, macToBytes, type MacAddress } from '../net/mac-address.ts'
import { SyscallError } from './errno.ts'
import { attachSocketFilter, bindSocket, linkIndex, receiveFrom, sendTo, socket } from './libc.ts'
import type { Netns } from './netns.ts'

/* include/linux/socket.h, asm-generic/fcntl.h */
const AF_PACKET = 17
const SOCK_DGRAM = 2
const SOCK_NONBLOCK = 0x800
const SOCK_CLOEXEC = 0x8_0000

/** Protocols of Ethernet (include/uapi/linux/if_ether.h). */
export const etherTypes = { ipv4: 0x0800, arp: 0x0806 } as const

/** A packet without its Ethernet header, which the kernel makes and takes off (SOCK_DGRAM of packet(7)). */
export interface LinkPacket {
  readonly payload: Buffer
  readonly from: MacAddress
}

export interface PacketSocketOptions {
  /** Name of the link. */
  readonly link: string
  readonly protocol: number
  /** Classic BPF; the payload begins at offset 0. Without it, all packets of the protocol queue up. */
  readonly filter?: Uint8Array
  /** The namespace that the link is in. Default: this thread's. */
  readonly netns?: Netns
}

/** The largest payload of a frame that is looked at: more than any MTU of Ethernet (jumbo frames have 9,000). */
const largestPayload = 9216

/**
 * Packets of one protocol on one link (packet(7)), whatever addresses, routes and firewalls the link has. Non-blocking;
 * Node's event loop does not watch such sockets, so whoever waits for packets asks from time to time
 * (docs/adr/0006-dhcp-over-packet-sockets.md).
 */
export class PacketSocket implements Disposable {
  readonly #fd: number
  readonly #index: number
  readonly #protocol: number
  readonly #buffer = Buffer.alloc(largestPayload)
  readonly #address = Buffer.alloc(20)
  #open = true

  private constructor(fd: number, options: { index: number; protocol: number }) {
    this.#fd = fd
    this.#index = options.index
    this.#protocol = options.protocol
  }

  /** Throws {@link SyscallError}: ENODEV when there is no such link, EPERM without CAP_NET_RAW. */
  static open(options: PacketSocketOptions): PacketSocket {
    const { link, protocol, filter, netns } = options
    const open = (): PacketSocket => {
      const index = linkIndex(link)
      // Protocol 0 receives nothing: no packet passes before the filter and the link are set.
      const fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
      try {
        if (filter) attachSocketFilter(fd, filter)
        bindSocket(fd, linkAddress({ index, protocol }))
        return new PacketSocket(fd, { index, protocol })
      } catch (error) {
        closeSync(fd)
        throw error
      }
    }
    return netns ? netns.enter(open) : open()
  }

  /** Throws {@link SyscallError}: ENETDOWN when the link is down, ENXIO or ENODEV when it is gone. */
  send(payload: Uint8Array, to: MacAddress): void {
    sendTo(this.#fd, payload, linkAddress({ index: this.#index, protocol: this.#protocol, mac: to }))
  }

  /** The next packet, or undefined when none waits. A link that went down says so once (ENETDOWN), and is passed over. */
  receive(): LinkPacket | undefined {
    try {
      const length = receiveFrom(this.#fd, this.#buffer, this.#address)
      if (length === undefined) return undefined
      const macLength = Math.min(this.#address[11] ?? 0, 6)
      const mac = Buffer.alloc(6)
      this.#address.copy(mac, 0, 12, 12 + macLength)
      return { payload: Buffer.from(this.#buffer.subarray(0, length)), from: macFromBytes(mac) }
    } catch (error) {
      if (error instanceof SyscallError && error.code === 'ENETDOWN') return undefined
      throw error
    }
  }

  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#open = false
    closeSync(this.#fd)
  }
}

/** struct sockaddr_ll of include/uapi/linux/if_packet.h. */
function linkAddress(options: { index: number; protocol: number; mac?: MacAddress }): Buffer {
  const address = Buffer.alloc(20)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeUInt16BE(options.protocol, 2)
  address.writeInt32LE(options.index, 4)
  if (options.mac) {
    address[11] = 6
    address.set(macToBytes(options.mac), 12)
  }
  return address
}
