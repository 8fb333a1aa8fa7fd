import { cidrFamily, type Cidr } from '../net/cidr.ts'
import { ipFamilies, ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { addressRange, registerBytes } from '../nftables/keys.ts'
import type { NftSet, RegisterBytes } from '../nftables/objects.ts'
import type { Network } from './network.ts'

/** The other nodes of a cluster, whose pods this node's reach without translation. */
export interface ClusterPeers {
  /** The name of the network whose pods are the cluster's; those of others stay among themselves. */
  readonly network: string
  /** Networks of the other nodes' pods. They do not overlap. */
  readonly pods: readonly Cidr[]
  /** The other nodes' own addresses. */
  readonly nodes: readonly IpAddress[]
}

/** A machine by itself. */
export const noPeers: ClusterPeers = Object.freeze({ network: '', pods: [], nodes: [] })

/** The sets of our table that have them, by family. */
export const peerSets = {
  4: {
    pods: { name: 'peer-pods-4', key: ['ip saddr'], interval: true },
    nodes: { name: 'peer-nodes-4', key: ['ip saddr'] },
    own: { name: 'cluster-pods-4', key: ['ip saddr'], interval: true },
  },
  6: {
    pods: { name: 'peer-pods-6', key: ['ip6 saddr'], interval: true },
    nodes: { name: 'peer-nodes-6', key: ['ip6 saddr'] },
    own: { name: 'cluster-pods-6', key: ['ip6 saddr'], interval: true },
  },
} as const satisfies Record<4 | 6, Record<string, NftSet>>

/** The bridge whose pods the other nodes reach. */
export const clusterBridges = { name: 'cluster', key: ['oifname'] } as const satisfies NftSet

/** The network of the cluster, if this node has it and lets anything of the family in. */
export function clusterNetwork(networks: readonly Network[], peers: ClusterPeers): Network | undefined {
  return networks.find(({ name }) => name === peers.network)
}

/** The sets that the peers need, and what is in them. Without peers they are empty. Pure. */
export function compilePeers(
  networks: readonly Network[],
  peers: ClusterPeers,
): { readonly sets: readonly NftSet[]; readonly elements: ReadonlyMap<string, ReadonlyMap<RegisterBytes, string>> } {
  const sets: NftSet[] = [clusterBridges]
  const elements = new Map<string, Map<RegisterBytes, string>>()
  const network = clusterNetwork(networks, peers)
  elements.set(clusterBridges.name, new Map(network ? [[registerBytes({ name: network.bridge }), '']] : []))
  for (const family of ipFamilies) {
    const { pods, nodes, own } = peerSets[family]
    const ranges = (cidrs: readonly Cidr[]): Map<RegisterBytes, string> =>
      new Map(cidrs.filter((cidr) => cidrFamily(cidr) === family).map((cidr) => addressRange(cidr)))
    sets.push(pods, nodes, own)
    elements.set(pods.name, ranges(peers.pods))
    const addresses = peers.nodes.filter((ip) => ipFamilyOf(ip) === family)
    elements.set(nodes.name, new Map(addresses.map((ip) => [registerBytes({ ip }), ''])))
    elements.set(own.name, ranges(network?.subnets.map(({ cidr }) => cidr) ?? []))
  }
  return { sets, elements }
}
