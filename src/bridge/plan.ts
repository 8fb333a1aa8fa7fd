import { cidrContains, cidrFamily, formatCidr, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilies, ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { networkAlias, ownerAlias, podInterface, portOf, type Owner } from './names.ts'
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

/**
 * How a port of a bridge is set. Hairpin: with br_netfilter loaded (a machine that also runs Kubernetes or Docker has it), a
 * pod's packet to a Service is translated before it is bridged; when the pod itself is chosen, the frame must leave by the
 * port that it came from. Isolated: pods that neither reach each other nor the host are kept apart on the wire, whatever
 * the firewall is; in other networks without inter-container communication, with br_netfilter, a neighbour's published port
 * is switched from port to port.
 */
export interface PortOptions {
  readonly hairpin: boolean
  readonly isolated: boolean
}

/** The host's end of an endpoint as it should be. */
export interface PortPlan {
  /** The link's name. */
  readonly port: string
  readonly alias: string
  readonly bridge: string
  readonly mtu: number
  readonly options: PortOptions
}

/** An endpoint as it should be: a veth, one end a port of a bridge, the other in a namespace. */
export interface EndpointPlan extends PortPlan {
  /** Path of the namespace. */
  readonly netns: string
  /** The end in the namespace. */
  readonly link: string
  readonly mac: MacAddress
  readonly addresses: readonly Cidr[]
  /** Without `via`: the destination is a neighbour on the link. */
  readonly routes: readonly { readonly destination: Cidr; readonly via?: IpAddress }[]
  /**
   * In a pod with several endpoints: what it sends from one of these addresses leaves by this endpoint (a routing rule, and a
   * table with the gateway), so that an answer goes where the question came from. Absent where there is nothing to choose.
   */
  readonly sources?: readonly { readonly ip: IpAddress; readonly gateway: IpAddress }[]
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
  /** What the host serves to pods of internal networks, too: Service addresses. */
  readonly served?: readonly Cidr[]
  /** The families in which a lease of a network that is not in `networks` leads out. Default: none. */
  readonly leadsOutElsewhere?: (lease: Lease) => readonly IpFamily[]
}

/** Compiles networks and leases to the state that the host should have. Pure. */
export function planHost(wishes: HostWishes): HostPlan {
  const { networks, leases, serviceAddresses, served = [], leadsOutElsewhere = () => [] } = wishes
  const byName = new Map(networks.map((network) => [network.name, network]))
  const reached = [...serviceAddresses.map(single), ...served]
  /** Owners whose way out, by family, leads through an earlier lease. */
  const wayOut = new Set<string>()
  const endpoints: EndpointPlan[] = []
  const all = [...leases]
  const counts = new Map<Owner, number>()
  for (const { owner } of all) counts.set(owner, (counts.get(owner) ?? 0) + 1)
  for (const lease of all) {
    const network = byName.get(lease.network)
    if (!network) {
      for (const family of leadsOutElsewhere(lease)) wayOut.add(`${family} ${lease.owner}`)
      continue
    }
    const defaults = ipFamilies.filter((family) => {
      return leadsOut(network, lease, family) && !wayOut.has(`${family} ${lease.owner}`)
    })
    for (const family of defaults) wayOut.add(`${family} ${lease.owner}`)
    const several = (counts.get(lease.owner) ?? 0) > 1
    endpoints.push(planEndpoint(network, lease, { defaults, served: reached, several }))
  }
  return {
    bridges: networks.map((network, index) => planBridge(network, index === 0 ? serviceAddresses : [])),
    endpoints,
    sysctls: planSysctls(networks),
  }
}

/** What an endpoint's plan depends on besides its network and its lease. */
export interface EndpointContext {
  /** Families whose default route leads through this endpoint. Default: those that the network lets out. */
  readonly defaults?: readonly IpFamily[]
  /** What the host serves to pods that no default route leads out of. */
  readonly served?: readonly Cidr[]
  /** Whether its owner has other endpoints. */
  readonly several?: boolean
}

/** The host's end of the endpoint that a lease stands for. Pure. */
export function planPort({ bridge, mtu, hairpin, icc, gatewayModes }: Network, lease: Lease): PortPlan {
  const isolated = !icc && ipFamilies.every((family) => gatewayModes[family] === 'isolated')
  return { port: portOf(lease), alias: ownerAlias(lease.owner), bridge, mtu, options: { hairpin, isolated } }
}

/** The endpoint that a lease stands for. Pure. */
export function planEndpoint(network: Network, lease: Lease, context: EndpointContext = {}): EndpointPlan {
  const { defaults = ipFamilies.filter((family) => leadsOut(network, lease, family)), served = [], several } = context
  const homes = lease.ips.flatMap((ip) => {
    const subnet = network.subnets.find(({ cidr }) => cidrContains(cidr, ip))
    return subnet ? [{ ...subnet, ip }] : []
  })
  const isolated = homes.filter(({ ip }) => network.gatewayModes[ipFamilyOf(ip)] === 'isolated')
  const routed = homes.filter((home) => !isolated.includes(home))
  return {
    ...planPort(network, lease),
    netns: lease.netns,
    link: lease.link ?? podInterface,
    mac: lease.mac,
    addresses: [
      // Alone in its subnet, so that whatever a pod sends is routed by the host, also to its neighbours: answers of a Service's
      // endpoint on the same bridge are translated back there, with br_netfilter or without (docs/adr/0004-pods-are-routed.md).
      ...routed.map(({ ip }) => single(ip)),
      // Without the host on the bridge there is nobody to route.
      ...isolated.map(({ ip, cidr }) => ({ address: ip, prefix: cidr.prefix })),
    ],
    routes: [
      ...routed.map(({ gateway }) => ({ destination: single(gateway) })),
      ...routed.flatMap(({ gateway }) => {
        const family = ipFamilyOf(gateway)
        if (defaults.includes(family)) return [{ destination: defaultRoute(gateway), via: gateway }]
        const own = network.subnets.map(({ cidr }) => cidr)
        const reached = network.internal ? [...own, ...served] : own
        return reached
          .filter((cidr) => cidrFamily(cidr) === family)
          .map((destination) => ({ destination, via: gateway }))
      }),
    ],
    ...(several && { sources: routed.map(({ ip, gateway }) => ({ ip, gateway })) }),
  }
}

/** Whether a pod's packets to everywhere can leave by this endpoint. Pure. */
export function leadsOut(network: Network, lease: Pick<Lease, 'ips'>, family: IpFamily): boolean {
  if (network.internal || network.gatewayModes[family] === 'isolated') return false
  return lease.ips.some((ip) => ipFamilyOf(ip) === family)
}

/** Settings of a network's bridge. Pure. */
export function bridgeSysctls(network: Pick<Network, 'bridge' | 'subnets'>): SysctlPlan[] {
  // What 127.0.0.1 sends to a published port leaves by the bridge; the firewall drops what pods send to 127.0.0.0/8.
  const local = { path: `net/ipv4/conf/${network.bridge}/route_localnet`, value: '1' }
  const quiet = { path: `net/ipv4/conf/${network.bridge}/send_redirects`, value: '0' }
  return [...(hasIpv4(network) ? [local, quiet] : []), ...ipv6Sysctls(network)]
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
  const present = network.subnets.filter(({ gateway }) => network.gatewayModes[ipFamilyOf(gateway)] !== 'isolated')
  const gateways = present.map(({ cidr, gateway }) => ({ address: gateway, prefix: cidr.prefix }))
  const families = new Set(gateways.map(({ address }) => ipFamilyOf(address)))
  const served = serviceAddresses.filter((ip) => families.has(ipFamilyOf(ip))).map(single)
  return {
    name: network.bridge,
    network: network.name,
    alias: networkAlias(network.name),
    mac: network.mac,
    mtu: network.mtu,
    addresses: uniqueCidrs([...gateways, ...served]),
    routes: present.map(({ cidr, gateway }) => ({ destination: cidr, src: gateway })),
    sysctls: bridgeSysctls(network),
  }
}

/** Settings of a host that is the router of these networks' pods. Pure. */
export function planSysctls(networks: readonly Network[]): SysctlPlan[] {
  const sysctls: SysctlPlan[] = []
  if (networks.some(hasIpv4)) {
    sysctls.push({ path: 'net/ipv4/ip_forward', value: '1' })
    // Pods send to their neighbours by way of the host, which would tell them of a shorter one, and redirects share the rate
    // limit of ICMP errors: refusals would come late. A link sends them if `all` or its own setting is 1: others keep theirs.
    sysctls.push({ path: 'net/ipv4/conf/all/send_redirects', value: '0' })
  }
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
