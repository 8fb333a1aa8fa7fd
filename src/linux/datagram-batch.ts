import { constants } from 'node:os'
import koffi from 'koffi'
import { SyscallError } from './errno.ts'
import { longestWait, packetInfoSize, socketAddressSize } from './udp-socket.ts'

const libc = koffi.load('libc.so.6')
// Addresses are given as numbers: to look into typed arrays would cost more than the rest of the call.
const recvmmsgFunction = libc.func('int recvmmsg(int fd, uint64_t vector, uint32_t count, int flags, uint64_t timeout)')
const sendmmsgFunction = libc.func('int sendmmsg(int fd, uint64_t vector, uint32_t count, int flags)')
const pollFunction = libc.func('int poll(uint64_t fds, uint64_t count, int timeout)')

/* include/linux/socket.h, asm-generic/poll.h */
const MSG_TRUNC = 0x20
const MSG_DONTWAIT = 0x40
const MSG_WAITFORONE = 0x1_0000
const POLLIN = 1
/** include/uapi/linux/in.h */
const IP_PKTINFO = 8

/** Octets of a datagram that are kept: far more than any DNS query has that is not hostile. */
const datagramSize = 4096
/** From one datagram to the next: not a power of two, or all would begin in the same set of the CPU's first cache. */
const stride = datagramSize + 192
/** struct mmsghdr of 64-bit Linux in 32-bit words: name, its length, parts, their count, control, its length, flags, octets. */
const words = { size: 16, name: 0, nameLength: 2, parts: 4, partCount: 6, control: 8, controlLength: 10, flags: 12 }
const messageLengthWord = 14
/** struct iovec in 32-bit words. */
const partWords = 4
/** Sockets that one thread waits for at a time. */
export const mostSockets = 64

/**
 * Datagrams that are received together, answered in place and sent together: recvmmsg(2) and sendmmsg(2) over memory that
 * is allocated once. Nothing is allocated per datagram. 64-bit Linux, little endian.
 */
export class DatagramBatch {
  /** All datagrams; number i begins at {@link start}(i). */
  readonly bytes: Uint8Array
  readonly capacity: number
  /** Senders' socket addresses, {@link socketAddressSize} octets each. */
  readonly addresses: Uint8Array
  /** Control data, {@link packetInfoSize} octets each. */
  readonly controls: Uint8Array
  readonly #received: Uint32Array
  readonly #receivedAt: number
  readonly #sent: Uint32Array
  readonly #sentAt: number
  readonly #sentParts: Uint32Array
  readonly #polled: Uint32Array
  readonly #polledAt: number
  /** Low and high words of the places of datagram, address and control data of each number. */
  readonly #places: Uint32Array
  readonly #inParts: Uint32Array
  #queued = 0

  constructor(capacity = 64) {
    this.capacity = capacity
    this.bytes = outside(capacity * stride)
    this.addresses = outside(capacity * socketAddressSize)
    this.controls = outside(capacity * packetInfoSize)
    this.#received = wordsOf(capacity * words.size)
    this.#sent = wordsOf(capacity * words.size)
    this.#inParts = wordsOf(capacity * partWords)
    this.#sentParts = wordsOf(capacity * partWords)
    this.#polled = wordsOf(mostSockets * 2)
    this.#places = wordsOf(capacity * 6)
    this.#receivedAt = addressOf(this.#received)
    this.#sentAt = addressOf(this.#sent)
    this.#polledAt = addressOf(this.#polled)
    const [bytesAt, addressesAt, controlsAt] = [this.bytes, this.addresses, this.controls].map(addressOf)
    const [inPartsAt, outPartsAt] = [addressOf(this.#inParts), addressOf(this.#sentParts)]
    for (let i = 0; i < capacity; i++) {
      const at = i * words.size
      const own = [
        (bytesAt ?? 0) + i * stride,
        (addressesAt ?? 0) + i * socketAddressSize,
        (controlsAt ?? 0) + i * packetInfoSize,
      ]
      for (const [k, address] of own.entries()) writePointer(this.#places, i * 6 + k * 2, address)
      writePointer(this.#inParts, i * partWords, own[0] ?? 0)
      this.#inParts[i * partWords + 2] = datagramSize
      writePointer(this.#received, at + words.name, own[1] ?? 0)
      writePointer(this.#received, at + words.control, own[2] ?? 0)
      writePointer(this.#received, at + words.parts, inPartsAt + i * partWords * 4)
      writePointer(this.#sent, at + words.parts, outPartsAt + i * partWords * 4)
      this.#received[at + words.partCount] = 1
      this.#sent[at + words.partCount] = 1
      this.#received[at + words.nameLength] = socketAddressSize
    }
  }

  /** Where datagram i begins in {@link bytes}. */
  start(i: number): number {
    return i * stride
  }

  /**
   * Receives what waits at a socket, at most {@link capacity}, and returns how many there are; with `wait`, waits for the
   * first one, at most {@link longestWait}. 0: none, or the wait was ended. Throws {@link SyscallError}.
   */
  receive(fd: number, { wait, packetInfo }: { readonly wait: boolean; readonly packetInfo: boolean }): number {
    if (packetInfo) {
      for (let i = 0; i < this.capacity; i++) this.#received[i * words.size + words.controlLength] = packetInfoSize
    }
    const flags = wait ? MSG_WAITFORONE : MSG_DONTWAIT
    const count = Number(recvmmsgFunction(fd, this.#receivedAt, this.capacity, flags, 0))
    this.#queued = 0
    if (count > 0) {
      if (packetInfo) this.#forgetLinks(count)
      return count
    }
    const errno = count < 0 ? koffi.errno() : constants.errno.EAGAIN
    // ECONNREFUSED: a client of a connected socket is gone (UdpSocket.leaveGroup).
    const { EAGAIN, EINTR, ECONNREFUSED } = constants.errno
    if (errno === EAGAIN || errno === EINTR || errno === ECONNREFUSED) return 0
    throw new SyscallError('recvmmsg', errno)
  }

  /** Answers take the way of the routing table, whatever link the question came over; a link-local address needs its link. */
  #forgetLinks(count: number): void {
    const { controls } = this
    for (let i = 0; i < count; i++) {
      // struct cmsghdr (length of 8 octets, level, type), then struct in_pktinfo (link first) or in6_pktinfo (link last).
      const at = i * packetInfoSize
      const isIPv4 = controls[at + 12] === IP_PKTINFO
      const isLinkLocal = controls[at + 16] === 0xfe && ((controls[at + 17] ?? 0) & 0xc0) === 0x80
      if (isIPv4) controls.fill(0, at + 16, at + 20)
      else if (!isLinkLocal) controls.fill(0, at + 32, at + 36)
    }
  }

  /** Octets of datagram i. */
  length(i: number): number {
    return this.#received[i * words.size + messageLengthWord] ?? 0
  }

  /** Whether datagram i was longer than what was kept. */
  isCut(i: number): boolean {
    return ((this.#received[i * words.size + words.flags] ?? 0) & MSG_TRUNC) !== 0
  }

  /** Octets of the sender's address of datagram i. */
  addressLength(i: number): number {
    return this.#received[i * words.size + words.nameLength] ?? 0
  }

  controlLength(i: number): number {
    return this.#received[i * words.size + words.controlLength] ?? 0
  }

  /** Puts the first `length` octets at the place of datagram i, an answer, among those that go back to their senders. */
  queue(i: number, length: number): void {
    const at = this.#queued * words.size
    const part = this.#queued * partWords
    const place = i * 6
    const from = i * words.size
    const { name, nameLength, control, controlLength } = words
    this.#sentParts[part] = this.#places[place] ?? 0
    this.#sentParts[part + 1] = this.#places[place + 1] ?? 0
    this.#sentParts[part + 2] = length
    this.#sent[at + name] = this.#places[place + 2] ?? 0
    this.#sent[at + name + 1] = this.#places[place + 3] ?? 0
    this.#sent[at + nameLength] = this.#received[from + nameLength] ?? 0
    this.#sent[at + control] = this.#places[place + 4] ?? 0
    this.#sent[at + control + 1] = this.#places[place + 5] ?? 0
    this.#sent[at + controlLength] = this.#received[from + controlLength] ?? 0
    this.#queued++
  }

  /**
   * Sends what was queued, and makes ready for the next {@link receive}. Returns how many could not be sent: the kernel has no room, or their senders
   * cannot be reached; they will ask again, if they still want to know.
   */
  send(fd: number, received: number): number {
    let unsent = 0
    for (let done = 0; done < this.#queued;) {
      const count = this.#queued - done
      const sent = Number(sendmmsgFunction(fd, this.#sentAt + done * words.size * 4, count, MSG_DONTWAIT))
      if (sent > 0) done += sent
      else {
        const isFull = koffi.errno() === constants.errno.EAGAIN
        unsent += isFull ? count : 1
        done += isFull ? count : 1
      }
    }
    this.#queued = 0
    for (let i = 0; i < received; i++) this.#received[i * words.size + words.nameLength] = socketAddressSize
    return unsent
  }

  /** Waits until one of the sockets, at most {@link mostSockets}, has something, or for {@link longestWait}. */
  wait(fds: readonly number[]): void {
    for (const [i, fd] of fds.entries()) {
      this.#polled[i * 2] = fd
      this.#polled[i * 2 + 1] = POLLIN
    }
    pollFunction(this.#polledAt, fds.length, longestWait)
  }
}

/** Typed arrays of less than 64 octets live on V8's heap and move; those over a buffer of their own never do. */
function outside(octets: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(Math.max(octets, 128)))
}

function wordsOf(count: number): Uint32Array {
  return new Uint32Array(outside(count * 4).buffer)
}

function addressOf(array: Uint8Array | Uint32Array): number {
  // User addresses have 47 bits, or 48: a number holds them.
  return Number(koffi.address(array))
}

function writePointer(into: Uint32Array, word: number, address: number): void {
  into[word] = address % 0x1_0000_0000
  into[word + 1] = Math.floor(address / 0x1_0000_0000)
}
