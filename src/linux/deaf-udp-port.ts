import { closeSync } from 'node:fs'
import { bindSocket, bindSocketToLink, socket } from './libc.ts'
import type { Netns } from './netns.ts'

/* include/linux/socket.h, asm-generic/fcntl.h */
const AF_INET = 2
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0x8_0000

/**
 * Takes a UDP port of one link without ever reading from it, until disposed. A program that reads its packets with a
 * PacketSocket needs it: otherwise the kernel, which sees them too, answers them with "port unreachable". Throws
 * SyscallError (EADDRINUSE).
 */
export function takeDeafUdpPort(options: { port: number; link: string; netns?: Netns }): Disposable {
  const open = (): Disposable => {
    const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try {
      bindSocketToLink(fd, options.link)
      const address = Buffer.alloc(16)
      address.writeUInt16LE(AF_INET, 0)
      address.writeUInt16BE(options.port, 2)
      bindSocket(fd, address)
    } catch (error) {
      closeSync(fd)
      throw error
    }
    let isOpen = true
    return {
      [Symbol.dispose]() {
        if (isOpen) closeSync(fd)
        isOpen = false
      },
    }
  }
  return options.netns ? options.netns.enter(open) : open()
}
