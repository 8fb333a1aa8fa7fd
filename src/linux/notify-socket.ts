import { closeSync } from 'node:fs'
import { sendTo, socket } from './libc.ts'

// include/linux/socket.h, include/linux/net.h
const [AF_UNIX, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC] = [1, 2, 0o4000, 0o2000000]
/** sizeof(sun_path), include/uapi/linux/un.h */
const longestPath = 108

/**
 * The way to a service supervisor: the unix datagram socket that it names in NOTIFY_SOCKET (sd_notify(3), which says that the
 * protocol may be spoken without libsystemd). Node has no datagram sockets of this kind.
 */
export class NotifySocket implements Disposable {
  readonly #address: Buffer
  readonly #fd: number

  private constructor(address: Buffer, fd: number) {
    this.#address = address
    this.#fd = fd
  }

  /** `path` as in NOTIFY_SOCKET: absolute, or `@` and an abstract name. Throws RangeError, SyscallError. */
  static open(path: string): NotifySocket {
    const address = unixAddress(path)
    // A supervisor that does not read must not stop us: what does not fit into its queue is refused (EAGAIN).
    return new NotifySocket(address, socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  }

  /** Sends assignments such as `READY=1`, in one datagram. Throws SyscallError. */
  send(assignments: readonly string[]): void {
    sendTo(this.#fd, Buffer.from(assignments.join('\n')), this.#address)
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** struct sockaddr_un of a path, or of an abstract name behind `@` (unix(7)). Throws RangeError. */
export function unixAddress(path: string): Buffer {
  const abstract = path.startsWith('@')
  const name = Buffer.from(abstract ? `\0${path.slice(1)}` : path)
  if (!abstract && !path.startsWith('/')) throw new RangeError(`not the address of a unix socket: "${path}"`)
  if (name.length < 2 || name.length >= longestPath) {
    throw new RangeError(
      `the address of a unix socket has 2 to ${longestPath - 1} bytes, not ${name.length}: "${path}"`,
    )
  }
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  // A path ends with a zero byte, an abstract name with its length.
  return Buffer.concat(abstract ? [family, name] : [family, name, Buffer.alloc(1)])
}
