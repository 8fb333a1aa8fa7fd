import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import koffi from 'koffi'
import { SyscallError } from './errno.ts'
import { bindSocket, getSocketName, setSocketOption, socket } from './libc.ts'

const libc = koffi.load('libc.so.6')

const connectFunction = libc.func('int connect(int fd, _In_ uint8_t *address, uint32_t length)')
const listenFunction = libc.func('int listen(int fd, int backlog)')
const acceptFunction = libc.func('int accept4(int fd, void *address, void *length, int flags)')
const sendFunction = libc.func('int64_t send(int fd, _In_ uint8_t *bytes, size_t length, int flags)')
const sendtoFunction = libc.func(
  'int64_t sendto(int fd, _In_ uint8_t *bytes, size_t length, int flags, _In_ uint8_t *address, uint32_t addressLength)',
)
const recvFunction = libc.func('int64_t recv(int fd, _Out_ uint8_t *bytes, size_t length, int flags)')
const recvfromFunction = libc.func(
  'int64_t recvfrom(int fd, _Out_ uint8_t *bytes, size_t length, int flags, _Out_ uint8_t *address, _Inout_ uint32_t *addressLength)',
)
const pollFunction = libc.func('int poll(_Inout_ uint8_t *fds, unsigned long count, int timeout)')
const setsockoptBytes = libc.func('int setsockopt(int fd, int level, int name, _In_ uint8_t *value, uint32_t length)')

const AF_INET = 2
const types = { tcp: 1, udp: 2 } as const
const SOCK_CLOEXEC = 0o2000000
/* include/uapi/asm-generic/socket.h */
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_LINGER = 13
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const MSG_NOSIGNAL = 0x4000

/**
 * An IPv4 socket whose calls block the thread, and so take as long as the kernel does: to measure with, where an event loop would be
 * measured, too. Dispose it to close it.
 */
export class BlockingSocket implements Disposable {
  readonly fd: number

  private constructor(fd: number) {
    this.fd = fd
  }

  /** Opens one in the calling thread's network namespace. Calls that take longer than `timeoutMs` fail with EAGAIN. Throws {@link SyscallError}. */
  static open(protocol: 'tcp' | 'udp', options: { readonly timeoutMs?: number } = {}): BlockingSocket {
    const opened = new BlockingSocket(socket(AF_INET, types[protocol] | SOCK_CLOEXEC, 0))
    const { timeoutMs } = options
    if (timeoutMs !== undefined) {
      const time = Buffer.alloc(16)
      time.writeBigInt64LE(BigInt(Math.trunc(timeoutMs / 1000)), 0)
      time.writeBigInt64LE(BigInt(Math.trunc(timeoutMs % 1000) * 1000), 8)
      for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
        check(setsockoptBytes(opened.fd, SOL_SOCKET, option, time, time.length), 'setsockopt')
      }
    }
    return opened
  }

  /** Binds and, with TCP, listens. Throws {@link SyscallError}. */
  static listen(protocol: 'tcp' | 'udp', address: Uint8Array): BlockingSocket {
    const opened = BlockingSocket.open(protocol)
    try {
      setSocketOption(opened.fd, SOL_SOCKET, SO_REUSEADDR, 1)
      bindSocket(opened.fd, address)
      if (protocol === 'tcp') check(listenFunction(opened.fd, 4096), 'listen')
      return opened
    } catch (error) {
      opened[Symbol.dispose]()
      throw error
    }
  }

  /** Binds to a sockaddr. Throws {@link SyscallError}. */
  bind(address: Uint8Array): void {
    bindSocket(this.fd, address)
  }

  /** Returns when the handshake is over (TCP). Throws {@link SyscallError}. */
  connect(address: Uint8Array): void {
    check(connectFunction(this.fd, address, address.length), 'connect')
  }

  /** Waits for a connection. Throws {@link SyscallError}. */
  accept(): BlockingSocket {
    const fd = Number(acceptFunction(this.fd, null, null, SOCK_CLOEXEC))
    if (fd < 0) throw new SyscallError('accept4', koffi.errno())
    return new BlockingSocket(fd)
  }

  /** Throws {@link SyscallError}. */
  send(bytes: Uint8Array): void {
    if (Number(sendFunction(this.fd, bytes, bytes.length, MSG_NOSIGNAL)) < 0)
      throw new SyscallError('send', koffi.errno())
  }

  /** Sends a datagram. Throws {@link SyscallError}. */
  sendTo(bytes: Uint8Array, address: Uint8Array): void {
    if (Number(sendtoFunction(this.fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length)) < 0)
      throw new SyscallError('sendto', koffi.errno())
  }

  /** Waits for bytes, and says how many came; 0: the other side ended the connection. Throws {@link SyscallError}. */
  receive(bytes: Uint8Array): number {
    const length = Number(recvFunction(this.fd, bytes, bytes.length, 0))
    if (length < 0) throw new SyscallError('recv', koffi.errno())
    return length
  }

  /** Waits for a datagram, and fills in its sender's sockaddr. Throws {@link SyscallError}. */
  receiveFrom(bytes: Uint8Array, address: Uint8Array): number {
    const length = Number(recvfromFunction(this.fd, bytes, bytes.length, 0, address, [address.length]))
    if (length < 0) throw new SyscallError('recvfrom', koffi.errno())
    return length
  }

  /** Closing sends RST instead of FIN, and leaves no TIME_WAIT behind. Throws {@link SyscallError}. */
  resetOnClose(): void {
    const linger = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])
    check(setsockoptBytes(this.fd, SOL_SOCKET, SO_LINGER, linger, linger.length), 'setsockopt')
  }

  /** The four bytes of the address that the socket is bound to. */
  ownAddress(): Buffer {
    return getSocketName(this.fd)?.subarray(4, 8) ?? Buffer.alloc(4)
  }

  [Symbol.dispose](): void {
    closeSync(this.fd)
  }
}

/** The sockaddr_in of an IPv4 address and a port. */
export function socketAddress(ip: string, port: number): Buffer {
  const address = Buffer.alloc(16)
  address.writeUInt16LE(AF_INET, 0)
  address.writeUInt16BE(port, 2)
  address.set(ip.split('.').map(Number), 4)
  return address
}

/** Waits until one of the descriptors can be read, and returns those that can, or have ended. Throws {@link SyscallError}. */
export function pollReadable(fds: readonly number[]): number[] {
  const POLLIN = 1
  const entries = Buffer.alloc(8 * fds.length)
  for (const [i, fd] of fds.entries()) {
    entries.writeInt32LE(fd, 8 * i)
    entries.writeInt16LE(POLLIN, 8 * i + 4)
  }
  if (Number(pollFunction(entries, fds.length, -1)) < 0) {
    const errno = koffi.errno()
    if (errno === constants.errno.EINTR) return []
    throw new SyscallError('poll', errno)
  }
  return fds.filter((_, i) => entries.readInt16LE(8 * i + 6) !== 0)
}

function check(result: unknown, syscall: string): void {
  if (result !== 0) throw new SyscallError(syscall, koffi.errno())
}
