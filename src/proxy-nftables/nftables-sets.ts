import { ipFamilies, type IpFamily } from '../net/ip-address.ts'
import type { Expression, NftSet } from '../nftables/objects.ts'

/** Our table. Chain, set and map names in it may change between versions; hook priorities and the mark do not. */
export const servicesTable = 'fairlead-services'

/** Fields of packets by family. */
export const addressFields = {
  4: { source: 'ip saddr', destination: 'ip daddr' },
  6: { source: 'ip6 saddr', destination: 'ip6 daddr' },
} as const

/** How frontends with an address of their own are keyed: address . protocol . port. */
export function vipKey(family: IpFamily): readonly Expression[] {
  return [addressFields[family].destination, ...nodePortKey]
}

/** How ports of the node are keyed: protocol . port. */
export const nodePortKey: readonly Expression[] = ['meta l4proto', 'th dport']

/** Clients that session affinity remembers at most, per family: some 150 bytes of the kernel's memory each. */
const maxClients = 1_000_000

/** Where a rule parks what it found for the next one, see nftables-numbers.ts. */
const parked: readonly Expression[] = ['meta priority']

/** All sets and maps of one family. */
function familySets(f: IpFamily) {
  const { source, destination } = addressFields[f]
  const frontends = { key: vipKey(f), data: parked } as const
  const nodePorts = { key: nodePortKey, data: parked } as const
  const next = { key: [...vipKey(f), ...parked], data: parked } as const
  const nodePortNext = { key: [...nodePortKey, ...parked], data: parked } as const
  const endpoints = { ...next, data: [destination, 'th dport'] } as const
  const nodePortEndpoints = { ...nodePortNext, data: [destination, 'th dport'] } as const
  return {
    localPods: { name: `local-pods-${f}`, key: [source], interval: true },
    nodePortAddresses: { name: `node-port-addresses-${f}`, key: [destination], interval: true },
    serviceRanges: { name: `service-ranges-${f}`, key: [destination], interval: true },
    clusterIps: { name: `cluster-ips-${f}`, key: [destination] },
    hairpin: { name: `hairpin-${f}`, key: [source, destination] },
    guarded: { name: `guarded-${f}`, key: vipKey(f) },
    sourceRanges: { name: `source-ranges-${f}`, key: [...vipKey(f), source], interval: true },
    guardedNodePorts: { name: `guarded-node-ports-${f}`, key: nodePortKey },
    nodePortSourceRanges: { name: `node-port-source-ranges-${f}`, key: [...nodePortKey, source], interval: true },
    frontends: { name: `frontends-${f}`, ...frontends },
    endpoints: { name: `endpoints-${f}`, ...endpoints },
    next: { name: `next-${f}`, ...next },
    localFrontends: { name: `local-frontends-${f}`, ...frontends },
    localEndpoints: { name: `local-endpoints-${f}`, ...endpoints },
    localNext: { name: `local-next-${f}`, ...next },
    nodePorts: { name: `node-ports-${f}`, ...nodePorts },
    nodePortEndpoints: { name: `node-port-endpoints-${f}`, ...nodePortEndpoints },
    nodePortNext: { name: `node-port-next-${f}`, ...nodePortNext },
    localNodePorts: { name: `local-node-ports-${f}`, ...nodePorts },
    localNodePortEndpoints: { name: `local-node-port-endpoints-${f}`, ...nodePortEndpoints },
    localNodePortNext: { name: `local-node-port-next-${f}`, ...nodePortNext },
    // The group first: nft 1.0.6 aborts when it loads an `update` whose key begins with an IPv6 address and goes on.
    affinity: { name: `affinity-${f}`, key: [...parked, source], data: parked, dynamic: { size: maxClients } },
  } as const satisfies Record<string, NftSet>
}

/** The sets and maps that elements go to, by family. */
export const sets = { 4: familySets(4), 6: familySets(6) } as const

/** The names of {@link sets}. */
export type SetRole = keyof ReturnType<typeof familySets>

/**
 * The four ways to look at endpoints: of a frontend with its own address or of a port of the node, and all of them or those
 * of this node. Each has its maps, and its chains.
 */
export const views = {
  cluster: { key: vipKey, frontends: 'frontends', endpoints: 'endpoints', next: 'next', prefix: '' },
  local: {
    key: vipKey,
    frontends: 'localFrontends',
    endpoints: 'localEndpoints',
    next: 'localNext',
    prefix: 'local-',
  },
  nodePort: {
    key: () => nodePortKey,
    frontends: 'nodePorts',
    endpoints: 'nodePortEndpoints',
    next: 'nodePortNext',
    prefix: 'node-port-',
  },
  localNodePort: {
    key: () => nodePortKey,
    frontends: 'localNodePorts',
    endpoints: 'localNodePortEndpoints',
    next: 'localNodePortNext',
    prefix: 'local-node-port-',
  },
} as const satisfies Record<string, ViewSets>

/** See {@link views}. */
export type View = keyof typeof views

interface ViewSets {
  readonly key: (family: IpFamily) => readonly Expression[]
  /** From frontend to class. */
  readonly frontends: SetRole
  /** From frontend and slot, or member, to the endpoint. */
  readonly endpoints: SetRole
  /** With session affinity, from frontend and one number to the next. */
  readonly next: SetRole
  /** Of chain names. */
  readonly prefix: string
}

/**
 * Verdict maps from class to chain: for packets that came in, for the node's own, and for the second lookup of those that
 * came in; and for draws within the chains of session affinity. The latter two are maps of their own because the kernel would
 * see a loop (EMLINK) in a chain that leads back to the map that it was found in. As small as the classes are few.
 */
export const classMaps = {
  outside: { name: 'classes', key: parked, data: 'verdict' },
  node: { name: 'node-classes', key: parked, data: 'verdict' },
  local: { name: 'local-classes', key: parked, data: 'verdict' },
  draw: { name: 'draws', key: parked, data: 'verdict' },
} as const satisfies Record<string, NftSet>

/** Which of the {@link classMaps} a packet is looked up in. */
export type Origin = keyof typeof classMaps

/** All {@link Origin}s. */
export const origins = ['outside', 'node', 'local', 'draw'] as const satisfies readonly Origin[]

/** All sets and maps, in a fixed order. */
export function allSets(): readonly NftSet[] {
  return [...ipFamilies.flatMap((family) => Object.values<NftSet>(sets[family])), ...Object.values<NftSet>(classMaps)]
}
