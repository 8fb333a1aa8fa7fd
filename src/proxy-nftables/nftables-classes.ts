import type { IpFamily } from '../net/ip-address.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { Chain, Expression, RegisterBytes, Rule, Statement } from '../nftables/objects.ts'
import type { ProxySettings } from '../proxy/compile-services.ts'
import { maglevSeed } from '../proxy/maglev.ts'
import {
  classNumber,
  drawQuestion,
  firstSlot,
  groupMask,
  groupQuestion,
  type AffinityChoice,
  type Choice,
  type ClassKind,
  type DrawChoice,
  type FrontendClass,
} from './nftables-numbers.ts'
import { addressFields, classMaps, sets, views, type Origin, type View } from './nftables-sets.ts'

/** Not `reject` and `drop`: nft reads those as verdicts, and could not load its own listing again. */
export const refuseChain = 'refuse'
/** See {@link refuseChain}. */
export const discardChain = 'discard'

/** Bit 14: the bit that kube-proxy uses for the same purpose, so that firewalls which know it treat ours alike. */
const defaultMasqueradeMark = 0x4000

/** The bit of the packet mark that asks for masquerade. */
export function masqueradeMark(settings: ProxySettings): number {
  return settings.masqueradeMark ?? defaultMasqueradeMark
}

/** The chain that a packet of the class is sent to. */
export function classChainName(of: FrontendClass, origin: Origin): string {
  if (of.kind === 'reject') return refuseChain
  if (of.kind === 'drop') return discardChain
  return chainName(origin === 'node' ? seenByNode(of.kind) : of.kind, of.family, of.choice)
}

/** The node's own packets never need the second lookup: they are treated as under policy Cluster. */
function seenByNode(kind: ClassKind): ClassKind {
  if (kind === 'short-circuit') return 'external'
  return kind === 'node-port-short-circuit' ? 'node-port' : kind
}

function chainName(prefix: string, family: IpFamily, choice: Choice): string {
  if ('affinitySeconds' in choice) return `${prefix}-${family}-affinity-${choice.affinitySeconds}`
  const algorithm = choice.algorithm === 'random' ? '' : `${choice.algorithm}-`
  return `${prefix}-${family}-${algorithm}${choice.slots}`
}

/** The element of one class map for one class; undefined where the map has no use for it. */
export function classElement(of: FrontendClass, origin: Origin): readonly [RegisterBytes, string] | undefined {
  if (of.kind === 'reject' || of.kind === 'drop') {
    if (origin === 'draw') return undefined
  } else if (originsOf(of.kind).every((one) => one !== origin)) return undefined
  const verb = origin === 'draw' ? 'jump' : 'goto'
  return [registerBytes({ number: classNumber(of) }), `${verb} ${classChainName(of, origin)}`]
}

function originsOf(kind: ClassKind): readonly Origin[] {
  if (kind === 'draw') return ['draw']
  return kind === 'local' || kind === 'node-port-local' ? ['local'] : ['outside', 'node']
}

/** The chains that a class needs beside the static ones. `reject` and `drop` have static ones. */
export function classChains(of: FrontendClass, settings: ProxySettings): readonly Chain[] {
  if (of.kind === 'reject' || of.kind === 'drop') return []
  const { kind, family, choice } = of
  const chain = (kind: ClassKind, rules: readonly Rule[]): Chain => ({ name: chainName(kind, family, choice), rules })
  const mark: Rule = { statements: [{ kind: 'mark-or', bits: masqueradeMark(settings) }] }
  const choose = (view: View, first: readonly Statement[] = []): Rule => ({
    statements: [...first, ...chooseSlot(choice, family, view)],
  })
  // What the chains go on to.
  const on = (...of: View[]): readonly Chain[] =>
    'affinitySeconds' in choice ? of.map((view) => affinityChain(view, family, choice)) : []
  const external = chain('external', [mark, choose('cluster')])
  const nodePort = chain('node-port', [mark, choose('nodePort')])
  switch (kind) {
    case 'vip': {
      const bySource: Rule = { statements: [{ kind: 'jump', chain: `mark-by-source-${family}` }] }
      return [...on('cluster'), chain(kind, [bySource, choose('cluster')])]
    }
    case 'external':
      return [...on('cluster'), external]
    case 'node-port':
      return [...on('nodePort'), nodePort]
    case 'short-circuit': {
      const rules = [choose('cluster', [fromPod(family, settings)]), lookUp('local', family, 'local'), notNow]
      return [...on('cluster'), external, chain(kind, rules)]
    }
    case 'node-port-short-circuit': {
      const rules = [choose('nodePort', [fromPod(family, settings)]), lookUp('localNodePort', family, 'local'), notNow]
      return [...on('nodePort'), nodePort, chain(kind, rules)]
    }
    case 'local':
      return [...on('local'), chain(kind, [choose('local')])]
    case 'node-port-local':
      return [...on('localNodePort'), chain(kind, [choose('localNodePort')])]
    case 'draw':
      return 'affinitySeconds' in choice ? [] : [chain(kind, [{ statements: [draw(choice, family)] }])]
    default:
      return kind satisfies never
  }
}

/** Matches what comes from a local pod, as far as the settings can tell; with `not` all else. */
export function fromPod(family: IpFamily, settings: ProxySettings, not = false): Statement {
  const { localInterface } = settings
  if (!localInterface) {
    return { kind: 'in-set', key: [addressFields[family].source], set: sets[family].localPods.name, negate: not }
  }
  const name = localInterface.prefix ? `${localInterface.name}*` : localInterface.name
  return { kind: 'match', left: 'iifname', op: not ? '!=' : '==', value: { name } }
}

/**
 * What a packet meets that was under way while a change was committed: the rules that it passes are the old ones, but each of
 * its lookups sees the elements of its moment (nft_genmask_cur() in the kernel's lookups). Its first half was answered before
 * the change and its second half finds nothing. It is dropped, since an untranslated connection would stay one; the client
 * sends it again.
 */
const notNow: Rule = { statements: [{ kind: 'drop' }] }

/**
 * Two lookups in one rule: a packet whose first lookup finds nothing leaves the rule there, so that a priority which
 * somebody else gave it is never taken for a class.
 */
export function lookUp(view: View, family: IpFamily, origin: Origin, first: readonly Statement[] = []): Rule {
  const { key, frontends } = views[view]
  return {
    statements: [
      ...first,
      { kind: 'set-priority', to: { key: key(family), map: sets[family][frontends].name } },
      { kind: 'vmap', key: ['meta priority'], map: classMaps[origin].name },
    ],
  }
}

/** The chain that sends a connection to the slot or member that was chosen. */
function dnatChainName(view: View, family: IpFamily): string {
  return `to-${views[view].prefix}endpoint-${family}`
}

/**
 * Sends the connection where the number in `meta priority` says. One chain for all classes: a rule that names a map in a new
 * chain would make the kernel look at each of its elements (nf_tables_bind_set), 5 ms with 50,000.
 */
export function dnatChain(view: View, family: IpFamily): Chain {
  const { key, endpoints } = views[view]
  const to = { key: [...key(family), 'meta priority'] as Expression[], map: sets[family][endpoints].name }
  return {
    name: dnatChainName(view, family),
    rules: [{ statements: [{ kind: 'dnat', family: family === 4 ? 'ip' : 'ip6', to }] }, notNow],
  }
}

function chooseSlot(choice: Choice, family: IpFamily, view: View): Statement[] {
  if ('affinitySeconds' in choice) {
    return [{ kind: 'goto', chain: chainName(`${views[view].prefix}clients`, family, choice) }]
  }
  return [draw(choice, family), { kind: 'goto', chain: dnatChainName(view, family) }]
}

function draw(choice: DrawChoice, family: IpFamily): Statement {
  const to = { modulus: choice.slots, offset: firstSlot }
  switch (choice.algorithm) {
    case 'random':
      return { kind: 'set-priority', to: { draw: 'random', ...to } }
    case 'round-robin':
      return { kind: 'set-priority', to: { draw: 'in-turn', ...to } }
    case 'maglev':
      return {
        kind: 'set-priority',
        to: { draw: 'hash', key: [addressFields[family].source], seed: maglevSeed, ...to },
      }
    default:
      return choice.algorithm satisfies never
  }
}

/** Session affinity with one timeout: `meta priority` is the client's member, old or new; its time starts anew. */
function affinityChain(view: View, family: IpFamily, choice: AffinityChoice): Chain {
  const { prefix } = views[view]
  const rules: Statement[][] = [
    [{ kind: 'jump', chain: memberChainName(view, family) }],
    // Apart from the next rule: where the map is full, the client is not remembered, but still served.
    [{ kind: 'update', ...clientElement(family), timeoutSeconds: choice.affinitySeconds }],
    [{ kind: 'goto', chain: dnatChainName(view, family) }],
  ]
  return { name: chainName(`${prefix}clients`, family, choice), rules: rules.map((statements) => ({ statements })) }
}

function memberChainName(view: View, family: IpFamily): string {
  return `${views[view].prefix}member-${family}`
}

/**
 * Finds the member of a client, or draws one. The map of clients is keyed by group and client and holds members: group and
 * endpoint in one number, so that the number alone, masked, gives the key again when the element is to be changed. One chain for
 * all timeouts, for the reason that {@link dnatChain} has.
 */
export function memberChain(view: View, family: IpFamily): Chain {
  const { key, next } = views[view]
  const client = clientElement(family)
  const ask: Statement = {
    kind: 'set-priority',
    to: { key: [...key(family), 'meta priority'], map: sets[family][next].name },
  }
  const rules: Statement[][] = [
    [{ kind: 'set-priority', to: groupQuestion }, ask],
    [
      {
        kind: 'set-priority',
        to: { key: ['meta priority', addressFields[family].source], map: sets[family].affinity.name },
      },
    ],
    // A member that is still one is its own next number.
    [ask, { kind: 'return' }],
    // `update` leaves the data of an element that exists.
    [{ kind: 'delete', ...client }],
    [
      { kind: 'set-priority', to: drawQuestion },
      ask,
      { kind: 'vmap', key: ['meta priority'], map: classMaps.draw.name },
    ],
    [ask],
  ]
  return { name: memberChainName(view, family), rules: rules.map((statements) => ({ statements })) }
}

/** The element of the map of clients for the member in `meta priority`. */
function clientElement(family: IpFamily) {
  return {
    map: sets[family].affinity.name,
    key: [{ priorityMask: groupMask }, addressFields[family].source],
    data: ['meta priority'],
  } as const
}
