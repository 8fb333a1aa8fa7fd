import type { Cidr } from '../net/cidr.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'

/**
 * How a network's addresses of one family meet the outside. `nat`: only published ports are reached, translated. `routed`:
 * published ports are reached at the pods' own addresses, nothing is translated. `isolated`: the bridge itself has no address
 * of this family, so that pods reach each other and nothing else.
 */
export type GatewayMode = 'nat' | 'routed' | 'isolated'

export const gatewayModes = ['nat', 'routed', 'isolated'] as const satisfies readonly GatewayMode[]

/** What a user says about the addresses of a network, whichever driver makes it. */
export interface AddressSettings {
  readonly name: string
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
  /** Undefined: as large as the uplink (of a bridge: the default route's) allows, and as that changes. */
  readonly mtu?: number | undefined
  /** The link's name in pods. Default: eth0, or the next free number in a pod of several networks. */
  readonly interfaceName?: string | undefined
  readonly labels?: Readonly<Record<string, string>>
}

/** What a user says about a bridge network. */
export interface BridgeSettings extends AddressSettings {
  readonly driver?: 'bridge'
  /** The bridge's name. */
  readonly bridge: string
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
}

/** As in macvlan_mode of include/uapi/linux/if_link.h. */
export type MacvlanMode = 'bridge' | 'private' | 'vepa' | 'passthru'

export const macvlanModes = ['bridge', 'private', 'vepa', 'passthru'] as const satisfies readonly MacvlanMode[]

/** What a user says about a network whose pods are on the LAN itself, each with a link of its own on one of the host's. */
export interface MacvlanSettings extends AddressSettings {
  readonly driver: 'macvlan'
  /** The host's link. */
  readonly parent: string
  readonly mode: MacvlanMode
  /** Where addresses come from: our own pool (of `subnets`), or the LAN's DHCP server (IPv4). */
  readonly addresses: 'pool' | 'dhcp'
}

/** As in ipvlan_mode of include/uapi/linux/if_link.h. */
export type IpvlanMode = 'l2' | 'l3' | 'l3s'

export const ipvlanModes = ['l2', 'l3', 'l3s'] as const satisfies readonly IpvlanMode[]

/** What a user says about a network whose pods share the MAC address of one of the host's links. */
export interface IpvlanSettings extends AddressSettings {
  readonly driver: 'ipvlan'
  /** The host's link. */
  readonly parent: string
  readonly mode: IpvlanMode
  /** A DHCP server could not tell the pods apart. */
  readonly addresses: 'pool'
}

/** What a user says about a network on one of the host's links. */
export type LanSettings = MacvlanSettings | IpvlanSettings

/** What a user says about a network: the daemon's configuration, a Network manifest, `fairlead network create`. */
export type NetworkSettings = BridgeSettings | LanSettings

/** A network that a manifest asks for: its fields as they are written, which were checked. */
export interface NetworkManifest {
  readonly name: string
  readonly spec: Readonly<Record<string, unknown>>
}
