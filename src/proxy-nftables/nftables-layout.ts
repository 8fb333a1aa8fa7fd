import { cidrContains, cidrFamily, type Cidr } from '../net/cidr.ts'
import { ipFamilies, type IpFamily } from '../net/ip-address.ts'
import { addressRange } from '../nftables/keys.ts'
import {
  ctStatusBits,
  fibTypeLocal,
  nfproto,
  type Chain,
  type Elements,
  type Rule,
  type Statement,
} from '../nftables/objects.ts'
import type { CompiledServices, ProxySettings } from '../proxy/compile-services.ts'
import {
  discardChain,
  dnatChain,
  fromPod,
  lookUp,
  masqueradeMark,
  memberChain,
  refuseChain,
} from './nftables-classes.ts'
import { ourNumbers } from './nftables-numbers.ts'
import { addressFields, nodePortKey, sets, views, vipKey, type View } from './nftables-sets.ts'

const nfprotoOf = { 4: nfproto.ipv4, 6: nfproto.ipv6 } as const
const allViews = Object.keys(views) as View[]

/** The part of the table that depends on settings only. */
export function staticChains(settings: ProxySettings): readonly Chain[] {
  return [
    { name: refuseChain, rules: [{ statements: [{ kind: 'reject' }] }] },
    { name: discardChain, rules: [{ statements: [{ kind: 'drop' }] }] },
    ...ipFamilies.flatMap((family) => allViews.flatMap((view) => [memberChain(view, family), dnatChain(view, family)])),
    ...ipFamilies.map((family) => markBySource(family, settings)),
    ...ipFamilies.map((family) => dispatch(family, 'outside', settings)),
    ...ipFamilies.map((family) => dispatch(family, 'node', settings)),
    { name: 'prerouting', hook: { type: 'nat', hook: 'prerouting', priority: -100 }, rules: byFamily('services') },
    { name: 'output', hook: { type: 'nat', hook: 'output', priority: -100 }, rules: byFamily('node-services') },
    { name: 'unused', hook: { type: 'nat', hook: 'prerouting', priority: -90 }, rules: unusedAddresses() },
    { name: 'node-unused', hook: { type: 'nat', hook: 'output', priority: -90 }, rules: unusedAddresses() },
    { name: 'input', hook: { type: 'nat', hook: 'input', priority: 100 }, rules: [forgetNumber] },
    { name: 'postrouting', hook: { type: 'nat', hook: 'postrouting', priority: 100 }, rules: postrouting(settings) },
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
  const mark: Statement = { kind: 'mark-or', bits: masqueradeMark(settings) }
  const canTell = settings.localInterface ?? settings.localPods.find((cidr) => cidrFamily(cidr) === family)
  const rules: Rule[] = []
  if (settings.masqueradeAll) rules.push({ statements: [mark] })
  else if (canTell) rules.push({ statements: [fromPod(family, settings, true), mark] })
  return { name: `mark-by-source-${family}`, rules }
}

/**
 * The way of a connection's first packet: source ranges, frontends, a cluster IP's unused port, a port of the node. A packet
 * whose class went with a commit of that very moment still has its number, and is looked up again: it would be refused.
 */
function dispatch(family: IpFamily, origin: 'outside' | 'node', settings: ProxySettings): Chain {
  const s = sets[family]
  const { source, destination } = addressFields[family]
  const atNode: Statement[] = [
    fibLocal('=='),
    {
      kind: 'match',
      left: destination,
      op: '!=',
      value: family === 4 ? { address: '127.0.0.0', prefix: 8 } : { address: '::1', prefix: 128 },
    },
  ]
  if (settings.nodePortAddresses) atNode.push({ kind: 'in-set', key: [destination], set: s.nodePortAddresses.name })
  const vip = vipKey(family)
  return {
    name: origin === 'node' ? `node-services-${family}` : `services-${family}`,
    rules: [
      {
        statements: [
          { kind: 'in-set', key: vip, set: s.guarded.name },
          { kind: 'in-set', key: [...vip, source], set: s.sourceRanges.name, negate: true },
          { kind: 'goto', chain: discardChain },
        ],
      },
      lookUp('cluster', family, origin),
      lookUp('cluster', family, origin, [hasNumber]),
      {
        statements: [
          { kind: 'in-set', key: [destination], set: s.clusterIps.name },
          { kind: 'goto', chain: refuseChain },
        ],
      },
      {
        statements: [
          { kind: 'in-set', key: nodePortKey, set: s.guardedNodePorts.name },
          ...atNode,
          { kind: 'in-set', key: [...nodePortKey, source], set: s.nodePortSourceRanges.name, negate: true },
          { kind: 'goto', chain: discardChain },
        ],
      },
      lookUp('nodePort', family, origin, atNode),
      lookUp('nodePort', family, origin, [hasNumber, ...atNode]),
    ],
  }
}

/**
 * Addresses of the Service ranges that no Service has, after all NAT chains at -100: a connection that another proxy, with Services
 * of its own, has translated does not come here.
 */
function unusedAddresses(): Rule[] {
  return ipFamilies.map((family) => ({
    statements: [
      { kind: 'in-set', key: [addressFields[family].destination], set: sets[family].serviceRanges.name },
      fibLocal('!='),
      { kind: 'goto', chain: discardChain },
    ],
  }))
}

function fibLocal(op: '==' | '!='): Statement {
  return { kind: 'match', left: 'fib daddr type', op, value: { number: fibTypeLocal } }
}

const translated: Statement = { kind: 'match', left: 'ct status', op: '==', value: { bits: ctStatusBits.dnat } }

const hasNumber: Statement = {
  kind: 'match',
  left: 'meta priority',
  op: '==',
  value: { mask: ourNumbers, equals: ourNumbers },
}

/** No number of ours leaves the host as a packet's priority. */
const forgetNumber: Rule = {
  statements: [hasNumber, translated, { kind: 'set-priority', to: 0 }],
}

/** Masquerade: marked connections, and those of an endpoint that was balanced back to itself. */
function postrouting(settings: ProxySettings): Rule[] {
  const bits = masqueradeMark(settings)
  const rules: Rule[] = [
    forgetNumber,
    {
      statements: [
        { kind: 'match', left: 'meta mark', op: '==', value: { bits } },
        { kind: 'mark-xor', bits },
        { kind: 'masquerade' },
      ],
    },
  ]
  for (const family of ipFamilies) {
    const { source, destination } = addressFields[family]
    rules.push({
      statements: [
        ofFamily(family),
        translated,
        { kind: 'in-set', key: [source, destination], set: sets[family].hairpin.name },
        { kind: 'masquerade' },
      ],
    })
  }
  return rules
}

/** Elements that no Service brings, by set name: networks of the settings, and ranges of cluster IPs. */
export function staticElements(services: CompiledServices): ReadonlyMap<string, Elements> {
  const { settings } = services
  return new Map(
    ipFamilies.flatMap((family): [string, Elements][] => [
      [sets[family].localPods.name, networkElements(settings.localPods, family)],
      [sets[family].nodePortAddresses.name, networkElements(settings.nodePortAddresses ?? [], family)],
      [sets[family].serviceRanges.name, networkElements(services.serviceCIDRs, family)],
    ]),
  )
}

function networkElements(networks: readonly Cidr[], family: IpFamily): Elements {
  return new Map(widestNetworks(networks.filter((network) => cidrFamily(network) === family)).map(addressRange))
}

/** Those that lie in no other: the kernel refuses overlaps. Of one family. */
export function widestNetworks(networks: readonly Cidr[]): readonly Cidr[] {
  return networks.filter((network, i) =>
    networks.every((other, j) => {
      if (i === j || other.prefix > network.prefix || !cidrContains(other, network.address)) return true
      return other.prefix === network.prefix && i < j
    }),
  )
}
