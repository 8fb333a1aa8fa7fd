import { closeSync, openSync, statSync } from 'node:fs'
import { CLONE_FS, CLONE_NEWNS, setns, unshare } from './libc.ts'

const ownPath = '/proc/thread-self/ns/mnt'

/**
 * The mounts of another process. A service that systemd gave its own view of the file system (ProtectSystem= and the like)
 * sees the mounts of the machine, but what it mounts, the machine does not see (mount_namespaces(7): propagation goes one
 * way). Names of network namespaces are mounts, and they are for everybody: they are made in the machine's namespace.
 */
export class MountNamespace implements Disposable {
  readonly #fd: number

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** Opens the mount namespace that a process is in; undefined when it is this process's own. Throws what `open` throws. */
  static open(pid: number): MountNamespace | undefined {
    const path = `/proc/${pid}/ns/mnt`
    return statSync(path).ino === statSync(ownPath).ino ? undefined : new MountNamespace(openSync(path, 'r'))
  }

  /**
   * Runs one synchronous function there. It must not return a promise: other work of this thread would see foreign files.
   * The thread's working directory is / afterwards. Throws SyscallError (EPERM: needs CAP_SYS_ADMIN and CAP_SYS_CHROOT).
   */
  enter<T>(work: () => T extends Promise<unknown> ? never : T): T {
    const home = openSync(ownPath, 'r')
    try {
      // setns(2) moves no thread that shares its root and working directory with others, as all threads do at first.
      unshare(CLONE_FS)
      setns(this.#fd, CLONE_NEWNS)
      try {
        return work()
      } finally {
        returnTo(home)
      }
    } finally {
      closeSync(home)
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** A thread that cannot come home would go on with the files of somebody else: better to stop. */
function returnTo(home: number): void {
  try {
    setns(home, CLONE_NEWNS)
  } catch (error) {
    process.stderr.write(`fairlead: cannot return to my mount namespace: ${String(error)}\n`)
    process.abort()
  }
}
