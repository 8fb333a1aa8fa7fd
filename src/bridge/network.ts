import { createHash } from 'node:crypto'
import { parseLabelName } from '../model/names.ts'
import {
  addressAt,
  cidrContains,
  cidrFamily,
  cidrsOverlap,
  formatCidr,
  lastAddress,
  networkOf,
  type Cidr,
} from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { macFromBytes, type MacAddress } from '../net/mac-address.ts'
import { isLinkName, isNetworkBridge, networkAlias } from './names.ts'
import { pickSubnet } from './subnet-pool.ts'
import { unusableRangeOf } from './unusable-ranges.ts'

/**
 * How a network's addresses of one family meet the outside. `nat`: only published ports are reached, translated. `routed`:
 * published ports are reached at the pods' own addresses, nothing is translated. `isolated`: the bridge itself has no address
 * of this family, so that pods reach each other and nothing else.
 */
export type GatewayMode = 'nat' | 'routed' | 'isolated'

/** What a user says about a bridge network. Compatible with the `network` section of the daemon's configuration. */
export interface NetworkSettings {
  readonly driver?: 'bridge'
  readonly name: string
  readonly bridge: string
  /** Any number per family. A family without one gets a subnet picked, unless it is in `without`. */
  readonly subnets: readonly Cidr[]
  /** At most one per subnet. Default: the first address of the subnet. */
  readonly gateways?: readonly IpAddress[]
  /** At most one per subnet: where pods' addresses are taken from. Default: all of the subnet. Static ones may lie outside. */
  readonly ipRanges?: readonly Cidr[]
  /** Addresses in the subnets that something else has, by name: never given to pods. */
  readonly auxAddresses?: Readonly<Record<string, IpAddress>>
  /** Families that the network does not have. */
  readonly without?: readonly IpFamily[]
  /** Undefined: as large as the link of the host's default route allows, and as that changes. */
  readonly mtu?: number | undefined
  /** Packets that leave the host carry the host's address, or the one that is given here (at most one per family). */
  readonly masquerade: boolean | readonly IpAddress[]
  /** Nothing goes out of the network and nothing comes in. @default false */
  readonly internal?: boolean
  /** Pods of the network reach each other. @default true */
  readonly icc?: boolean
  /** A frame may leave by the port that it came from. @default true */
  readonly hairpin?: boolean
  /** @default nat */
  readonly gatewayModes?: Readonly<Partial<Record<IpFamily, GatewayMode>>>
  /** The link's name in pods. Default: eth0, or the next free number in a pod of several networks. */
  readonly interfaceName?: string | undefined
  readonly labels?: Readonly<Record<string, string>>
}

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
}

/** Settings that cannot be used on this host. The message names the field, the value, and what was expected. */
export class NetworkError extends Error {
  override readonly name = 'NetworkError'
  readonly field: string

  constructor(field: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.field = field
  }
}

/** RFC 8200, section 5: IPv6 needs 1,280; an Ethernet bridge takes up to 65,535. */
const mtuRange = { min: 1280, max: 65_535 }

/**
 * Decides everything about a network: subnets that were left open are picked so that they meet no route of the host, and
 * are the same again next time. Pure. Throws {@link NetworkError}.
 */
export function defineNetwork(settings: NetworkSettings, host: HostFacts): Network {
  const { name, bridge, mtu } = settings
  checkNames(settings, host)
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= mtuRange.min && mtu <= mtuRange.max)) {
    const expected = `expected a whole number from ${mtuRange.min} to ${mtuRange.max}`
    throw new NetworkError('mtu', `mtu ${mtu} of network ${name} cannot be used (${expected})`)
  }
  checkFamilies(settings)
  // The routes that our own bridge has are no obstacle: they are there because of this network.
  const taken = [
    ...host.routes
      .filter(({ device, destination }) => device !== bridge && destination.prefix > 0)
      .map(({ destination, device }) => ({
        range: destination,
        what: `route ${formatCidr(destination)}${device === undefined ? '' : ` dev ${device}`}`,
      })),
    ...host.reserved,
  ]
  const subnets: Subnet[] = []
  for (const family of [4, 6] as const) {
    const configured = settings.subnets.find((cidr) => cidrFamily(cidr) === family)
    if (configured) checkSubnet(configured, { name, taken })
    else if (settings.without?.includes(family) || (family === 6 && !host.ipv6)) continue
    const cidr = configured ?? pickSubnet(family, { network: name, taken, ...host })
    if (!cidr) {
      const advice = 'set one in subnets that no route of the host overlaps'
      throw new NetworkError('subnets', `no free IPv${family} subnet is left for network ${name} (${advice})`)
    }
    subnets.push({ cidr: networkOf(cidr), gateway: gatewayOf(cidr, settings) })
  }
  if (subnets.length === 0) throw new NetworkError('subnets', `network ${name} has no subnet (expected at least one)`)
  return {
    driver: 'bridge',
    name,
    bridge,
    mac: stableMac(`${host.machineId} ${name}`),
    subnets,
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

function checkNames({ name, bridge }: NetworkSettings, host: HostFacts): void {
  try {
    parseLabelName(name)
  } catch (error) {
    throw new NetworkError('name', `name of a network: ${(error as Error).message}`, { cause: error })
  }
  if (!isLinkName(bridge)) {
    const expected = 'expected 1 to 15 bytes without space, slash, colon or percent sign'
    throw new NetworkError('bridge', `bridge "${bridge}" of network ${name} cannot name a link (${expected})`)
  }
  const existing = host.links.find((link) => link.name === bridge)
  if (!existing || isNetworkBridge(existing, name)) return
  const whose = existing.alias ? `its alias is "${existing.alias}"` : 'it has no alias'
  throw new NetworkError(
    'bridge',
    `bridge ${bridge} of network ${name} exists and is not ours: ${whose}, ours has "${networkAlias(name)}" ` +
      `(choose another name, or remove that link)`,
  )
}

function checkFamilies({ name, subnets, gateways = [] }: NetworkSettings): void {
  for (const family of [4, 6] as const) {
    const of = subnets.filter((cidr) => cidrFamily(cidr) === family)
    if (of.length > 1) {
      const list = of.map(formatCidr).join(' and ')
      throw new NetworkError('subnets', `network ${name} has subnets ${list} (expected at most one per family)`)
    }
    const ways = gateways.filter((ip) => ipFamilyOf(ip) === family)
    if (ways.length > 1 || (ways.length === 1 && of.length === 0)) {
      const expected = 'expected one gateway at most for each subnet that is given'
      throw new NetworkError(
        'gateways',
        `network ${name} has IPv${family} gateways ${ways.join(' and ')} (${expected})`,
      )
    }
  }
}

function checkSubnet(subnet: Cidr, context: { name: string; taken: HostFacts['reserved'] }): void {
  const { name, taken } = context
  const text = `subnet ${formatCidr(subnet)} of network ${name}`
  const most = cidrFamily(subnet) === 4 ? 30 : 126
  if (subnet.prefix < 8 || subnet.prefix > most) {
    const expected = `expected a prefix from 8 to ${most}: at least a gateway and a pod`
    throw new NetworkError('subnets', `${text} has a prefix of ${subnet.prefix} (${expected})`)
  }
  if (subnet.address !== networkOf(subnet).address) {
    throw new NetworkError('subnets', `${text} has host bits set (expected ${formatCidr(networkOf(subnet))})`)
  }
  const special = unusableRangeOf(subnet)
  if (special !== undefined) {
    const expected = 'expected a range for hosts, like 172.20.0.0/16 or fd12:3456:789a::/64'
    throw new NetworkError('subnets', `${text} overlaps ${special} addresses (${expected})`)
  }
  const clash = taken.find(({ range }) => cidrsOverlap(range, subnet))
  if (clash) throw new NetworkError('subnets', `${text} overlaps ${clash.what} (expected a range that is free)`)
}

function gatewayOf(subnet: Cidr, { name, gateways = [] }: NetworkSettings): IpAddress {
  const gateway = gateways.find((ip) => ipFamilyOf(ip) === cidrFamily(subnet))
  if (gateway === undefined) return addressAt(subnet, 1n)
  const text = `gateway ${gateway} of network ${name}`
  if (!cidrContains(subnet, gateway)) {
    throw new NetworkError(
      'gateways',
      `${text} is outside of its subnet (expected an address in ${formatCidr(subnet)})`,
    )
  }
  const isBroadcast = cidrFamily(subnet) === 4 && gateway === lastAddress(subnet)
  if (gateway === networkOf(subnet).address || isBroadcast) {
    const kind = isBroadcast ? 'broadcast' : 'network'
    throw new NetworkError(
      'gateways',
      `${text} is the ${kind} address (expected a host address in ${formatCidr(subnet)})`,
    )
  }
  return gateway
}
