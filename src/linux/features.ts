import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { createAnonymousNetns } from './netns.ts'
import { readSysctl } from './sysctl.ts'

/** Something that the machine can or cannot do, found out by trying. */
export interface Feature {
  readonly name: string
  readonly ok: boolean
  /** What was found: a version, or the error. */
  readonly detail: string
  /** What to do about it; undefined when it is ok. */
  readonly hint: string | undefined
}

/** include/uapi/linux/capability.h */
const capabilityNumbers = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_SYS_ADMIN: 21 } as const

/** The oldest kernel with all that is used: concatenated map keys with timeouts, IFLA_BRPORT_ISOLATED, pidfds. */
const oldestKernel = [5, 10] as const

/** Probes what needs no netlink: kernel version, privileges, namespaces, IPv6, forwarding. See also src/rtnetlink/kernel-features.ts. */
export function probeMachine(): Feature[] {
  return [
    probeKernelVersion(),
    ...Object.entries(capabilityNumbers).map(([name, number]) => probeCapability(name, number)),
    probe('network namespaces', 'run as root, on a kernel with CONFIG_NET_NS', () => {
      using netns = createAnonymousNetns()
      return `created one (inode ${netns.inode})`
    }),
    probe('IPv6', 'boot without ipv6.disable=1 and set sysctl net.ipv6.conf.all.disable_ipv6=0', () => {
      if (readSysctl('net.ipv6.conf.all.disable_ipv6') !== '0') throw new Error('net.ipv6.conf.all.disable_ipv6 is 1')
      return 'enabled'
    }),
    probe('IPv4 forwarding', 'sysctl -w net.ipv4.ip_forward=1 (fairlead sets it when it makes a network)', () => {
      if (readSysctl('net.ipv4.ip_forward') !== '1') throw new Error('net.ipv4.ip_forward is 0')
      return 'on'
    }),
  ]
}

/** Effective capabilities of this process, from /proc/self/status. */
export function hasCapability(name: keyof typeof capabilityNumbers): boolean {
  return ((effectiveCapabilities() >> BigInt(capabilityNumbers[name])) & 1n) === 1n
}

/** Tries one thing; an exception is the answer "no", with its message as the detail. */
export function probe(name: string, hint: string, attempt: () => string): Feature {
  try {
    return { name, ok: true, detail: attempt(), hint: undefined }
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error), hint }
  }
}

function probeKernelVersion(): Feature {
  return probe('kernel version', `use Linux ${oldestKernel.join('.')} or newer`, () => {
    const text = release()
    const [major = 0, minor = 0] = text.split('.').map((part) => Number.parseInt(part, 10))
    if (major < oldestKernel[0] || (major === oldestKernel[0] && minor < oldestKernel[1])) {
      throw new Error(`Linux ${text} is older than ${oldestKernel.join('.')}`)
    }
    return `Linux ${text}`
  })
}

function probeCapability(name: string, number: number): Feature {
  return probe(name, `run as root, or give the service AmbientCapabilities=${name}`, () => {
    if (((effectiveCapabilities() >> BigInt(number)) & 1n) === 0n) throw new Error('not held by this process')
    return 'held'
  })
}

function effectiveCapabilities(): bigint {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return BigInt(`0x${hex ?? '0'}`)
}
