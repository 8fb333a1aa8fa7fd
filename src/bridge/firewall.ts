import { ipFamilies, type IpFamily } from '../net/ip-address.ts'
import { registerBytes } from '../nftables/keys.ts'
import {
  ctStateBits,
  ctStatusBits,
  fibTypeLocal,
  nfproto,
  type Chain,
  type Expression,
  type NftSet,
  type RegisterBytes,
  type Rule,
  type Statement,
  type TableState,
} from '../nftables/objects.ts'
import { clusterBridges, peerSets } from './cluster-peers.ts'
import { isClosed, planPublications, type GuardedNetwork, type PublishingEndpoint } from './firewall-plan.ts'

/*
 * Hook priorities. NAT: one after the Services' chains (-100), so that an address and port that a Service has is the
 * Service's. Of the NAT chains at one hook, the first that translates decides. Raw: before connection tracking (-200),
 * which gives the answers to translated packets their loopback addresses back.
 */
const afterServices = -99
const raw = -300
const filter = 0

const saddr = { 4: 'ip saddr', 6: 'ip6 saddr' } as const
const daddr = { 4: 'ip daddr', 6: 'ip6 daddr' } as const
const nfprotoOf = { 4: nfproto.ipv4, 6: nfproto.ipv6 } as const
const icmpOf = { 4: 1, 6: 58 } as const
const loopback = { 4: { address: '127.0.0.0', prefix: 8 }, 6: { address: '::1', prefix: 128 } } as const
/** Pods could not answer link-local clients: such addresses mean nothing beyond their link. */
const linkLocal6 = { address: 'fe80::', prefix: 10 } as const

const hostPort = (f: IpFamily): readonly Expression[] => [daddr[f], 'meta l4proto', 'th dport']
const target = (f: IpFamily): readonly Expression[] => [daddr[f], 'th dport']

/** The sets and maps of one family. */
function familySets(f: IpFamily) {
  return {
    /** Ports published at one address of the host, and where they lead. */
    published: { name: `published-${f}`, key: hostPort(f), data: target(f) },
    /** Ports published at all addresses of the host. */
    publishedAny: { name: `published-any-${f}`, key: ['meta l4proto', 'th dport'], data: target(f) },
    /** Pods with published ports, paired with themselves. */
    hairpin: { name: `hairpin-${f}`, key: [saddr[f], daddr[f]] },
    /** Ports of pods that are open at the pods' own addresses (gateway mode routed). */
    openPorts: { name: `open-ports-${f}`, key: hostPort(f) },
    /** Bridges whose pods answer to ping from everywhere (gateway mode routed). */
    routed: { name: `routed-${f}`, key: ['oifname'] },
    /** Bridges that nothing of this family leaves or enters (internal, or gateway mode isolated). */
    closed: { name: `closed-${f}`, key: ['iifname'] },
  } as const satisfies Record<string, NftSet>
}

/** All sets and maps, by family. */
export const firewallSets = { 4: familySets(4), 6: familySets(6) } as const

/** Each bridge paired with itself: traffic among the pods of one network, which the host routes. */
const sameBridge = { name: 'same-bridge', key: ['iifname', 'oifname'] } as const satisfies NftSet
/** Bridges whose pods do not reach each other, except at published ports and Services. */
const noIcc = { name: 'no-icc', key: ['iifname'] } as const satisfies NftSet
/** Our bridges; the masquerade rules have the set, too. */
const bridges = 'bridges'

/**
 * The part of our table that publishes ports and guards pods. Its rules never change: ports and networks are elements.
 * Nothing is accepted for others here and no policy drops; what is dropped is only what goes to or from our bridges. Pure.
 */
export function compileFirewall(
  networks: readonly GuardedNetwork[],
  endpoints: Iterable<PublishingEndpoint>,
): Pick<TableState, 'chains' | 'sets' | 'elements'> {
  const elements = new Map<string, Map<RegisterBytes, string>>()
  const add = (set: NftSet, key: RegisterBytes, data: RegisterBytes = ''): void => {
    const present = elements.get(set.name)
    if (present) present.set(key, data)
    else elements.set(set.name, new Map([[key, data]]))
  }
  for (const network of networks) {
    const { bridge, icc, gatewayModes } = network
    add(sameBridge, registerBytes({ name: bridge }, { name: bridge }))
    if (!icc) add(noIcc, registerBytes({ name: bridge }))
    for (const family of ipFamilies) {
      const { routed, closed } = firewallSets[family]
      if (gatewayModes[family] === 'routed') add(routed, registerBytes({ name: bridge }))
      if (isClosed(network, family)) add(closed, registerBytes({ name: bridge }))
    }
  }
  for (const publication of planPublications(networks, endpoints)) {
    const { family, ip, protocol, port } = publication
    const sets = firewallSets[family]
    if (publication.kind === 'open-port') {
      add(sets.openPorts, registerBytes({ ip }, { protocol }, { port }))
      continue
    }
    const { hostIp, hostPort } = publication
    const to = registerBytes({ ip }, { port })
    if (hostIp === undefined) add(sets.publishedAny, registerBytes({ protocol }, { port: hostPort }), to)
    else add(sets.published, registerBytes({ ip: hostIp }, { protocol }, { port: hostPort }), to)
    add(sets.hairpin, registerBytes({ ip }, { ip }))
  }
  return { chains: chains(), sets: allSets(), elements }
}

function allSets(): readonly NftSet[] {
  return [...ipFamilies.flatMap((family) => Object.values<NftSet>(firewallSets[family])), sameBridge, noIcc]
}

function chains(): readonly Chain[] {
  return [
    { name: 'raw', hook: { type: 'filter', hook: 'prerouting', priority: raw }, rules: martianRules() },
    {
      name: 'prerouting',
      hook: { type: 'nat', hook: 'prerouting', priority: afterServices },
      // 127.0.0.0/8 that comes in by a link is nobody's to publish, also where another program set route_localnet.
      rules: ipFamilies.flatMap((family) => publishRules(family, { exceptLoopback: true })),
    },
    {
      name: 'output',
      hook: { type: 'nat', hook: 'output', priority: afterServices },
      // ::1 cannot be translated: the kernel takes no answer to it from a link.
      rules: [...publishRules(4, { exceptLoopback: false }), ...publishRules(6, { exceptLoopback: true })],
    },
    { name: 'forward', hook: { type: 'filter', hook: 'forward', priority: filter }, rules: forwardRules() },
    { name: 'neighbours', rules: neighbourRules() },
  ]
}

/** With route_localnet on a bridge, its pods could reach what listens on 127.0.0.1 (CVE-2020-8558), and pretend to be it. */
function martianRules(): Rule[] {
  return ([daddr[4], saddr[4]] as const).map((left) => ({
    statements: [
      { kind: 'in-set', key: ['iifname'], set: bridges },
      { kind: 'match', left, op: '==', value: loopback[4] },
      { kind: 'drop' },
    ],
  }))
}

/** Only packets to the host itself: others may be on their way to a port of the same number elsewhere. */
function publishRules(family: IpFamily, options: { exceptLoopback: boolean }): Rule[] {
  const { published, publishedAny } = firewallSets[family]
  const toHost: Statement[] = [
    { kind: 'match', left: 'meta nfproto', op: '==', value: { number: nfprotoOf[family] } },
    { kind: 'match', left: 'fib daddr type', op: '==', value: { number: fibTypeLocal } },
  ]
  if (options.exceptLoopback) toHost.push({ kind: 'match', left: daddr[family], op: '!=', value: loopback[family] })
  if (family === 6) toHost.push({ kind: 'match', left: saddr[6], op: '!=', value: linkLocal6 })
  return [published, publishedAny].map(({ name, key }) => ({
    statements: [...toHost, { kind: 'dnat', family: family === 4 ? 'ip' : 'ip6', to: { key, map: name } }],
  }))
}

/** Who reaches a pod: answers, what somebody translated on purpose, and what its network opens. */
function forwardRules(): Rule[] {
  const translated: Statement = { kind: 'match', left: 'ct status', op: '==', value: { bits: ctStatusBits.dnat } }
  const toOurs: Statement = { kind: 'in-set', key: ['oifname'], set: bridges }
  const answers = { bits: ctStateBits.established | ctStateBits.related }
  return [
    { statements: [{ kind: 'match', left: 'ct state', op: '==', value: answers }, { kind: 'accept' }] },
    {
      statements: [
        { kind: 'in-set', key: ['iifname', 'oifname'], set: sameBridge.name },
        { kind: 'goto', chain: 'neighbours' },
      ],
    },
    ...ipFamilies.flatMap((family) =>
      (['iifname', 'oifname'] as const).map((link): Rule => ({
        statements: [
          { kind: 'match', left: 'meta nfproto', op: '==', value: { number: nfprotoOf[family] } },
          { kind: 'in-set', key: [link], set: firewallSets[family].closed.name },
          { kind: 'drop' },
        ],
      })),
    ),
    { statements: [toOurs, translated, { kind: 'accept' }] },
    // Other nodes of the cluster, and their pods. What says to be from there and comes out of a pod, the source guard drops.
    ...ipFamilies.flatMap((family) =>
      [peerSets[family].pods, peerSets[family].nodes].map(({ key, name }): Rule => ({
        statements: [
          { kind: 'in-set', key: clusterBridges.key, set: clusterBridges.name },
          { kind: 'in-set', key, set: name },
          { kind: 'accept' },
        ],
      })),
    ),
    ...ipFamilies.flatMap((family): Rule[] => {
      const { openPorts, routed } = firewallSets[family]
      return [
        { statements: [{ kind: 'in-set', key: openPorts.key, set: openPorts.name }, { kind: 'accept' }] },
        {
          statements: [
            { kind: 'match', left: 'meta l4proto', op: '==', value: { number: icmpOf[family] } },
            { kind: 'in-set', key: routed.key, set: routed.name },
            { kind: 'accept' },
          ],
        },
      ]
    }),
    { statements: [toOurs, { kind: 'drop' }] },
  ]
}

function neighbourRules(): Rule[] {
  return [
    {
      statements: [{ kind: 'in-set', key: noIcc.key, set: noIcc.name, negate: true }, { kind: 'accept' }],
    },
    {
      statements: [
        { kind: 'match', left: 'ct status', op: '==', value: { bits: ctStatusBits.dnat } },
        { kind: 'accept' },
      ],
    },
    // Mode routed: what is published is open at the pod's own address, also for its neighbours.
    ...ipFamilies.map((family): Rule => {
      const { openPorts } = firewallSets[family]
      return { statements: [{ kind: 'in-set', key: openPorts.key, set: openPorts.name }, { kind: 'accept' }] }
    }),
    { statements: [{ kind: 'drop' }] },
  ]
}

/** The masquerade rules that publishing needs: a pod that reaches itself, and who comes from 127.0.0.1. */
export function publishedMasqueradeRules(): readonly Rule[] {
  return [
    ...ipFamilies.map((family): Rule => {
      const { hairpin } = firewallSets[family]
      return {
        statements: [
          { kind: 'match', left: 'meta nfproto', op: '==', value: { number: nfprotoOf[family] } },
          { kind: 'match', left: 'ct status', op: '==', value: { bits: ctStatusBits.dnat } },
          { kind: 'in-set', key: hairpin.key, set: hairpin.name },
          { kind: 'masquerade' },
        ],
      }
    }),
    {
      statements: [
        { kind: 'in-set', key: ['oifname'], set: bridges },
        { kind: 'match', left: saddr[4], op: '==', value: loopback[4] },
        { kind: 'masquerade' },
      ],
    },
  ]
}
