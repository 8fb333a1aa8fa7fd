import type { Node } from '../model/node.ts'
import { addressCidr, cidrFamily, type Cidr } from '../net/cidr.ts'
import { isLoopback, ipFamilies, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { ProxySettings } from '../proxy/compile-services.ts'
import type { NodePortAddress, ServicesConfig } from './services-config.ts'

/** What the settings depend on besides the configuration. */
export interface SettingsFacts {
  /** This node's object; undefined: there is none (yet). */
  readonly node: Node | undefined
  /** Subnets of the networks here: their pods are local. */
  readonly subnets: readonly Cidr[]
  /** Addresses that the node answers on itself. */
  readonly ownAddresses: readonly IpAddress[]
  /** Where this machine's own configuration takes cluster IPs from, if no ServiceCIDR object says it. */
  readonly serviceRanges?: readonly Cidr[]
}

/** What the configuration means on this node, at this moment. Pure. */
export function proxySettings(services: ServicesConfig, facts: SettingsFacts): ProxySettings {
  const { detectLocal } = services
  return {
    localPods: localPodsOf(services, facts),
    ...(detectLocal.kind === 'interface' && {
      localInterface: { name: detectLocal.name, prefix: detectLocal.prefix },
    }),
    masqueradeAll: services.masqueradeAll,
    masqueradeMark: 2 ** services.masqueradeBit,
    nodePortAddresses: nodePortNetworks(services, facts.node),
    loopbackNodePorts: services.localhostNodePorts ? loopbackFamilies(services.nodePortAddresses) : [],
    externalIPs: services.externalIPs,
    ownAddresses: facts.ownAddresses,
    ...(facts.serviceRanges && { serviceCIDRs: facts.serviceRanges }),
  }
}

/** Whether two settings mean the same. */
export function sameSettings(a: ProxySettings, b: ProxySettings): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

/** What keeps the settings from being what the configuration asks for, as a sentence; undefined: nothing. */
export function settingsProblem(services: ServicesConfig, { node }: SettingsFacts): string | undefined {
  const { detectLocal, nodePortAddresses } = services
  const missing = node ? 'the Node object of this node has none' : 'there is no Node object of this node'
  if (detectLocal.kind === 'node' && (node?.podCIDRs.length ?? 0) === 0) {
    return `detectLocalMode NodeCIDR needs spec.podCIDRs, and ${missing}: no traffic counts as local pods'`
  }
  if (nodePortAddresses.includes('primary') && primaryAddresses(services, node).length === 0) {
    return `nodePortAddresses primary needs status.addresses, and ${missing}: NodePorts are served on all but loopback addresses`
  }
  return undefined
}

function localPodsOf(services: ServicesConfig, { node, subnets }: SettingsFacts): readonly Cidr[] {
  const { detectLocal } = services
  switch (detectLocal.kind) {
    case 'cluster':
      return [...subnets, ...detectLocal.cidrs]
    case 'node':
      return [...subnets, ...(node?.podCIDRs ?? [])]
    case 'interface':
    case 'none':
      return []
    default:
      return detectLocal satisfies never
  }
}

const everything: Readonly<Record<IpFamily, Cidr>> = {
  4: { address: '0.0.0.0' as IpAddress, prefix: 0 },
  6: { address: '::' as IpAddress, prefix: 0 },
}

/** A family that no entry is of stands for all its addresses, as in kube-proxy (pkg/proxy/util/nodeport_addresses.go). */
function nodePortNetworks(services: ServicesConfig, node: Node | undefined): readonly Cidr[] | undefined {
  const networks = ipFamilies.map((family) => {
    const own = services.nodePortAddresses.flatMap((entry) => networksOf(entry, family, { services, node }))
    if (own.length === 0 || own.some((cidr) => cidr === 'all')) return 'all'
    return own.filter((cidr) => cidr !== 'loopback' && cidr !== 'all')
  })
  if (networks.every((list) => list === 'all')) return undefined
  return networks.flatMap((list, index) => (list === 'all' ? [everything[ipFamilies[index] ?? 4]] : list))
}

function networksOf(
  entry: NodePortAddress,
  family: IpFamily,
  { services, node }: { services: ServicesConfig; node: Node | undefined },
): (Cidr | 'all' | 'loopback')[] {
  if (entry === 'all') return ['all']
  if (entry === 'localhost') return ['loopback']
  if (entry === 'primary') {
    return primaryAddresses(services, node)
      .filter((ip) => ipFamilyOf(ip) === family)
      .map(addressCidr)
  }
  if (cidrFamily(entry) !== family) return []
  if (entry.prefix === 0) return ['all']
  return isLoopbackNetwork(entry) ? ['loopback'] : [entry]
}

/** The first address of each family. */
function primaryAddresses(services: ServicesConfig, node: Node | undefined): readonly IpAddress[] {
  const all = [...(services.primaryAddress ? [services.primaryAddress] : []), ...(node?.addresses ?? [])]
  return ipFamilies.flatMap((family) => all.find((ip) => ipFamilyOf(ip) === family && !isLoopback(ip)) ?? [])
}

/** Only where loopback is named itself: `all`, 0.0.0.0/0 and ::/0 leave it out, as kube-proxy's nftables mode does. */
function loopbackFamilies(addresses: readonly NodePortAddress[]): readonly IpFamily[] {
  if (addresses.includes('localhost')) return ipFamilies
  return ipFamilies.filter((family) =>
    addresses.some((entry) => typeof entry === 'object' && cidrFamily(entry) === family && isLoopbackNetwork(entry)),
  )
}

function isLoopbackNetwork(cidr: Cidr): boolean {
  return isLoopback(cidr.address) && cidr.prefix >= (cidrFamily(cidr) === 4 ? 8 : 128)
}
