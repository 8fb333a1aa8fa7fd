import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import koffi from 'koffi'
import { ipFamilyOf, ipFromBytes, ipToBytes, type IpAddress } from '../net/ip-address.ts'
import { SyscallError } from './errno.ts'
import { bindSocket, getSocketName, getSocketOption, receiveFrom, sendTo, setSocketOption, socket } from './libc.ts'

const libc = koffi.load('libc.so.6')
const connectFunction = libc.func('int connect(int fd, _In_ uint8_t *address, uint32_t length)')
const listenFunction = libc.func('int listen(int fd, int backlog)')

/* include/linux/socket.h, linux/in.h, linux/in6.h, asm-generic/socket.h */
const [AF_INET, AF_INET6] = [2, 10]
const [SOCK_STREAM, SOCK_SEQPACKET, SOCK_NONBLOCK, SOCK_CLOEXEC] = [1, 5, 0x800, 0x8_0000]
const IPPROTO_SCTP = 132
const [SOL_SOCKET, SO_ERROR] = [1, 4]
const [IPPROTO_IP, IP_RECVERR, IPPROTO_IPV6, IPV6_RECVERR] = [0, 11, 41, 25]

/** Where an association ends. */
export interface SctpPeer {
  readonly ip: IpAddress
  readonly port: number
}

/** A message, and who sent it. */
export interface SctpMessage {
  readonly text: string
  readonly from: SctpPeer
}

/** Whether this kernel has SCTP. Loads it where it is a module. */
export function hasSctp(): boolean {
  try {
    closeSync(socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP))
    return true
  } catch (error) {
    if (error instanceof SyscallError) return false
    throw error
  }
}

/**
 * An SCTP socket (sctp(7)), which Node has not: small messages of text, never blocking. Node's event loop does not watch it, so
 * whoever waits for messages asks from time to time.
 */
export class SctpSocket implements Disposable {
  readonly #fd: number
  readonly #bytes = Buffer.alloc(4096)
  readonly #address = Buffer.alloc(128)
  #open = true

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** One socket for all who connect (one to many): answers go to where a message came from. Throws {@link SyscallError}. */
  static listen({ ip, port }: SctpPeer): SctpSocket {
    const listener = SctpSocket.#create(ip, SOCK_SEQPACKET)
    try {
      bindSocket(listener.#fd, socketAddress({ ip, port }))
      listener.#check(listenFunction(listener.#fd, 1024), 'listen')
      return listener
    } catch (error) {
      listener[Symbol.dispose]()
      throw error
    }
  }

  /** Begins an association (one to one). Throws {@link SyscallError}: refusals that come at once, and addresses that are none. */
  static connect(to: SctpPeer, { source }: { readonly source?: SctpPeer } = {}): SctpSocket {
    const client = SctpSocket.#create(to.ip, SOCK_STREAM)
    try {
      if (source) bindSocket(client.#fd, socketAddress(source))
      // ICMP errors end the attempt, as they do with UDP.
      const isIpv4 = ipFamilyOf(to.ip) === 4
      setSocketOption(client.#fd, isIpv4 ? IPPROTO_IP : IPPROTO_IPV6, isIpv4 ? IP_RECVERR : IPV6_RECVERR, 1)
      const address = socketAddress(to)
      const result: unknown = connectFunction(client.#fd, address, address.length)
      if (result !== 0 && koffi.errno() !== constants.errno.EINPROGRESS)
        throw new SyscallError('connect', koffi.errno())
      return client
    } catch (error) {
      client[Symbol.dispose]()
      throw error
    }
  }

  static #create(ip: IpAddress, type: number): SctpSocket {
    const family = ipFamilyOf(ip) === 4 ? AF_INET : AF_INET6
    return new SctpSocket(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_SCTP))
  }

  /** The address that the socket is bound to. */
  get own(): SctpPeer {
    return readAddress(getSocketName(this.#fd) ?? Buffer.alloc(128))
  }

  /** Why the association could not be made, or has ended: an errno; 0 when nothing is known. Asking forgets it. */
  takeError(): number {
    return getSocketOption(this.#fd, SOL_SOCKET, SO_ERROR) ?? 0
  }

  /** A message that has come; undefined: none yet. Throws {@link SyscallError}. */
  receive(): SctpMessage | undefined {
    const length = receiveFrom(this.#fd, this.#bytes, this.#address)
    if (length === undefined) return undefined
    return { text: this.#bytes.toString('utf8', 0, length), from: readAddress(this.#address) }
  }

  /** Sends a message to a peer. Throws {@link SyscallError}: EAGAIN while the association is being made. */
  send(text: string, to: SctpPeer): void {
    sendTo(this.#fd, Buffer.from(text), socketAddress(to))
  }

  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#open = false
    closeSync(this.#fd)
  }

  #check(result: unknown, syscall: string): void {
    if (result !== 0) throw new SyscallError(syscall, koffi.errno())
  }
}

/** struct sockaddr_in, sockaddr_in6 */
function socketAddress({ ip, port }: SctpPeer): Buffer {
  const isIpv4 = ipFamilyOf(ip) === 4
  const address = Buffer.alloc(isIpv4 ? 16 : 28)
  address.writeUInt16LE(isIpv4 ? AF_INET : AF_INET6)
  address.writeUInt16BE(port, 2)
  address.set(ipToBytes(ip), isIpv4 ? 4 : 8)
  return address
}

function readAddress(address: Buffer): SctpPeer {
  const isIpv4 = address.readUInt16LE() !== AF_INET6
  return {
    ip: ipFromBytes(isIpv4 ? address.subarray(4, 8) : address.subarray(8, 24)),
    port: address.readUInt16BE(2),
  }
}
