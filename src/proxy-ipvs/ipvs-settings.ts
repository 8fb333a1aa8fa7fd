import type { Log } from '../base/log.ts'
import { SysctlError } from '../linux/sysctl.ts'
import type { IpvsParts } from './ipvs-parts.ts'

/** A kernel setting that mode ipvs needs, and why. */
export interface NeededSysctl {
  readonly name: string
  readonly value: number
  readonly why: string
  /** Of the kernel; without it there is no such setting. */
  readonly option?: string
  /** What is not as it should be with this value. */
  readonly drawback?: string
}

/** The settings for a kernel (Documentation/networking/ipvs-sysctl.rst). Pure. */
export function neededSysctls(
  kernelRelease: string,
  options: { readonly strictARP: boolean },
): readonly NeededSysctl[] {
  const [major = 0, minor = 0] = kernelRelease.split('.').map((part) => Number.parseInt(part, 10))
  const reuses = major > 5 || (major === 5 && minor >= 9)
  const arp: readonly NeededSysctl[] = [
    {
      name: 'net.ipv4.conf.all.arp_ignore',
      value: 1,
      why: 'strictARP: answers ARP only for addresses of the interface that was asked at',
    },
    {
      name: 'net.ipv4.conf.all.arp_announce',
      value: 2,
      why: 'strictARP: asks with an address of the interface that it asks at',
    },
  ]
  return [
    {
      name: 'net.ipv4.vs.conntrack',
      value: 1,
      why: 'masquerade needs connection tracking of balanced connections',
      option: 'CONFIG_IP_VS_NFCT',
    },
    {
      name: 'net.ipv4.vs.conn_reuse_mode',
      value: reuses ? 1 : 0,
      why: reuses
        ? 'a client port that is used again is scheduled anew, so that a real server with weight 0 drains (kubernetes #81775)'
        : 'before Linux 5.9, a client port that is used again costs a second (kubernetes #70747)',
      ...(!reuses && {
        drawback: 'a client port that is used again stays with a real server that drains (kubernetes #81775)',
      }),
    },
    {
      name: 'net.ipv4.vs.expire_nodest_conn',
      value: 1,
      why: 'a connection whose real server was deleted ends at its next packet, instead of hanging',
    },
    {
      name: 'net.ipv4.vs.expire_quiescent_template',
      value: 1,
      why: 'session affinity does not bring clients to a real server with weight 0',
    },
    ...(options.strictARP ? arp : []),
  ]
}

/** Makes the kernel's settings what mode ipvs needs, and says what was changed, and why. Throws SysctlError, or an Error with the option that the kernel lacks. */
export function applySysctls(
  parts: Pick<IpvsParts, 'kernelRelease' | 'readSysctl' | 'writeSysctl'>,
  options: { readonly strictARP: boolean; readonly log: Log },
): void {
  for (const { name, value, why, option, drawback } of neededSysctls(parts.kernelRelease, options)) {
    try {
      const before = parts.readSysctl(name)
      // A container may not be allowed to write what is right already.
      if (before === String(value)) continue
      parts.writeSysctl(name, value)
      options.log.info({ mode: 'ipvs', sysctl: name, before, value }, `${name} was ${before}, is ${value} now: ${why}`)
      if (drawback !== undefined) options.log.warn({ mode: 'ipvs', sysctl: name, value }, drawback)
    } catch (error) {
      if (option === undefined || !(error instanceof SysctlError) || error.code !== 'ENOENT') throw error
      const reason = `${error.message}; mode ipvs needs the kernel option ${option} (${why}), modes nftables and iptables do without`
      throw new Error(reason, { cause: error })
    }
  }
}
