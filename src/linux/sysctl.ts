import { readFileSync, writeFileSync } from 'node:fs'
import type { Netns } from './netns.ts'

/** A kernel setting that could not be read or written. */
export class SysctlError extends Error {
  override readonly name = 'SysctlError'
  readonly sysctl: string
  /** `ENOENT`: this kernel (or namespace) has no such setting; `EACCES`, `EROFS`: not allowed; `EINVAL`: not that value. */
  readonly code: string | undefined

  constructor(action: string, sysctl: string, cause: NodeJS.ErrnoException) {
    super(`cannot ${action} sysctl ${sysctl}: ${reasons[cause.code ?? ''] ?? cause.message}`, { cause })
    this.sysctl = sysctl
    this.code = cause.code
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'this kernel or namespace has no such setting',
  EACCES: 'not allowed (root is needed)',
  EPERM: 'not allowed (root is needed)',
  EROFS: '/proc/sys is read-only here (a container without privileges?)',
  EINVAL: 'the kernel refuses the value',
}

/**
 * Reads a kernel setting, without its newline. Names are as for sysctl(8): `net.ipv4.ip_forward`, or with slashes when a
 * part has a dot in it: `net/ipv4/conf/eth0.10/forwarding`. Throws {@link SysctlError}.
 */
export function readSysctl(name: string, options: { readonly netns?: Netns } = {}): string {
  const path = pathOf(name)
  // /proc/sys/net shows the namespace of the thread that looks, so only synchronous file calls are right here.
  const read = (): string => readFileSync(path, 'utf8').trimEnd()
  try {
    return options.netns ? options.netns.enter(read) : read()
  } catch (error) {
    throw new SysctlError('read', name, error as NodeJS.ErrnoException)
  }
}

/** Writes a kernel setting, in another network namespace if one is given. Throws {@link SysctlError}. */
export function writeSysctl(name: string, value: string | number, options: { readonly netns?: Netns } = {}): void {
  const path = pathOf(name)
  const write = (): void => writeFileSync(path, `${value}\n`, { flag: 'r+' })
  try {
    if (options.netns) options.netns.enter(write)
    else write()
  } catch (error) {
    throw new SysctlError(`write "${value}" to`, name, error as NodeJS.ErrnoException)
  }
}

function pathOf(name: string): string {
  const parts = name.includes('/') ? name.split('/') : name.split('.')
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new RangeError(`"${name}" is not the name of a sysctl (expected one like net.ipv4.ip_forward)`)
  }
  return `/proc/sys/${parts.join('/')}`
}
