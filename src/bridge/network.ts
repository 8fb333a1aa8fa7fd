import { createHash } from 'node:crypto'
import type { AddressSettings, BridgeSettings, GatewayMode } from '../model/network.ts'
import { addressAt, cidrContains, cidrFamily, formatCidr, networkOf, type Cidr } from '../net/cidr.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import { macFromBytes, type MacAddress } from '../net/mac-address.ts'
import { checkAddresses, checkMtu, checkNames, checkSubnet, mtuRange, NetworkError } from './check-network.ts'
import { pickSubnet } from './subnet-pool.ts'
import { TakenRanges } from './taken-ranges.ts'

/** One subnet of a network, with the address that the bridge has in it. */
export interface Subnet {
  readonly cidr: Cidr
  readonly gateway: IpAddress
  /** Where addresses are taken from. Absent: everywhere. */
  readonly range?: Cidr
  /** Never given to pods. */
  readonly aux?: readonly IpAddress[]
}

/** A bridge network with everything decided. */
export interface Network {
  readonly driver: 'bridge'
  readonly name: string
  readonly bridge: string
  /** Pinned, or the bridge would take the lowest address of its ports and change it as they come and go. */
  readonly mac: MacAddress
  readonly subnets: readonly Subnet[]
  readonly mtu: number
  /** No MTU was given: it is the uplink's, also when that changes. */
  readonly followsUplink: boolean
  /** True: with the address of the outgoing link. A list: with that address, at most one per family. */
  readonly masquerade: boolean | readonly IpAddress[]
  readonly internal: boolean
  /** Whether pods of the network reach each other. */
  readonly icc: boolean
  readonly hairpin: boolean
  readonly gatewayModes: Readonly<Record<IpFamily, GatewayMode>>
  /** Undefined: eth0, or the next free number. */
  readonly interfaceName: string | undefined
  readonly labels: Readonly<Record<string, string>>
}

/** The options of a {@link Network} that nobody asked for anything else. */
export const networkDefaults = {
  driver: 'bridge',
  followsUplink: false,
  masquerade: true,
  internal: false,
  icc: true,
  hairpin: true,
  gatewayModes: { 4: 'nat', 6: 'nat' },
  interfaceName: undefined,
  labels: {},
} as const satisfies Partial<Network>

/** A route of the host, as far as subnets must avoid it. */
export interface HostRoute {
  readonly destination: Cidr
  /** Name of the outgoing link; undefined for blackholes and multipath routes. */
  readonly device: string | undefined
}

/** What must be known of the host to decide a network. */
export interface HostFacts {
  readonly routes: readonly HostRoute[]
  readonly links: readonly { readonly name: string; readonly alias: string | undefined; readonly group: number }[]
  /** Anything that tells this machine from others, like /etc/machine-id: the ULA prefix and MACs are made of it. */
  readonly machineId: string
  /** Ranges that have no route but are taken: Service addresses, other networks. */
  readonly reserved: readonly { readonly range: Cidr; readonly what: string }[]
  /** MTU of the link of the default route. */
  readonly uplinkMtu: number | undefined
  /** Whether the kernel has IPv6. */
  readonly ipv6: boolean
  /** Subnets that were picked for this network before. They stay while nothing overlaps them. */
  readonly previous: readonly Cidr[]
  /** What is taken, when that was counted together already (for many networks); then routes and `reserved` are not asked. */
  readonly taken?: TakenRanges
}

/**
 * Decides everything about a network: subnets that were left open are picked so that they meet no route of the host, and
 * are the same again next time. Pure. Throws {@link NetworkError}.
 */
export function defineNetwork(settings: BridgeSettings, host: HostFacts): Network {
  const { name, bridge, mtu } = settings
  checkNames(settings, host.links)
  checkMtu(settings)
  checkAddresses(settings)
  // The routes that our own bridge has are no obstacle: they are there because of this network.
  const taken = host.taken ?? takenOn({ ...host, routes: host.routes.filter(({ device }) => device !== bridge) })
  const cidrs = ([4, 6] as const).flatMap((family): readonly Cidr[] => {
    const configured = settings.subnets.filter((cidr) => cidrFamily(cidr) === family)
    for (const subnet of configured) checkSubnet(subnet, { name, taken })
    if (configured.length > 0) return configured
    if (settings.without?.includes(family) || (family === 6 && !host.ipv6)) return []
    const { machineId, previous } = host
    const picked = pickSubnet(family, { network: name, taken, machineId, previous })
    if (picked) return [picked]
    const advice = 'set one in subnets that no route of the host overlaps'
    throw new NetworkError('subnets', `no free IPv${family} subnet is left for network ${name} (${advice})`)
  })
  if (cidrs.length === 0) throw new NetworkError('subnets', `network ${name} has no subnet (expected at least one)`)
  return {
    driver: 'bridge',
    name,
    bridge,
    mac: stableMac(`${host.machineId} ${name}`),
    subnets: cidrs.map((cidr) => subnetOf(networkOf(cidr), settings)),
    mtu: mtu ?? followedMtu(host.uplinkMtu),
    followsUplink: mtu === undefined,
    masquerade: settings.masquerade,
    internal: settings.internal ?? networkDefaults.internal,
    icc: settings.icc ?? networkDefaults.icc,
    hairpin: settings.hairpin ?? networkDefaults.hairpin,
    gatewayModes: { ...networkDefaults.gatewayModes, ...settings.gatewayModes },
    interfaceName: settings.interfaceName,
    labels: settings.labels ?? {},
  }
}

/** What no subnet may overlap on this host. */
export function takenOn({ routes, reserved }: Pick<HostFacts, 'routes' | 'reserved'>): TakenRanges {
  const routed = routes
    .filter(({ destination }) => destination.prefix > 0)
    .map(({ destination, device }) => ({
      range: destination,
      what: `route ${formatCidr(destination)}${device === undefined ? '' : ` dev ${device}`}`,
    }))
  return new TakenRanges([...routed, ...reserved])
}

/** The MTU of a network that follows an uplink with this one; without an uplink, Ethernet's. */
export function followedMtu(uplinkMtu: number | undefined): number {
  return Math.min(Math.max(uplinkMtu ?? 1500, mtuRange.min), mtuRange.max)
}

/** A locally administered unicast address that is always the same for the same seed. */
export function stableMac(seed: string): MacAddress {
  const bytes = createHash('sha256').update(seed).digest().subarray(0, 6)
  bytes[0] = (bytes[0]! & 0xfc) | 0x02
  return macFromBytes(bytes)
}

/** A subnet with what a user said about its addresses. Pure. */
export function subnetOf(cidr: Cidr, settings: AddressSettings): Subnet {
  const { gateways = [], ipRanges = [], auxAddresses = {} } = settings
  const range = ipRanges.find((range) => cidrContains(cidr, range.address))
  const aux = Object.values(auxAddresses).filter((ip) => cidrContains(cidr, ip))
  return {
    cidr,
    gateway: gateways.find((ip) => cidrContains(cidr, ip)) ?? firstFree(cidr, aux),
    ...(range && { range }),
    ...(aux.length > 0 && { aux }),
  }
}

/** The first address of the subnet that nothing else is said to have. */
function firstFree(cidr: Cidr, aux: readonly IpAddress[]): IpAddress {
  for (let index = 1n; ; index++) {
    const ip = addressAt(cidr, index)
    if (!aux.includes(ip)) return ip
  }
}
