import { cidrFamily, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, ipFromBytes, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { macToBytes, type MacAddress } from '../net/mac-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'
import type { Lease } from './leases.ts'
import { portOf } from './names.ts'
import type { Network } from './network.ts'
import { isAnyAddress, type Publication } from './publication.ts'

/*
 * What a firewall of bridge networks has to do, whichever way it does it: nftables (`firewall.ts`, `masquerade.ts`,
 * `source-guard.ts`) or iptables (`iptables-rules.ts`). Data, and pure.
 */

/** What is needed of a network to decide who reaches its pods. */
export type GuardedNetwork = Pick<Network, 'name' | 'bridge' | 'internal' | 'icc' | 'gatewayModes'>

/** An endpoint and what it publishes. A lease is one. */
export interface PublishingEndpoint {
  readonly network: string
  readonly ips: readonly IpAddress[]
  readonly published?: readonly Publication[]
}

/** A port of the host that leads to a port of a pod. */
export interface Translation {
  readonly kind: 'translation'
  readonly family: IpFamily
  /** Undefined: all addresses of the host. */
  readonly hostIp: IpAddress | undefined
  readonly hostPort: Port
  readonly protocol: Protocol
  readonly ip: IpAddress
  readonly port: Port
}

/** A port of a pod that is open at the pod's own address (gateway mode routed). */
export interface OpenPort {
  readonly kind: 'open-port'
  readonly family: IpFamily
  readonly protocol: Protocol
  readonly ip: IpAddress
  readonly port: Port
}

/** A subnet whose packets get another source when they leave by a link that is no bridge of ours. */
export interface MasqueradedSubnet {
  readonly network: string
  readonly cidr: Cidr
  /** Undefined: the address of the outgoing link. */
  readonly source: IpAddress | undefined
}

/** What may come out of a port of a bridge. */
export interface GuardedPort {
  readonly port: string
  readonly bridge: string
  readonly mac: MacAddress
  readonly ips: readonly IpAddress[]
  /** Beside its own addresses: neighbour discovery and multicast reports come from these (RFC 4862, RFC 3810). */
  readonly besides: readonly IpAddress[]
  /** Without inter-container communication: the only MAC address that it sends to. */
  readonly onlyTo: MacAddress | undefined
}

/** Whether nothing of this family leaves or enters the network. */
export function isClosed({ internal, gatewayModes }: GuardedNetwork, family: IpFamily): boolean {
  return internal || gatewayModes[family] === 'isolated'
}

/** What published ports mean, by the gateway mode of the network. Endpoints of networks that are not there have none. */
export function* planPublications(
  networks: readonly GuardedNetwork[],
  endpoints: Iterable<PublishingEndpoint>,
): Generator<Translation | OpenPort> {
  const byName = new Map(networks.map((network) => [network.name, network]))
  for (const { network: name, ips, published = [] } of endpoints) {
    const network = byName.get(name)
    if (!network || published.length === 0) continue
    for (const ip of ips) {
      const family = ipFamilyOf(ip)
      if (isClosed(network, family)) continue
      for (const { hostIp, hostPort, port, protocol } of published) {
        if (hostIp !== undefined && ipFamilyOf(hostIp) !== family) continue
        if (network.gatewayModes[family] === 'routed') yield { kind: 'open-port', family, protocol, ip, port }
        else {
          const at = hostIp === undefined || isAnyAddress(hostIp) ? undefined : hostIp
          yield { kind: 'translation', family, hostIp: at, hostPort, protocol, ip, port }
        }
      }
    }
  }
}

/** Subnets that are masqueraded. Gateway modes other than `nat` translate nothing. */
export function planMasquerade(
  networks: readonly Pick<Network, 'name' | 'subnets' | 'masquerade' | 'gatewayModes'>[],
): MasqueradedSubnet[] {
  return networks.flatMap(({ name, subnets, masquerade, gatewayModes }) =>
    subnets.flatMap(({ cidr }): MasqueradedSubnet[] => {
      const family = cidrFamily(cidr)
      if (masquerade === false || gatewayModes[family] !== 'nat') return []
      const source = masquerade === true ? undefined : masquerade.find((ip) => ipFamilyOf(ip) === family)
      return [{ network: name, cidr, source }]
    }),
  )
}

/** What each port may send. Leases of networks that are not there have none. */
export function* planGuards(
  networks: readonly Pick<Network, 'name' | 'bridge' | 'mac' | 'icc'>[],
  leases: Iterable<Pick<Lease, 'owner' | 'network' | 'link' | 'mac' | 'ips'>>,
): Generator<GuardedPort> {
  const byName = new Map(networks.map((network) => [network.name, network]))
  for (const lease of leases) {
    const network = byName.get(lease.network)
    if (!network) continue
    const { mac, ips } = lease
    yield {
      port: portOf(lease),
      bridge: network.bridge,
      mac,
      ips,
      besides: [linkLocalOf(mac), unspecified],
      onlyTo: network.icc ? undefined : network.mac,
    }
  }
}

const unspecified = parseIp('::')

/** RFC 4291, appendix A: the address that the kernel gives a link of this MAC by itself (addr_gen_mode eui64). */
export function linkLocalOf(mac: MacAddress): IpAddress {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = macToBytes(mac)
  return ipFromBytes(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f))
}
