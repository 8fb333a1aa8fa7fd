import { run } from '../src/linux/exec.ts'
import type { Netns } from '../src/linux/netns.ts'
import { clusterIp, endpoints, protocolOf, type ServiceSet } from './generate-services.ts'
import { endpointPort, unservedAddress } from './traffic-lab.ts'

/** Where a client connects to. */
export interface Target {
  /** `first Service`, `middle Service`, `last Service`, `no Service`. */
  readonly name: string
  readonly protocol: 'tcp' | 'udp'
  readonly ip: string
  readonly port: number
}

/** The port of all Services. */
const servicePort = 80

/** Addresses that must answer for the targets to: endpoints of UDP Services, one by one. */
export function udpEndpoints(set: ServiceSet, targets: readonly Target[]): string[] {
  const wanted = new Set(targets.filter(({ protocol }) => protocol === 'udp').map(({ ip }) => ip))
  return serviceIndexes(set, 'UDP').flatMap((index) => (wanted.has(clusterIp(index)) ? endpoints(set, index) : []))
}

/** Where the same packets go without a proxy: an endpoint's own address, and what is no Service anyway. */
export function directTargets(): Target[] {
  return [
    { name: 'last Service', protocol: 'tcp', ip: '10.128.1.0', port: endpointPort },
    { name: 'last Service', protocol: 'udp', ip: unservedAddress, port: endpointPort },
    { name: 'no Service', protocol: 'tcp', ip: unservedAddress, port: endpointPort },
  ]
}

/**
 * The first, the middle and the last Service in the order of the rules of chain KUBE-SERVICES (as fairlead and kube-proxy name it), or by
 * number where there is no such chain, and something that no rule is about.
 */
export function serviceTargets(set: ServiceSet, rules: readonly string[] | undefined): Target[] {
  const targets: Target[] = [{ name: 'no Service', protocol: 'tcp', ip: unservedAddress, port: endpointPort }]
  for (const protocol of ['TCP', 'UDP'] as const) {
    const known = new Set(serviceIndexes(set, protocol).map(clusterIp))
    const ordered = rules?.filter((ip) => known.has(ip)) ?? []
    // Each may have more than one rule: the first counts.
    const ips = ordered.length > 0 ? [...new Set(ordered)] : [...known]
    const places = { 'first Service': 0, 'middle Service': ips.length >> 1, 'last Service': ips.length - 1 }
    for (const [name, index] of Object.entries(places)) {
      const ip = ips[index]
      if (ip !== undefined) targets.push({ name, protocol: protocol === 'TCP' ? 'tcp' : 'udp', ip, port: servicePort })
    }
  }
  return targets
}

/** The destinations of chain KUBE-SERVICES, in order; undefined where neither kind of iptables has it. */
export async function ruleOrder(netns: Netns): Promise<string[] | undefined> {
  for (const tool of ['iptables-legacy-save', 'iptables-nft-save']) {
    const result = await run([tool, '-t', 'nat'], { netns }).catch(() => undefined)
    const ips = [...(result?.stdout ?? '').matchAll(/^-A KUBE-SERVICES .*?-d ([\d.]+)\/32 /gm)].map(
      ([, ip]) => ip ?? '',
    )
    if (ips.length > 0) return ips
  }
  return undefined
}

function serviceIndexes(set: ServiceSet, protocol: 'TCP' | 'UDP'): number[] {
  return Array.from({ length: set.services }, (_, index) => index).filter(
    (index) => protocolOf(set, index) === protocol,
  )
}
