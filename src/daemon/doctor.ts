import { existsSync, readFileSync } from 'node:fs'
import { probeMachine, probe, type Feature } from '../linux/features.ts'
import { probeKernelFeatures } from '../netlink/kernel-features.ts'

/** One thing that was looked at. */
export interface Finding extends Feature {
  /** fairlead cannot work without it; the others are worth knowing. */
  readonly needed: boolean
}

/** Features that are nice to have, or that fairlead switches on by itself. */
const optional: ReadonlySet<string> = new Set(['IPv6', 'IPv4 forwarding', 'CAP_NET_RAW', 'resolvers', 'daemon'])

/** Looks at this machine: what fairlead needs, by trying it in throw-away namespaces, and what is good to know. */
export async function doctor(options: { controlSocket: string; resolvConf?: string }): Promise<Finding[]> {
  const resolvConf = options.resolvConf ?? '/etc/resolv.conf'
  const features = [
    ...probeMachine(),
    ...(await probeKernelFeatures()),
    probe(
      'resolvers',
      `write "nameserver ADDRESS" into ${resolvConf}: names outside of the cluster are asked there`,
      () => {
        const servers = [...readFileSync(resolvConf, 'utf8').matchAll(/^\s*nameserver\s+(\S+)/gm)].map(
          (match) => match[1],
        )
        if (servers.length === 0) throw new Error(`${resolvConf} names no server`)
        return servers.join(', ')
      },
    ),
    probe('daemon', 'start one with "fairlead run"', () => {
      if (!existsSync(options.controlSocket)) throw new Error(`none: there is no ${options.controlSocket}`)
      return `its socket is ${options.controlSocket}`
    }),
  ]
  return features.map((feature) => ({ ...feature, needed: !optional.has(feature.name) }))
}
