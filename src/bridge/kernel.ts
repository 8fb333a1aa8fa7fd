import { openNetns, type Netns } from '../linux/netns.ts'
import { probePort, type PortProbe } from '../linux/port-probe.ts'
import { readSysctl, SysctlError, writeSysctl } from '../linux/sysctl.ts'
import type { Port } from '../net/port.ts'
import type { NetnsHandle } from '../rtnetlink/link-requests.ts'
import { openConntrack, type Conntrack } from '../netlink/conntrack.ts'
import { openRtnetlink, type Rtnetlink } from '../rtnetlink/rtnetlink.ts'

/** What bridge networks need of a network namespace: a machine's own, or a pod's. Tests hand in a fake. */
export interface NamespaceKernel extends Disposable {
  /** To give birth to links in it; undefined for the namespace that the daemon is in. */
  readonly handle: NetnsHandle | undefined
  /** Links, addresses and routes. */
  readonly rtnetlink: Rtnetlink
  /** The value of a setting below /proc/sys; undefined when the kernel has no such setting. Throws SysctlError. */
  readSysctl(path: string): string | undefined
  /** Sets it. Throws SysctlError. */
  writeSysctl(path: string, value: string): void
  /** Runs synchronous work whose settings are many: the way into the namespace is gone only once. */
  enter<T>(work: () => T extends Promise<unknown> ? never : T): T
}

/** The host's namespace, and the way to those of its pods. */
export interface BridgeKernel extends NamespaceKernel {
  /** Opens a namespace by path. Throws when there is none (ENOENT). */
  openNamespace(path: string): NamespaceKernel
  /** Whether a program could listen there. Throws SyscallError. */
  readonly probePort: (probe: PortProbe) => Port | 'taken' | 'no-address'
  /** The connection table. */
  readonly conntrack: Conntrack
}

/** The real kernel. With `netns`, that namespace plays the host, and nothing of the machine's own is touched. */
export function openBridgeKernel(options: { readonly netns?: Netns } = {}): BridgeKernel {
  const host = namespaceKernel(options.netns)
  try {
    const conntrack = openConntrack(options)
    return {
      ...host,
      openNamespace: (path) => ownedNamespaceKernel(openNetns(path)),
      probePort: (probe) => probePort(probe, options),
      conntrack,
      [Symbol.dispose]() {
        conntrack[Symbol.dispose]()
        host[Symbol.dispose]()
      },
    }
  } catch (error) {
    host[Symbol.dispose]()
    throw error
  }
}

function ownedNamespaceKernel(netns: Netns): NamespaceKernel {
  try {
    const kernel = namespaceKernel(netns)
    return {
      ...kernel,
      [Symbol.dispose]() {
        kernel[Symbol.dispose]()
        netns[Symbol.dispose]()
      },
    }
  } catch (error) {
    netns[Symbol.dispose]()
    throw error
  }
}

function namespaceKernel(netns: Netns | undefined): NamespaceKernel {
  const where = netns ? { netns } : {}
  const rtnetlink = openRtnetlink(where)
  let entered = false
  const there = (): typeof where => (entered ? {} : where)
  return {
    handle: netns,
    rtnetlink,
    enter(work) {
      if (entered || !netns) return work()
      entered = true
      try {
        return netns.enter(work)
      } finally {
        entered = false
      }
    },
    readSysctl(path) {
      try {
        return readSysctl(path, there())
      } catch (error) {
        if (error instanceof SysctlError && error.code === 'ENOENT') return undefined
        throw error
      }
    },
    writeSysctl: (path, value) => writeSysctl(path, value, there()),
    [Symbol.dispose]: () => rtnetlink[Symbol.dispose](),
  }
}
