import { cidrContains, cidrFamily, type Cidr } from '../net/cidr.ts'
import { ipFamilies, type IpFamily } from '../net/ip-address.ts'
import { addressRange, registerBytes } from '../nftables/keys.ts'
import {
  ctStatusBits,
  fibTypeLocal,
  nfproto,
  type Chain,
  type Elements,
  type Expression,
  type NftSet,
  type RegisterBytes,
  type Rule,
  type Statement,
} from '../nftables/objects.ts'
import type { ProxySettings } from './compile-services.ts'

/** Our table. Chain, set and map names in it may change between versions; hook priorities and the mark do not. */
export const servicesTable = 'fairlead-services'

/** Bit 14: the bit that kube-proxy uses for the same purpose, so that firewalls which know it treat ours alike. */
export const masqueradeMark = 0x4000

/**
 * What a class of frontends does. Each has, per family, one chain for every endpoint count that occurs.
 * - `vip`: a cluster IP; `external`: an address for clients outside, policy Cluster; `node-port`: the same at a port
 *   of the node;
 * - `short-circuit`, `node-port-short-circuit`: policy Local, seen from outside the node: pods get the cluster's
 *   endpoints, everybody else is looked up again among the local frontends;
 * - `local`, `node-port-local`: what the second lookup finds.
 */
export const classKinds = [
  'vip',
  'external',
  'node-port',
  'short-circuit',
  'node-port-short-circuit',
  'local',
  'node-port-local',
] as const

/** See {@link classKinds}. */
export type ClassKind = (typeof classKinds)[number]

/** One class: all frontends that are treated alike. */
export type FrontendClass =
  | { readonly kind: ClassKind; readonly family: IpFamily; readonly endpoints: number }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' }

/**
 * Class numbers stand in `meta priority` between two rules. Their major numbers, 0xf1a0 and on, are such that no queueing
 * discipline has them by accident (tc counts handles up from 0x8000), and the minor number is the endpoint count.
 */
const majorBase = 0xf1a0
const rejectClass = 0xf1bf_0000
const dropClass = 0xf1bf_0001

/** Not `reject` and `drop`: nft reads those as verdicts, and could not load its own listing again. */
const refuseChain = 'refuse'
const discardChain = 'discard'

/** The number that stands for a class in the frontends' maps. */
export function classNumber(of: FrontendClass): number {
  switch (of.kind) {
    case 'reject':
      return rejectClass
    case 'drop':
      return dropClass
    default: {
      const major = majorBase + classKinds.indexOf(of.kind) * 2 + (of.family === 6 ? 1 : 0)
      return major * 0x1_0000 + of.endpoints
    }
  }
}

/**
 * Endpoint counts whose classes are always there, for cluster IPs and node ports. A chain that is made later costs a look
 * at every element of the map that its rule names (nf_tables_bind_set): 5 ms with 50,000 endpoints.
 */
const standingCounts = [1, 2, 3, 4, 5, 6, 7, 8]

/** The classes that are in the table whether or not a frontend has them. */
export const standingClasses: readonly FrontendClass[] = [
  { kind: 'reject' },
  { kind: 'drop' },
  ...(['vip', 'node-port'] as const).flatMap((kind) =>
    ipFamilies.flatMap((family) => standingCounts.map((endpoints) => ({ kind, family, endpoints }))),
  ),
]

/** The class that a number means; undefined for a number that is none. */
export function classFromNumber(number: number): FrontendClass | undefined {
  if (number === rejectClass) return { kind: 'reject' }
  if (number === dropClass) return { kind: 'drop' }
  const index = Math.floor(number / 0x1_0000) - majorBase
  const kind = classKinds[index >> 1]
  const endpoints = number % 0x1_0000
  if (index < 0 || kind === undefined || endpoints === 0) return undefined
  return { kind, family: index & 1 ? 6 : 4, endpoints }
}

/** The chain that a packet of the class is sent to. */
export function classChainName(of: FrontendClass, origin: Origin): string {
  switch (of.kind) {
    case 'reject':
      return refuseChain
    case 'drop':
      return discardChain
    // The node's own packets never need the second lookup: they are treated as under policy Cluster.
    case 'short-circuit':
      return `${origin === 'node' ? 'external' : of.kind}-${of.family}-${of.endpoints}`
    case 'node-port-short-circuit':
      return `${origin === 'node' ? 'node-port' : of.kind}-${of.family}-${of.endpoints}`
    default:
      return `${of.kind}-${of.family}-${of.endpoints}`
  }
}

const daddr = { 4: 'ip daddr', 6: 'ip6 daddr' } as const
const saddr = { 4: 'ip saddr', 6: 'ip6 saddr' } as const
const nfprotoOf = { 4: nfproto.ipv4, 6: nfproto.ipv6 } as const

const vipKey = (family: IpFamily): readonly Expression[] => [daddr[family], 'meta l4proto', 'th dport']
const nodePortKey: readonly Expression[] = ['meta l4proto', 'th dport']
const slotField: Expression = { numgenRandom: 0x1_0000 }

/** All sets and maps of one family. */
function familySets(f: IpFamily) {
  const frontends = { key: vipKey(f), data: ['meta priority'] } as const
  const endpoints = { key: [...vipKey(f), slotField], data: [daddr[f], 'th dport'] } as const
  const nodePorts = { key: nodePortKey, data: ['meta priority'] } as const
  const nodePortEndpoints = { key: [...nodePortKey, slotField], data: [daddr[f], 'th dport'] } as const
  return {
    localPods: { name: `local-pods-${f}`, key: [saddr[f]], interval: true },
    nodePortAddresses: { name: `node-port-addresses-${f}`, key: [daddr[f]], interval: true },
    clusterIps: { name: `cluster-ips-${f}`, key: [daddr[f]] },
    hairpin: { name: `hairpin-${f}`, key: [saddr[f], daddr[f]] },
    frontends: { name: `frontends-${f}`, ...frontends },
    endpoints: { name: `endpoints-${f}`, ...endpoints },
    localFrontends: { name: `local-frontends-${f}`, ...frontends },
    localEndpoints: { name: `local-endpoints-${f}`, ...endpoints },
    nodePorts: { name: `node-ports-${f}`, ...nodePorts },
    nodePortEndpoints: { name: `node-port-endpoints-${f}`, ...nodePortEndpoints },
    localNodePorts: { name: `local-node-ports-${f}`, ...nodePorts },
    localNodePortEndpoints: { name: `local-node-port-endpoints-${f}`, ...nodePortEndpoints },
  } as const satisfies Record<string, NftSet>
}

/** The sets and maps that elements go to, by family. */
export const sets = { 4: familySets(4), 6: familySets(6) } as const

/** The names of {@link sets}. */
export type SetRole = keyof ReturnType<typeof familySets>

/**
 * Verdict maps from class to chain: for packets that came in, for the node's own, and for the second lookup of those that
 * came in. The last is a map of its own because the kernel would see a loop (EMLINK) in a chain that leads back to the map
 * that it was found in. As small as the classes are few.
 */
export const classMaps = {
  outside: { name: 'classes', key: ['meta priority'], data: 'verdict' },
  node: { name: 'node-classes', key: ['meta priority'], data: 'verdict' },
  local: { name: 'local-classes', key: ['meta priority'], data: 'verdict' },
} as const satisfies Record<string, NftSet>

/** Which of the {@link classMaps} a packet is looked up in. */
export type Origin = keyof typeof classMaps

/** All {@link Origin}s. */
export const origins = ['outside', 'node', 'local'] as const satisfies readonly Origin[]

/** The element of one class map for one class; undefined where the map has no use for it. */
export function classElement(of: FrontendClass, origin: Origin): readonly [RegisterBytes, string] | undefined {
  const shared = of.kind === 'reject' || of.kind === 'drop'
  const second = of.kind === 'local' || of.kind === 'node-port-local'
  if (!shared && second !== (origin === 'local')) return undefined
  return [registerBytes({ number: classNumber(of) }), `goto ${classChainName(of, origin)}`]
}

/** The chains that a class needs beside the static ones. `reject` and `drop` have static ones. */
export function classChains(of: FrontendClass): readonly Chain[] {
  if (of.kind === 'reject' || of.kind === 'drop') return []
  const { kind, family: f, endpoints: count } = of
  const s = sets[f]
  const chain = (kind: ClassKind, rules: readonly Rule[]): Chain => ({ name: `${kind}-${f}-${count}`, rules })
  const mark: Rule = { statements: [{ kind: 'mark-or', bits: masqueradeMark }] }
  const external = chain('external', [mark, dnat(f, vipKey(f), count, s.endpoints)])
  const nodePort = chain('node-port', [mark, dnat(f, nodePortKey, count, s.nodePortEndpoints)])
  switch (kind) {
    case 'vip':
      return [
        chain('vip', [
          { statements: [{ kind: 'jump', chain: `mark-by-source-${f}` }] },
          dnat(f, vipKey(f), count, s.endpoints),
        ]),
      ]
    case 'external':
      return [external]
    case 'node-port':
      return [nodePort]
    case 'short-circuit':
      return [
        external,
        chain('short-circuit', [
          dnat(f, vipKey(f), count, s.endpoints, { onlyPods: true }),
          lookUp(vipKey(f), s.localFrontends, 'local'),
        ]),
      ]
    case 'node-port-short-circuit':
      return [
        nodePort,
        chain('node-port-short-circuit', [
          dnat(f, nodePortKey, count, s.nodePortEndpoints, { onlyPods: true }),
          lookUp(nodePortKey, s.localNodePorts, 'local'),
        ]),
      ]
    case 'local':
      return [chain('local', [dnat(f, vipKey(f), count, s.localEndpoints)])]
    case 'node-port-local':
      return [chain('node-port-local', [dnat(f, nodePortKey, count, s.localNodePortEndpoints)])]
    default:
      return kind satisfies never
  }
}

/**
 * Sends the connection to a random slot. The class number has done its work and must not leave the host as a packet
 * priority, so the same rule puts `meta priority` back to none.
 */
function dnat(
  family: IpFamily,
  key: readonly Expression[],
  count: number,
  map: NftSet,
  options: { onlyPods?: boolean } = {},
): Rule {
  const statements: Statement[] = []
  if (options.onlyPods) statements.push({ kind: 'in-set', key: [saddr[family]], set: sets[family].localPods.name })
  statements.push(
    { kind: 'set-priority', to: 0 },
    {
      kind: 'dnat',
      family: family === 4 ? 'ip' : 'ip6',
      to: { key: [...key, { numgenRandom: count }], map: map.name },
    },
  )
  return { statements }
}

/**
 * Two lookups in one rule: a packet whose first lookup finds nothing leaves the rule there, so that a priority which
 * somebody else gave it is never taken for a class.
 */
function lookUp(key: readonly Expression[], map: NftSet, origin: Origin, first: readonly Statement[] = []): Rule {
  return {
    statements: [
      ...first,
      { kind: 'set-priority', to: { key, map: map.name } },
      { kind: 'vmap', key: ['meta priority'], map: classMaps[origin].name },
    ],
  }
}

/** The part of the table that depends on settings only. */
export function staticChains(settings: ProxySettings): readonly Chain[] {
  return [
    { name: refuseChain, rules: [{ statements: [{ kind: 'reject' }] }] },
    { name: discardChain, rules: [{ statements: [{ kind: 'drop' }] }] },
    ...ipFamilies.map((family) => markBySource(family, settings)),
    ...ipFamilies.map((family) => dispatch(family, 'outside', settings)),
    ...ipFamilies.map((family) => dispatch(family, 'node', settings)),
    { name: 'prerouting', hook: { type: 'nat', hook: 'prerouting', priority: -100 }, rules: byFamily('services') },
    { name: 'output', hook: { type: 'nat', hook: 'output', priority: -100 }, rules: byFamily('node-services') },
    { name: 'postrouting', hook: { type: 'nat', hook: 'postrouting', priority: 100 }, rules: masqueradeRules() },
  ]
}

function byFamily(prefix: string): Rule[] {
  return ipFamilies.map((family) => ({
    statements: [ofFamily(family), { kind: 'goto', chain: `${prefix}-${family}` }],
  }))
}

function ofFamily(family: IpFamily): Statement {
  return { kind: 'match', left: 'meta nfproto', op: '==', value: { number: nfprotoOf[family] } }
}

/** Whose source address is replaced on the way to a cluster IP. Nobody's, where nobody is known to be a pod. */
function markBySource(family: IpFamily, settings: ProxySettings): Chain {
  const mark: Statement = { kind: 'mark-or', bits: masqueradeMark }
  const notPods: Statement = { kind: 'in-set', key: [saddr[family]], set: sets[family].localPods.name, negate: true }
  const rules: Rule[] = []
  if (settings.masqueradeAll) rules.push({ statements: [mark] })
  else if (settings.localPods.length > 0) rules.push({ statements: [notPods, mark] })
  return { name: `mark-by-source-${family}`, rules }
}

/** The way of a connection's first packet: frontend, else a cluster IP's unused port, else a port of the node. */
function dispatch(family: IpFamily, origin: 'outside' | 'node', settings: ProxySettings): Chain {
  const s = sets[family]
  const address: Statement[] = [
    { kind: 'match', left: 'fib daddr type', op: '==', value: { number: fibTypeLocal } },
    {
      kind: 'match',
      left: daddr[family],
      op: '!=',
      value: family === 4 ? { address: '127.0.0.0', prefix: 8 } : { address: '::1', prefix: 128 },
    },
  ]
  if (settings.nodePortAddresses) address.push({ kind: 'in-set', key: [daddr[family]], set: s.nodePortAddresses.name })
  return {
    name: origin === 'node' ? `node-services-${family}` : `services-${family}`,
    rules: [
      lookUp(vipKey(family), s.frontends, origin),
      {
        statements: [
          { kind: 'in-set', key: [daddr[family]], set: s.clusterIps.name },
          { kind: 'goto', chain: refuseChain },
        ],
      },
      lookUp(nodePortKey, s.nodePorts, origin, address),
    ],
  }
}

/** Marked connections, and those of an endpoint that was balanced back to itself. */
function masqueradeRules(): Rule[] {
  const rules: Rule[] = [
    {
      statements: [
        { kind: 'match', left: 'meta mark', op: '==', value: { bits: masqueradeMark } },
        { kind: 'mark-xor', bits: masqueradeMark },
        { kind: 'masquerade' },
      ],
    },
  ]
  for (const family of ipFamilies) {
    rules.push({
      statements: [
        ofFamily(family),
        { kind: 'match', left: 'ct status', op: '==', value: { bits: ctStatusBits.dnat } },
        { kind: 'in-set', key: [saddr[family], daddr[family]], set: sets[family].hairpin.name },
        { kind: 'masquerade' },
      ],
    })
  }
  return rules
}

/** All sets and maps, in a fixed order. */
export function allSets(): readonly NftSet[] {
  return [...ipFamilies.flatMap((family) => Object.values<NftSet>(sets[family])), ...Object.values<NftSet>(classMaps)]
}

/** Elements that depend on settings only, by set name. */
export function staticElements(settings: ProxySettings): ReadonlyMap<string, Elements> {
  return new Map(
    ipFamilies.flatMap((family): [string, Elements][] => [
      [sets[family].localPods.name, networkElements(settings.localPods, family)],
      [sets[family].nodePortAddresses.name, networkElements(settings.nodePortAddresses ?? [], family)],
    ]),
  )
}

/** Networks as ranges of an interval set. The kernel refuses overlaps, so networks within others are left out. */
function networkElements(networks: readonly Cidr[], family: IpFamily): Elements {
  const own = networks.filter((network) => cidrFamily(network) === family)
  const widest = own.filter((network, i) =>
    own.every((other, j) => {
      if (i === j || other.prefix > network.prefix || !cidrContains(other, network.address)) return true
      return other.prefix === network.prefix && i < j
    }),
  )
  return new Map(widest.map(addressRange))
}
