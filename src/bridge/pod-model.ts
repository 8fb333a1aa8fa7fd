import type { Pod } from '../model/pod.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { hostNetwork } from './built-in-networks.ts'
import type { Lease } from './leases.ts'
import type { PodRecord } from './pod-record.ts'

/**
 * The Kubernetes view of a pod, for selectors of Services. `leases` begins with that of its first network. A Service reaches a
 * pod at one address per family: of the first network that has one. Pure.
 */
export function podModel(
  record: PodRecord,
  host: { readonly leases: readonly Pick<Lease, 'ips'>[]; readonly nodeName: string },
): Pod {
  const { exit } = record
  const ips = host.leases.flatMap((lease) => lease.ips)
  return {
    namespace: record.namespace,
    name: record.name,
    labels: record.labels,
    annotations: {},
    nodeName: host.nodeName,
    hostname: record.name,
    subdomain: undefined,
    hostNetwork: record.network === hostNetwork,
    podIPs: onePerFamily(ips),
    phase: exit ? (exit.code === 0 ? 'Succeeded' : 'Failed') : 'Running',
    ready: isReady(record),
    terminating: false,
    ports: record.ports,
  }
}

/** Whether it may have traffic: its command did not end, and its readiness probe, if it has one, went well. */
export function isReady({ exit, readinessProbe, ready = false }: PodRecord): boolean {
  return exit === undefined && (readinessProbe === undefined || ready)
}

/** A pod's /etc/resolv.conf, as the kubelet writes it for dnsPolicy ClusterFirst. */
export function formatResolvConf(
  namespace: string,
  dns: { readonly addresses: readonly IpAddress[]; readonly zone: string },
): string {
  const { addresses, zone } = dns
  const lines = addresses.map((address) => `nameserver ${address}`)
  return [...lines, `search ${namespace}.svc.${zone} svc.${zone} ${zone}`, 'options ndots:5', ''].join('\n')
}

/** The first of each family, in the order that they come in. */
function onePerFamily(ips: readonly IpAddress[]): readonly IpAddress[] {
  return ips.filter((ip, index) => ips.findIndex((other) => ipFamilyOf(other) === ipFamilyOf(ip)) === index)
}

/** The /etc/resolv.conf of a pod that is on the LAN only: what a DHCP server said. Three servers are as many as resolvers look at. */
export function formatLanResolvConf(lan: {
  readonly addresses: readonly IpAddress[]
  readonly domain: string | undefined
}): string {
  const servers = lan.addresses.slice(0, 3).map((address) => `nameserver ${address}`)
  return [...servers, ...(lan.domain === undefined ? [] : [`search ${lan.domain}`]), ''].join('\n')
}
