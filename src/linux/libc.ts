import { constants } from 'node:os'
import koffi from 'koffi'
import { SyscallError } from './errno.ts'

/*
 * The only native calls that are ours. Everything else native is in the `netlink` package. koffi calls block the event
 * loop for the length of the system call (about 2 µs each), which is what setns(2) needs: it changes the calling thread.
 */
const libc = koffi.load('libc.so.6')

const setnsFunction = libc.func('int setns(int fd, int nstype)')
const unshareFunction = libc.func('int unshare(int flags)')
const mountFunction = libc.func('int mount(str source, str target, str type, unsigned long flags, void *options)')
const umount2Function = libc.func('int umount2(str target, int flags)')
const setsockoptFunction = libc.func(
  'int setsockopt(int fd, int level, int name, _In_ int32_t *value, uint32_t length)',
)
const getsockoptFunction = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ int32_t *value, _Inout_ uint32_t *length)',
)
const getsockoptBytesFunction = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
)
const getsockoptStructFunction = libc.func(
  'int getsockopt(int fd, int level, int name, _Inout_ uint8_t *value, _Inout_ uint32_t *length)',
)
const socketFunction = libc.func('int socket(int domain, int type, int protocol)')
const socketpairFunction = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)')
const bindFunction = libc.func('int bind(int fd, _In_ uint8_t *address, uint32_t length)')
const sendtoFunction = libc.func(
  'int64_t sendto(int fd, _In_ uint8_t *bytes, size_t length, int flags, _In_ uint8_t *address, uint32_t addressLength)',
)
const sendFunction = libc.func('int64_t send(int fd, _In_ uint8_t *bytes, size_t length, int flags)')
const recvfromFunction = libc.func(
  'int64_t recvfrom(int fd, _Out_ uint8_t *bytes, size_t length, int flags, _Out_ uint8_t *address, _Inout_ uint32_t *addressLength)',
)
const ifNameToIndexFunction = libc.func('uint32_t if_nametoindex(str name)')
/** struct sock_fprog of include/uapi/linux/filter.h. */
koffi.struct('sock_fprog', { length: 'uint16_t', instructions: 'uint8_t *' })
const setsockoptFilterFunction = libc.func(
  'int setsockopt(int fd, int level, int name, _In_ sock_fprog *value, uint32_t length)',
)
const setsockoptBytesFunction = libc.func(
  'int setsockopt(int fd, int level, int name, _In_ uint8_t *value, uint32_t length)',
)
const getsocknameFunction = libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)')

/** include/uapi/linux/sched.h */
export const CLONE_FS = 0x200
export const CLONE_NEWNS = 0x2_0000
export const CLONE_NEWNET = 0x4000_0000
/** include/uapi/linux/mount.h */
export const MS_BIND = 0x1000
export const MS_REC = 0x4000
export const MS_SHARED = 1 << 20
export const MNT_DETACH = 2

/** Moves the calling thread into the namespace behind `fd`. Throws {@link SyscallError}. */
export function setns(fd: number, type: number): void {
  check(setnsFunction(fd, type), 'setns')
}

/** Gives the calling thread new namespaces. Throws {@link SyscallError}. */
export function unshare(flags: number): void {
  check(unshareFunction(flags), 'unshare')
}

export function mount(source: string, target: string, flags: number): void {
  check(mountFunction(source, target, null, flags, null), 'mount', target)
}

export function umount(target: string, flags: number): void {
  check(umount2Function(target, flags), 'umount2', target)
}

/** Sets an integer socket option. Throws {@link SyscallError}. */
export function setSocketOption(fd: number, level: number, option: number, value: number): void {
  check(setsockoptFunction(fd, level, option, [value], 4), 'setsockopt')
}

/** Reads an integer socket option; undefined when `fd` is not a socket or has no such option. */
export function getSocketOption(fd: number, level: number, option: number): number | undefined {
  const value: [number] = [0]
  return getsockoptFunction(fd, level, option, value, [4]) === 0 ? value[0] : undefined
}

/** Fills in a struct of which the kernel reads a part first; false when it refuses, and then `value` may have changed. */
export function getSocketStruct(fd: number, level: number, option: number, value: Uint8Array): boolean {
  return getsockoptStructFunction(fd, level, option, value, [value.length]) === 0
}

/** How many messages the kernel dropped for a socket since it was opened, because nobody read them in time (SO_MEMINFO). */
export function getSocketDrops(fd: number): number {
  // include/uapi/asm-generic/socket.h; SK_MEMINFO_DROPS is the ninth of the u32 (include/uapi/linux/sock_diag.h)
  const [SOL_SOCKET, SO_MEMINFO, SK_MEMINFO_DROPS] = [1, 55, 8]
  const value = Buffer.alloc(4 * (SK_MEMINFO_DROPS + 1))
  const result: unknown = getsockoptBytesFunction(fd, SOL_SOCKET, SO_MEMINFO, value, [value.length])
  return result === 0 ? value.readUInt32LE(4 * SK_MEMINFO_DROPS) : 0
}

/** The raw sockaddr that a socket is bound to; undefined when `fd` is not a socket. */
export function getSocketName(fd: number): Buffer | undefined {
  const address = Buffer.alloc(128)
  const length: [number] = [address.length]
  return getsocknameFunction(fd, address, length) === 0 ? address.subarray(0, length[0]) : undefined
}

/** A new socket's descriptor; close it with `closeSync` of node:fs. Throws {@link SyscallError}. */
export function socket(domain: number, type: number, protocol: number): number {
  const fd = Number(socketFunction(domain, type, protocol))
  if (fd < 0) throw new SyscallError('socket', koffi.errno())
  return fd
}

/**
 * Two stream sockets that are connected to each other, and which programs do not inherit by themselves. Close both with `closeSync` of
 * node:fs. Throws {@link SyscallError}.
 */
export function socketPair(): [number, number] {
  // include/linux/socket.h, include/linux/net.h
  const [AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC] = [1, 1, 0o200_0000]
  const fds: [number, number] = [-1, -1]
  check(socketpairFunction(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 'socketpair')
  return fds
}

/**
 * Sets how many bytes the kernel holds of what a socket sends; without CAP_NET_ADMIN at most `net.core.wmem_max`. Throws
 * {@link SyscallError}.
 */
export function setSendBuffer(fd: number, bytes: number): void {
  // include/uapi/asm-generic/socket.h
  const [SOL_SOCKET, SO_SNDBUF, SO_SNDBUFFORCE] = [1, 7, 32]
  const forced = setsockoptFunction(fd, SOL_SOCKET, SO_SNDBUFFORCE, [bytes], 4) === 0
  if (!forced) setSocketOption(fd, SOL_SOCKET, SO_SNDBUF, bytes)
}

/** Binds a socket to a raw sockaddr. Throws {@link SyscallError}. */
export function bindSocket(fd: number, address: Uint8Array): void {
  check(bindFunction(fd, address, address.length), 'bind')
}

/** Sends one datagram to a raw sockaddr. Throws {@link SyscallError}. */
export function sendTo(fd: number, bytes: Uint8Array, address: Uint8Array): void {
  if (Number(sendtoFunction(fd, bytes, bytes.length, 0, address, address.length)) < 0) {
    throw new SyscallError('sendto', koffi.errno())
  }
}

/**
 * Sends one datagram to whom the socket is connected to, in a thread of Node's pool (it has four), so that a kernel that
 * takes its time keeps nobody else waiting. Neither `fd` nor `bytes` may be given to others before it resolves. Rejects
 * with {@link SyscallError}.
 */
export async function sendInPool(fd: number, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    sendFunction.async(fd, bytes, bytes.length, 0, (error: Error | null, sent: number | bigint) => {
      if (error) reject(error)
      else if (Number(sent) < 0) reject(new SyscallError('send', koffi.errno()))
      // `bytes` is named here so that it lives until now.
      else if (Number(sent) < bytes.length) reject(new Error(`sent ${sent} of ${bytes.length} bytes`))
      else resolve()
    })
  })
}

/**
 * Reads one datagram into `bytes` and its sender's sockaddr into `address`, and returns how long it is; undefined when
 * none waits (the socket must be non-blocking). Throws {@link SyscallError}.
 */
export function receiveFrom(fd: number, bytes: Uint8Array, address: Uint8Array): number | undefined {
  const length = Number(recvfromFunction(fd, bytes, bytes.length, 0, address, [address.length]))
  if (length >= 0) return length
  const errno = koffi.errno()
  if (errno === constants.errno.EAGAIN) return undefined
  throw new SyscallError('recvfrom', errno)
}

/** Lets a socket keep only the packets that a classic BPF program accepts; 8 bytes an instruction. Throws {@link SyscallError}. */
export function attachSocketFilter(fd: number, program: Uint8Array): void {
  // include/uapi/asm-generic/socket.h
  const [SOL_SOCKET, SO_ATTACH_FILTER] = [1, 26]
  const filter = { length: program.length / 8, instructions: program }
  check(setsockoptFilterFunction(fd, SOL_SOCKET, SO_ATTACH_FILTER, filter, 16), 'setsockopt', 'SO_ATTACH_FILTER')
}

/** Ties a socket to one link (SO_BINDTODEVICE). Throws {@link SyscallError}. */
export function bindSocketToLink(fd: number, link: string): void {
  const [SOL_SOCKET, SO_BINDTODEVICE] = [1, 25]
  const name = Buffer.from(`${link}\0`)
  check(setsockoptBytesFunction(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length), 'setsockopt', link)
}

/** The index of a link of the calling thread's network namespace. Throws {@link SyscallError} ENODEV. */
export function linkIndex(name: string): number {
  const index = Number(ifNameToIndexFunction(name))
  if (index === 0) throw new SyscallError('if_nametoindex', koffi.errno(), name)
  return index
}

function check(result: unknown, syscall: string, detail?: string): void {
  if (result !== 0) throw new SyscallError(syscall, koffi.errno(), detail)
}
