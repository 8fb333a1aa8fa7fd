import { constants } from 'node:os'

const names = new Map<number, string>(Object.entries(constants.errno).map(([name, number]) => [number, name]))
// Numbers that Node's table lacks (asm-generic/errno.h).
names.set(85, 'ERESTART').set(54, 'EXFULL').set(3, 'ESRCH').set(524, 'ENOTSUPP')

/** `ENOENT` for 2; `errno 999` for a number that has no name here. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`
}

/** A system call that failed. `errno` is positive. */
export class SyscallError extends Error {
  override readonly name = 'SyscallError'
  readonly syscall: string
  readonly errno: number
  readonly code: string

  constructor(syscall: string, errno: number, detail = '') {
    const code = errnoName(errno)
    super(`${syscall}${detail && ` ${detail}`}: ${code}`)
    this.syscall = syscall
    this.errno = errno
    this.code = code
  }
}
