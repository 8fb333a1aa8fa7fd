import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { SyscallError } from './errno.ts'
import { CLONE_NEWNET, MNT_DETACH, mount, MS_BIND, MS_REC, MS_SHARED, setns, umount, unshare } from './libc.ts'
import type { MountNamespace } from './mount-namespace.ts'

/** Where iproute2, and so everybody, keeps named network namespaces. */
export const netnsFolder = '/run/netns'

/**
 * An open network namespace. The descriptor keeps the namespace alive; disposing closes it, and deletes the name when
 * this process created it.
 */
export class Netns implements Disposable {
  /** Undefined when it was opened by path. */
  readonly name: string | undefined
  readonly path: string
  readonly fd: number
  #owned: boolean
  #open = true

  /** Use {@link createNetns} or {@link openNetns}. */
  constructor(path: string, options: { name?: string; owned: boolean; fd?: number }) {
    this.path = path
    this.name = options.name
    this.#owned = options.owned
    this.fd = options.fd ?? openSync(path, 'r')
  }

  /** Identifies the namespace whatever path leads to it. */
  get inode(): number {
    return fstatSync(this.fd).ino
  }

  /**
   * Runs one synchronous function in the namespace. Sockets created and processes spawned by it stay there. It must not
   * return a promise: other work of this thread would run in the wrong namespace.
   */
  enter<T>(work: () => T extends Promise<unknown> ? never : T): T {
    const home = openSync('/proc/thread-self/ns/net', 'r')
    try {
      setns(this.fd, CLONE_NEWNET)
      try {
        return work()
      } finally {
        returnTo(home)
      }
    } finally {
      closeSync(home)
    }
  }

  /** Leaves the namespace in place when this object is disposed. */
  release(): void {
    this.#owned = false
  }

  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#open = false
    closeSync(this.fd)
    if (this.#owned && this.name !== undefined) deleteNetns(this.name)
  }
}

/** Where names of namespaces are made and removed. */
export interface NameOptions {
  /** Whose mounts the names are. @default this process's own */
  readonly mounts?: MountNamespace | undefined
}

/** Creates a namespace and its name. Throws {@link SyscallError} (EEXIST when the name is taken). */
export function createNetns(name: string, { mounts }: NameOptions = {}): Netns {
  return mounts ? mounts.enter(() => createNetns(name)) : createNetnsHere(name)
}

function createNetnsHere(name: string): Netns {
  prepareFolder()
  const path = join(netnsFolder, name)
  try {
    writeFileSync(path, '', { flag: 'wx', mode: 0o444 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw new SyscallError('create netns', 17, name)
    throw error
  }
  try {
    inNewNamespace(() => mount('/proc/thread-self/ns/net', path, MS_BIND))
    return new Netns(path, { name, owned: true })
  } catch (error) {
    rmSync(path, { force: true })
    throw error
  }
}

/**
 * Creates a namespace without a name: it goes with the last descriptor, socket and process that holds it, so a crash
 * leaves nothing behind. Throws {@link SyscallError}.
 */
export function createAnonymousNetns(): Netns {
  const fd = inNewNamespace(() => openSync('/proc/thread-self/ns/net', 'r'))
  return new Netns(`/proc/${process.pid}/fd/${fd}`, { owned: false, fd })
}

/** Opens a namespace by name, by absolute path, or the one that a process is in. */
export function openNetns(which: string | { readonly pid: number }): Netns {
  if (typeof which !== 'string') return new Netns(`/proc/${which.pid}/ns/net`, { owned: false })
  if (which.startsWith('/')) return new Netns(which, { owned: false })
  return new Netns(join(netnsFolder, which), { name: which, owned: false })
}

/** The namespace that this thread is in. */
export function currentNetns(): Netns {
  return new Netns('/proc/thread-self/ns/net', { owned: false })
}

/** Names of the namespaces that exist. A name whose mount is gone (after a reboot, say) is not one. */
export function listNetns(): string[] {
  let names: string[]
  try {
    names = readdirSync(netnsFolder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const folderDevice = statSync(netnsFolder).dev
  return names.filter((name) => statSync(join(netnsFolder, name), { throwIfNoEntry: false })?.dev !== folderDevice)
}

/** Removes the name; the namespace itself goes when nobody uses it any more. A name that does not exist is no error. */
export function deleteNetns(name: string, { mounts }: NameOptions = {}): void {
  if (mounts) return mounts.enter(() => deleteNetns(name))
  const path = join(netnsFolder, name)
  try {
    umount(path, MNT_DETACH)
  } catch (error) {
    // EINVAL: the file is there, but nothing is mounted on it. ENOENT: not even the file.
    if (!(error instanceof SyscallError) || (error.code !== 'EINVAL' && error.code !== 'ENOENT')) throw error
  }
  rmSync(path, { force: true })
}

/** As iproute2 does: the folder must be a shared mount, so that names made here are seen by other mount namespaces. */
function prepareFolder(): void {
  mkdirSync(netnsFolder, { recursive: true, mode: 0o755 })
  const isMount = readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${netnsFolder} `)
  if (isMount) return
  mount(netnsFolder, netnsFolder, MS_BIND | MS_REC)
  mount('none', netnsFolder, MS_SHARED | MS_REC)
}

function inNewNamespace<T>(work: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r')
  try {
    unshare(CLONE_NEWNET)
    try {
      return work()
    } finally {
      returnTo(home)
    }
  } finally {
    closeSync(home)
  }
}

/** A thread that cannot come home would run the rest of the program in a foreign namespace: better to stop. */
function returnTo(home: number): void {
  try {
    setns(home, CLONE_NEWNET)
  } catch (error) {
    process.stderr.write(`fairlead: cannot return to my network namespace: ${String(error)}\n`)
    process.abort()
  }
}
