import { diffTable, type WantedTable } from '../iptables/diff.ts'
import type { Variant } from '../iptables/client.ts'
import type { AddressSet } from '../iptables/ip-set.ts'
import {
  sameRules,
  type ChainRules,
  type Ruleset,
  type TableChanges,
  type TableName,
  type TableRules,
  type WantedChains,
} from '../iptables/objects.ts'
import { formatRule, type Rule } from '../iptables/rule.ts'
import { cidrFamily, networkOf, type Cidr } from '../net/cidr.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { ServiceFrontends } from '../proxy/frontends.ts'
import { chains, isServiceChain } from './iptables-names.ts'
import { addServiceChains, isFiltered, ruleContext, type DispatchRules, type RuleContext } from './iptables-service.ts'

/** What the machine can, as far as rules depend on it. */
export interface IptablesFeatures {
  /** Sets of addresses can be matched on (ip_set and xt_set). */
  readonly addressSets: boolean
  /** net.netfilter.nf_conntrack_tcp_be_liberal is on: nothing needs to be done about INVALID packets. */
  readonly liberalConntrack: boolean
}

/** The chains that all Services share, of one family: rules in order. */
export interface SharedChains {
  readonly filter: WantedChains
  readonly nat: WantedChains
}

/** The set of all cluster IPs of a family. */
export function clusterIpSet(family: IpFamily): AddressSet {
  return { name: `FAIRLEAD-CLUSTER-IPS-${family}`, family }
}

/** The bit that asks for masquerade, unless the settings say another. */
const defaultMark = 0x4000

/** Rules that other chains must have, as kube-proxy's: each of them is put in front, so the last stands first. */
const newOnly = '-m conntrack --ctstate NEW'
const jumps: readonly { table: TableName; from: readonly string[]; to: string; comment: string; first?: string }[] = [
  // kube-proxy has no jump from OUTPUT here: what the node itself sends to an external IP without endpoints then leaves it.
  {
    table: 'filter',
    from: ['INPUT', 'FORWARD', 'OUTPUT'],
    to: chains.externalServices,
    comment: 'kubernetes externally-visible service portals',
    first: newOnly,
  },
  { table: 'filter', from: ['INPUT'], to: chains.nodePorts, comment: 'kubernetes health check service ports' },
  {
    table: 'filter',
    from: ['FORWARD', 'OUTPUT'],
    to: chains.services,
    comment: 'kubernetes service portals',
    first: newOnly,
  },
  { table: 'filter', from: ['FORWARD'], to: chains.forward, comment: 'kubernetes forwarding rules' },
  {
    table: 'filter',
    from: ['INPUT', 'OUTPUT', 'FORWARD'],
    to: chains.firewall,
    comment: 'kubernetes load balancer firewall',
    first: newOnly,
  },
  { table: 'nat', from: ['OUTPUT', 'PREROUTING'], to: chains.services, comment: 'kubernetes service portals' },
  { table: 'nat', from: ['POSTROUTING'], to: chains.postrouting, comment: 'kubernetes postrouting rules' },
]

/** All tables that this mode touches. */
export const touchedTables = ['mangle', 'filter', 'nat'] as const satisfies readonly TableName[]

/** The context of a family's rules. */
export function contextOf(services: CompiledServices, options: { family: IpFamily; terse: boolean }): RuleContext {
  const all = services.snapshot.services
  return ruleContext(services.settings, {
    ...options,
    isInternalLocal: (key) => all.get(key)?.internalTrafficPolicy === 'Local',
  })
}

/** More endpoints than this, and kube-proxy leaves out comments of endpoints ("large cluster mode"). */
export const manyEndpoints = 1000

/** What a Service adds to the shared chains: `dispatchRules`, remembered, since of most Services it never changes. */
export type DispatchOf = (service: ServiceFrontends) => DispatchRules

/** The shared chains of one family, from what each Service adds to them. Pure. */
export function sharedChains(
  services: CompiledServices,
  context: RuleContext,
  options: { readonly features: IptablesFeatures; readonly dispatchOf: DispatchOf },
): SharedChains {
  const { dispatchOf } = options
  const all = services.services
  // Found without making rules: at a cold start the table filter is the first that the tool reads.
  const filtered = [...all.values()].filter(isFiltered)
  const gather = (part: keyof DispatchRules, from: Iterable<ServiceFrontends> = filtered): string[] => {
    const rules: string[] = []
    for (const service of from) rules.push(...dispatchOf(service)[part])
    return rules
  }
  const bit = services.settings.masqueradeMark ?? defaultMark
  const mark = `0x${bit.toString(16)}`
  const filter = new Map<string, ChainRules>([
    [chains.canary, []],
    [
      chains.services,
      [...gather('unservedServices'), ...clusterIpRules(services.serviceCIDRs, context, options.features)],
    ],
    [chains.externalServices, gather('unservedExternal')],
    [chains.forward, forwardRules(mark, options.features)],
    [chains.nodePorts, gather('healthChecks')],
    [chains.firewall, gather('firewall')],
  ])
  const nat = new Map<string, ChainRules>([
    [chains.canary, []],
    [chains.owner, []],
    [chains.services, new RulesWhenRead(() => [...gather('services', all.values()), ...nodePortJumps(context)])],
    [chains.nodePorts, new RulesWhenRead(() => gather('nodePorts', all.values()))],
    [chains.postrouting, postroutingRules(mark)],
    [chains.markMasquerade, [formatRule({ target: `MARK --set-xmark ${mark}/${mark}` })]],
  ])
  if (context.pods.markUnlessPod) nat.set(chains.markUnlessPod, context.pods.markUnlessPod)
  return { filter, nat }
}

/** Rules that are made when they are read first: at a cold start the tool reads other ones meanwhile. */
class RulesWhenRead implements ChainRules {
  #make: (() => readonly string[]) | undefined
  #rules: readonly string[] = []

  constructor(make: () => readonly string[]) {
    this.#make = make
  }

  get length(): number {
    return this.#all().length
  }

  [Symbol.iterator](): Iterator<string> {
    return this.#all()[Symbol.iterator]()
  }

  #all(): readonly string[] {
    if (this.#make) this.#rules = this.#make()
    // What they were made of is not wanted any more.
    this.#make = undefined
    return this.#rules
  }
}

function wantedTables(shared: SharedChains): readonly WantedTable[] {
  const wanted = {
    mangle: new Map([
      [chains.canary, []],
      [chains.owner, []],
    ]),
    ...shared,
  }
  return touchedTables.map((table) => ({
    table,
    chains: wanted[table],
    jumps: jumpRules(table),
    owns: isServiceChain,
  }))
}

/** What the changes of a family's tables depend on, beside what is there. */
export interface TablesWanted {
  readonly services: CompiledServices
  readonly context: RuleContext
  readonly shared: SharedChains
  readonly variant: Variant
}

/**
 * The changes from what iptables-save showed to what is wanted. Chains of Services that are not there yet come in blocks; when none is
 * there, they are made when they are read: at a cold start the tool works on the first meanwhile.
 */
export function changeTables(current: Ruleset, wanted: TablesWanted): readonly TableChanges[] {
  return wantedTables(wanted.shared).map((table) =>
    table.table === 'nat' ? changeNat(current.get('nat'), table, wanted) : diffTable(current.get(table.table), table),
  )
}

function changeNat(there: TableRules = new Map(), table: WantedTable, wanted: TablesWanted): TableChanges {
  const changed = new Map<string, ChainRules>()
  const known = new Set(table.chains.keys())
  const change = diffTable(there, { ...table, owns: () => false })
  const blocks = new Remembered(newChains(there, wanted, { changed, known }))
  if (![...there.keys()].some(isServiceChain)) return { ...change, blocks }
  const all = [...blocks]
  const chainsToWrite = changed.size === 0 ? change.chains : new Map([...change.chains, ...changed])
  const deleteChains = [...there.keys()].filter((name) => isServiceChain(name) && !known.has(name))
  return { ...change, chains: chainsToWrite, deleteChains, ...(all.length > 0 && { blocks: all }) }
}

/**
 * Chains of nat that are not there, in blocks: the shared ones, still empty, and those of Services. Notes the names of all, and the
 * rules of those that are there and differ.
 */
function* newChains(
  there: TableRules,
  { services, context, shared, variant }: TablesWanted,
  found: { readonly changed: Map<string, ChainRules>; readonly known: Set<string> },
): Generator<WantedChains> {
  const missing = [...shared.nat.keys()].filter((name) => !there.has(name))
  if (missing.length > 0) yield new Map(missing.map((name) => [name, []]))
  let block = new Map<string, ChainRules>()
  let { first: size } = blockSizes[variant]
  let count = 0
  for (const service of services.services.values()) {
    const own = new Map<string, ChainRules>()
    addServiceChains(own, service, context)
    const before = block.size
    for (const [name, rules] of own) {
      found.known.add(name)
      const current = there.get(name)
      if (!current) block.set(name, rules)
      else if (!sameRules(current, rules)) found.changed.set(name, rules)
    }
    if (block.size === before || ++count < size) continue
    yield block
    block = new Map()
    count = 0
    size = Math.min(2 * size, blockSizes[variant].last)
  }
  if (block.size > 0) yield block
}

interface BlockSizes {
  readonly first: number
  readonly last: number
}

/**
 * Services in the first block, so that the tool has something soon, and in the last; in between they double. The legacy tools take longer
 * for 20,000 Services with small ones; the nft tools look through all names of a transaction for each rule.
 */
const blockSizes: Readonly<Record<Variant, BlockSizes>> = {
  legacy: { first: 25, last: 1600 },
  nft: { first: 100, last: 100 },
}

/** What a generator made, for whoever reads it again. */
class Remembered<T> implements Iterable<T> {
  readonly #made: T[] = []
  readonly #source: Iterator<T>

  constructor(source: Iterator<T>) {
    this.#source = source
  }

  *[Symbol.iterator](): Generator<T> {
    for (let i = 0; ; i++) {
      if (i === this.#made.length) {
        const next = this.#source.next()
        if (next.done) return
        this.#made.push(next.value)
      }
      yield this.#made[i]!
    }
  }
}

/** The cluster IPs that Services of a family have, each as often as frontends name it. */
export function clusterIpsOf(services: Iterable<ServiceFrontends>, family: IpFamily): Map<IpAddress, number> {
  const counts = new Map<IpAddress, number>()
  for (const service of services) {
    for (const frontend of service.frontends) {
      if (frontend.kind !== 'cluster-ip' || frontend.family !== family) continue
      counts.set(frontend.ip, (counts.get(frontend.ip) ?? 0) + 1)
    }
  }
  return counts
}

function jumpRules(table: TableName): { chain: string; rule: string }[] {
  const rules = jumps
    .filter((jump) => jump.table === table)
    .flatMap(({ from, to, comment, first }) =>
      from.map((chain) => ({
        chain,
        rule: formatRule({ ...(first !== undefined && { first }), comment, target: to }),
      })),
    )
  return rules.reverse()
}

/** What is wrong about a cluster IP and no Service's business: an unused port, an unused address. One rule for all. */
function clusterIpRules(cidrs: readonly Cidr[], { family }: RuleContext, features: IptablesFeatures): string[] {
  const unusedPort: Rule = {
    comment: 'fairlead: cluster IPs have no other ports',
    matches: `-m set --match-set ${clusterIpSet(family).name} dst`,
    target: `REJECT --reject-with ${family === 4 ? 'icmp' : 'icmp6'}-port-unreachable`,
  }
  const unused = cidrs
    .filter((cidr) => cidrFamily(cidr) === family && cidr.prefix > 0)
    .map((cidr): Rule => ({
      destination: networkOf(cidr),
      comment: 'fairlead: cluster IPs without a Service',
      // The node's own: its DNS server answers at such an address.
      matches: '-m addrtype ! --dst-type LOCAL',
      target: 'DROP',
    }))
  return [...(features.addressSets ? [unusedPort] : []), ...unused].map(formatRule)
}

function forwardRules(mark: string, features: IptablesFeatures): string[] {
  const rules: Rule[] = [
    { comment: 'kubernetes forwarding rules', matches: `-m mark --mark ${mark}/${mark}`, target: 'ACCEPT' },
    {
      comment: 'kubernetes forwarding conntrack rule',
      matches: '-m conntrack --ctstate RELATED,ESTABLISHED',
      target: 'ACCEPT',
    },
  ]
  // Packets that conntrack cannot place are not translated; the other end would answer them with a reset (kubernetes #74839).
  const invalid: Rule = { matches: '-m conntrack --ctstate INVALID', target: 'DROP' }
  return [...(features.liberalConntrack ? [] : [invalid]), ...rules].map(formatRule)
}

function postroutingRules(mark: string): string[] {
  return [
    formatRule({ matches: `-m mark ! --mark ${mark}/${mark}`, target: 'RETURN' }),
    formatRule({ target: `MARK --set-xmark ${mark}/0x0` }),
    formatRule({
      comment: 'kubernetes service traffic requiring SNAT',
      target: 'MASQUERADE --random-fully',
    }),
  ]
}

function nodePortJumps({ atNodePorts }: RuleContext): string[] {
  const comment = 'kubernetes service nodeports; NOTE: this must be the last rule in this chain'
  return atNodePorts.map((where) => formatRule({ ...where, comment, target: chains.nodePorts }))
}
