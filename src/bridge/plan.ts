import { formatCidr, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, parseIp, type IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { hostLinkName, networkAlias, ownerAlias, podInterface } from './names.ts'
import type { Lease } from './leases.ts'
import type { Network } from './network.ts'

/** A bridge as it should be. */
export interface BridgePlan {
  readonly name: string
  readonly network: string
  readonly alias: string
  readonly mac: MacAddress
  readonly mtu: number
  /** Gateways with their subnet's prefix, and single addresses (/32, /128) that are served here. */
  readonly addresses: readonly Cidr[]
  /** What the kernel adds by itself with the gateways' addresses. */
  readonly routes: readonly { readonly destination: Cidr; readonly src: IpAddress }[]
  /** Written before the bridge is switched on. */
  readonly sysctls: readonly SysctlPlan[]
}

/** An endpoint as it should be: a veth, one end a port of a bridge, the other in a namespace. */
export interface EndpointPlan {
  /** The end on the host. */
  readonly port: string
  readonly alias: string
  readonly bridge: string
  /** Path of the namespace. */
  readonly netns: string
  /** The end in the namespace. */
  readonly link: string
  readonly mac: MacAddress
  readonly mtu: number
  readonly addresses: readonly Cidr[]
  /** Without `via`: the destination is a neighbour on the link. */
  readonly routes: readonly { readonly destination: Cidr; readonly via?: IpAddress }[]
}

/** A kernel setting, as in `sysctl net.ipv4.ip_forward`. */
export interface SysctlPlan {
  /** The path under /proc/sys; interface names may hold dots, so no dotted names here. */
  readonly path: string
  readonly value: string
}

/** What a host should hold: the desired state of all networks and their endpoints. */
export interface HostPlan {
  readonly bridges: readonly BridgePlan[]
  readonly endpoints: readonly EndpointPlan[]
  readonly sysctls: readonly SysctlPlan[]
}

/** What {@link planHost} is made of. */
export interface HostWishes {
  readonly networks: readonly Network[]
  readonly leases: Iterable<Lease>
  /** Addresses that the first network's bridge has besides its gateways, like the cluster DNS address. */
  readonly serviceAddresses: readonly IpAddress[]
}

/** Compiles networks and leases to the state that the host should have. Pure. */
export function planHost({ networks, leases, serviceAddresses }: HostWishes): HostPlan {
  const byName = new Map(networks.map((network) => [network.name, network]))
  return {
    bridges: networks.map((network, index) => planBridge(network, index === 0 ? serviceAddresses : [])),
    endpoints: Iterator.from(leases)
      .map((lease) => {
        const network = byName.get(lease.network)
        return network && planEndpoint(network, lease)
      })
      .filter((endpoint) => endpoint !== undefined)
      .toArray(),
    sysctls: planSysctls(networks),
  }
}

/** The endpoint that a lease stands for. Pure. */
export function planEndpoint(network: Network, lease: Lease): EndpointPlan {
  const subnets = network.subnets.map(({ gateway }) => ({
    gateway,
    ip: lease.ips.find((ip) => ipFamilyOf(ip) === ipFamilyOf(gateway)),
  }))
  const served = subnets.filter((subnet): subnet is typeof subnet & { ip: IpAddress } => subnet.ip !== undefined)
  return {
    port: hostLinkName(lease.owner),
    alias: ownerAlias(lease.owner),
    bridge: network.bridge,
    netns: lease.netns,
    link: podInterface,
    mac: lease.mac,
    mtu: network.mtu,
    // Alone in its subnet, so that whatever a pod sends is routed by the host, also to its neighbours: answers of a Service's
    // endpoint on the same bridge are translated back there, with br_netfilter or without (docs/adr/0004-pods-are-routed.md).
    addresses: served.map(({ ip }) => single(ip)),
    routes: [
      ...served.map(({ gateway }) => ({ destination: single(gateway) })),
      ...served.map(({ gateway }) => ({ destination: defaultRoute(gateway), via: gateway })),
    ],
  }
}

function bridgeSysctls(network: Pick<Network, 'bridge' | 'subnets'>): SysctlPlan[] {
  // What 127.0.0.1 sends to a published port leaves by the bridge; the firewall drops what pods send to 127.0.0.0/8.
  const local = { path: `net/ipv4/conf/${network.bridge}/route_localnet`, value: '1' }
  return [...(hasIpv4(network) ? [local] : []), ...ipv6Sysctls(network)]
}

function ipv6Sysctls(network: Pick<Network, 'bridge' | 'subnets'>): SysctlPlan[] {
  if (!hasIpv6(network)) return []
  const folder = `net/ipv6/conf/${network.bridge}`
  return [
    // A host whose default is "no IPv6" means its uplinks, not a network that asks for it.
    { path: `${folder}/disable_ipv6`, value: '0' },
    // Pods could pose as routers.
    { path: `${folder}/accept_ra`, value: '0' },
    // The link-local address is usable at once; the others say so themselves (IFA_F_NODAD).
    { path: `${folder}/accept_dad`, value: '0' },
  ]
}

/**
 * How ports of a bridge are set. Hairpin: with br_netfilter loaded (a machine that also runs Kubernetes or Docker has it),
 * a pod's packet to a Service is translated before it is bridged; when the pod itself is chosen, the frame must leave by
 * the port that it came from.
 */
export const portOptions = { hairpin: true } as const

/** Settings of a pod's namespace, written before its link is born there: `default` is what the new link gets. */
export const podSysctls: readonly SysctlPlan[] = [
  { path: 'net/ipv6/conf/default/disable_ipv6', value: '0' },
  { path: 'net/ipv6/conf/default/accept_ra', value: '0' },
  { path: 'net/ipv6/conf/default/accept_dad', value: '0' },
  // The host would tell pods a shorter way to their neighbours; the way by the host is meant.
  { path: 'net/ipv4/conf/all/accept_redirects', value: '0' },
  { path: 'net/ipv4/conf/default/accept_redirects', value: '0' },
  { path: 'net/ipv6/conf/default/accept_redirects', value: '0' },
]

/** The bridge of a network. Pure. */
export function planBridge(network: Network, serviceAddresses: readonly IpAddress[]): BridgePlan {
  const gateways = network.subnets.map(({ cidr, gateway }) => ({ address: gateway, prefix: cidr.prefix }))
  const families = new Set(gateways.map(({ address }) => ipFamilyOf(address)))
  const served = serviceAddresses.filter((ip) => families.has(ipFamilyOf(ip))).map(single)
  return {
    name: network.bridge,
    network: network.name,
    alias: networkAlias(network.name),
    mac: network.mac,
    mtu: network.mtu,
    addresses: uniqueCidrs([...gateways, ...served]),
    routes: network.subnets.map(({ cidr, gateway }) => ({ destination: cidr, src: gateway })),
    sysctls: bridgeSysctls(network),
  }
}

function planSysctls(networks: readonly Network[]): SysctlPlan[] {
  const sysctls: SysctlPlan[] = []
  if (networks.some(hasIpv4)) sysctls.push({ path: 'net/ipv4/ip_forward', value: '1' })
  if (networks.some(hasIpv6)) sysctls.push({ path: 'net/ipv6/conf/all/forwarding', value: '1' })
  return sysctls
}

function hasIpv4({ subnets }: Pick<Network, 'subnets'>): boolean {
  return subnets.some(({ gateway }) => ipFamilyOf(gateway) === 4)
}

function hasIpv6({ subnets }: Pick<Network, 'subnets'>): boolean {
  return subnets.some(({ gateway }) => ipFamilyOf(gateway) === 6)
}

function defaultRoute(gateway: IpAddress): Cidr {
  return networkOf({ address: parseIp(ipFamilyOf(gateway) === 4 ? '0.0.0.0' : '::'), prefix: 0 })
}

/** The address alone: /32 or /128. */
function single(ip: IpAddress): Cidr {
  return { address: ip, prefix: ipFamilyOf(ip) === 4 ? 32 : 128 }
}

function uniqueCidrs(cidrs: readonly Cidr[]): Cidr[] {
  return [...new Map(cidrs.map((cidr) => [formatCidr(cidr), cidr])).values()]
}
