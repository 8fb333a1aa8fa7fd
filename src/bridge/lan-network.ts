import type { LanSettings } from '../model/network.ts'
import { cidrContains, cidrFamily, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, parseIp, type IpFamily } from '../net/ip-address.ts'
import type { Link } from '../rtnetlink/link.ts'
import { checkAddresses, checkMtu, checkNetworkName, checkSubnet, NetworkError } from './check-network.ts'
import type { InsidePlan } from './diff.ts'
import type { Lease } from './leases.ts'
import { isOurs, podInterface } from './names.ts'
import { subnetOf, type Subnet } from './network.ts'
import type { TakenRanges } from './taken-ranges.ts'

/** A network on one of the host's links, with everything decided: each pod has a link of its own on that one. */
export interface LanNetwork {
  readonly driver: LanSettings['driver']
  readonly name: string
  /** The host's link. */
  readonly parent: string
  readonly mode: LanSettings['mode']
  readonly addresses: LanSettings['addresses']
  /** The LAN's, with its router as gateway. None when a DHCP server gives addresses. */
  readonly subnets: readonly Subnet[]
  /** Undefined: the parent's. */
  readonly mtu: number | undefined
  /** Undefined: eth0, or the next free number. */
  readonly interfaceName: string | undefined
  readonly labels: Readonly<Record<string, string>>
}

/** Decides a network. `taken`: what else this host has, besides what the parent leads to. Pure. Throws {@link NetworkError}. */
export function defineLanNetwork(settings: LanSettings, { taken }: { readonly taken: TakenRanges }): LanNetwork {
  const { driver, name, parent, mode, addresses, subnets, mtu, interfaceName, labels = {} } = settings
  checkNetworkName(name)
  checkMtu(settings)
  checkAddresses(settings)
  for (const subnet of subnets) checkSubnet(subnet, { name, taken })
  const decided = subnets.map((cidr) => subnetOf(networkOf(cidr), settings))
  return { driver, name, parent, mode, addresses, subnets: decided, mtu, interfaceName, labels }
}

/** Whether pods can be put on the parent, beside the other networks that have it. Throws {@link NetworkError}. */
export function checkParent(
  network: Pick<LanNetwork, 'driver' | 'name' | 'parent' | 'mode' | 'mtu'>,
  host: { readonly links: readonly Link[]; readonly others: readonly LanNetwork[] },
): void {
  const { driver, name, parent, mode, mtu } = network
  const refuse = (reason: string): NetworkError =>
    new NetworkError('parent', `parent ${parent} of network ${name} ${reason}`)
  const link = host.links.find((other) => other.name === parent)
  if (!link) {
    const known = host.links
      .filter((other) => other.kind !== 'bridge' && !other.loopback && !isOurs(other))
      .map((other) => other.name)
    throw refuse(`is no link of this host (expected one of: ${known.slice(0, 10).join(', ')})`)
  }
  if (link.loopback) throw refuse('is the loopback link (expected one that leads to a LAN, like eth1)')
  const master = host.links.find(({ index }) => index === link.master)
  if (master) {
    const advice = master.kind === 'bridge' ? `use ${master.name} itself as parent, or ` : ''
    throw refuse(
      `is a port of ${master.kind ?? 'link'} ${master.name}, which takes all of its packets (${advice}take it out there)`,
    )
  }
  if (mtu !== undefined && mtu > link.mtu) throw refuse(`has an MTU of ${link.mtu} (expected an mtu of at most that)`)
  const twin = host.others.find((other) => {
    if (other.parent !== parent || other.name === name) return false
    return (
      other.driver !== driver ||
      isPassthru(other) ||
      isPassthru(network) ||
      (driver === 'ipvlan' && other.mode !== mode)
    )
  })
  if (!twin) return
  const whose = `${twin.driver} network ${twin.name} of mode ${twin.mode} has it already`
  throw refuse(`cannot be shared: ${whose} (expected a link of its own for ${driver} in mode ${mode})`)
}

/** Whether a link takes its parent over whole: one pod has it. */
export function isPassthru({ driver, mode }: Pick<LanNetwork, 'driver' | 'mode'>): boolean {
  return driver === 'macvlan' && mode === 'passthru'
}

/** Whether pods have MAC addresses of their own; otherwise they have their parent's. */
export function ownMac(network: Pick<LanNetwork, 'driver' | 'mode'>): boolean {
  return network.driver === 'macvlan' && !isPassthru(network)
}

/** Families in which a pod's packets to everywhere can leave by this endpoint. Pure. */
export function lanLeadsOut(network: LanNetwork, lease: Pick<Lease, 'ips'>): readonly IpFamily[] {
  return network.addresses === 'dhcp' ? [4] : [...new Set(lease.ips.map(ipFamilyOf))]
}

/** What a pod's namespace should hold of an endpoint; what comes by DHCP is not in it. Pure. */
export function planLanEndpoint(
  network: LanNetwork,
  lease: Lease,
  context: { readonly defaults: readonly IpFamily[]; readonly several: boolean },
): InsidePlan {
  const { defaults, several } = context
  const homes = lease.ips.flatMap((ip) => {
    const subnet = network.subnets.find(({ cidr }) => cidrContains(cidr, ip))
    return subnet ? [{ ip, family: ipFamilyOf(ip), ...subnet }] : []
  })
  // In these modes the kernel routes for the pod without asking for neighbours: there is no router on the link to name.
  const routed = network.driver === 'ipvlan' && network.mode !== 'l2'
  return {
    kind: network.driver,
    link: lease.link ?? podInterface,
    mac: ownMac(network) ? lease.mac : undefined,
    mtu: network.mtu,
    addresses: homes.map(({ ip, cidr, family }) => ({
      address: ip,
      prefix: routed ? (family === 4 ? 32 : 128) : cidr.prefix,
    })),
    routes: homes.flatMap(({ family, gateway }) => {
      if (defaults.includes(family)) return [{ destination: everywhere[family], ...(!routed && { via: gateway }) }]
      if (!routed) return []
      return network.subnets
        .filter(({ cidr }) => cidrFamily(cidr) === family)
        .map(({ cidr }) => ({ destination: cidr }))
    }),
    sources: several && !routed ? homes.map(({ ip, gateway }) => ({ ip, gateway })) : [],
  }
}

const everywhere: Readonly<Record<IpFamily, Cidr>> = {
  4: { address: parseIp('0.0.0.0'), prefix: 0 },
  6: { address: parseIp('::'), prefix: 0 },
}
