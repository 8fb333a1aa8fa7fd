import type { WantedTable } from '../iptables/diff.ts'
import type { TableName, TableRules } from '../iptables/objects.ts'
import { formatRule, type Rule } from '../iptables/rule.ts'
import { cidrFamily, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { NetworkError } from './check-network.ts'
import { clusterNetwork, noPeers, type ClusterPeers } from './cluster-peers.ts'
import { isClosed, planGuards, planMasquerade, planPublications, type OpenPort } from './firewall-plan.ts'
import type { Lease } from './leases.ts'
import type { Network } from './network.ts'

/*
 * The firewall of the bridge networks as iptables chains, one family at a time. It says what `firewall.ts` says in
 * nftables, and like there nothing is accepted for others: what a rule lets pass returns to the chain of others, and what
 * is dropped is dropped. So that the order of other programs' rules does not matter (Docker puts its own first whenever it
 * starts), who reaches pods is decided in the table mangle, which passes before the table filter and where nobody accepts.
 */

/** Our chains. */
export const bridgeChains = {
  /** nat: ports of the host that lead to pods. */
  published: 'FAIRLEAD-PUBLISHED',
  /** nat: what gets another source on its way out. */
  masquerade: 'FAIRLEAD-MASQUERADE',
  /** mangle: who reaches pods. */
  forward: 'FAIRLEAD-FORWARD',
  /** mangle: what goes to a pod from elsewhere. */
  toPods: 'FAIRLEAD-TO-PODS',
  /** mangle: what pods of a network without inter-container communication send each other. */
  noIcc: 'FAIRLEAD-NO-ICC',
  /** raw: what has an address of 127.0.0.0/8. */
  loopback: 'FAIRLEAD-LOOPBACK',
  /** raw: who may send what, where nf_tables cannot see to it; a chain for each bridge. */
  sources: 'FAIRLEAD-SOURCES',
} as const

const sourcesOfBridge = 'FAIRLEAD-SRC-'
const names: ReadonlySet<string> = new Set(Object.values(bridgeChains))

/** Whether a chain is one of the bridge networks, in any table. */
export function isBridgeChain(chain: string): boolean {
  return names.has(chain) || chain.startsWith(sourcesOfBridge)
}

/** The tables that have chains of ours. */
export const bridgeTables: readonly TableName[] = ['raw', 'mangle', 'nat']

const loopback = { 4: cidr('127.0.0.0', 8), 6: cidr('::1', 128) } as const
const linkLocal6 = cidr('fe80::', 10)
const isTranslated = '-m conntrack --ctstate DNAT'
const toHost = '-m addrtype --dst-type LOCAL'
/** Ports by chance, as in nftables: two connections of one moment seldom want the same. */
const masquerade = 'MASQUERADE --random-fully'

interface Cluster {
  readonly family: IpFamily
  readonly peers: ClusterPeers
}

/** Rules of one family. With `guardSources`, also who may send what. Pure. Throws NetworkError for names that rules cannot have. */
export function compileIptablesFirewall(
  networks: readonly Network[],
  leases: Iterable<Lease>,
  options: { readonly family: IpFamily; readonly guardSources: boolean; readonly peers?: ClusterPeers },
): readonly WantedTable[] {
  for (const network of networks) checkBridgeName(network)
  const { family, peers = noPeers } = options
  const all = [...leases]
  const cluster = { family, peers }
  const tables: Record<'raw' | 'mangle' | 'nat', Omit<WantedTable, 'table' | 'owns'>> = {
    raw: compileRaw(networks, all, options),
    mangle: compileMangle(networks, all, cluster),
    nat: compileNat(networks, all, cluster),
  }
  return (['raw', 'mangle', 'nat'] as const).map((table) => ({ table, ...tables[table], owns: isBridgeChain }))
}

/** A name with a plus sign at its end means all that begin so, and rules are compared as text, which quotes would break. */
function checkBridgeName({ name, bridge }: Network): void {
  if (/^[\w.@-]+$/.test(bridge)) return
  const expected = 'expected letters, digits, and . _ @ -'
  throw new NetworkError('bridge', `bridge "${bridge}" of network ${name} cannot stand in iptables rules (${expected})`)
}

function compileRaw(
  networks: readonly Network[],
  leases: readonly Lease[],
  { family, guardSources }: { readonly family: IpFamily; readonly guardSources: boolean },
): Omit<WantedTable, 'table' | 'owns'> {
  const chains = new Map<string, readonly string[]>()
  const jumps: { chain: string; rule: string }[] = []
  const jump = (rule: Rule): void => void jumps.push({ chain: 'PREROUTING', rule: formatRule(rule) })
  if (family === 4) {
    // With route_localnet on a bridge, its pods could reach what listens on 127.0.0.1 (CVE-2020-8558), and pretend to be it.
    chains.set(bridgeChains.loopback, texts(networks.map(({ bridge }) => ({ input: bridge, target: 'DROP' }))))
    jump({ source: loopback[4], target: bridgeChains.loopback })
    jump({ destination: loopback[4], target: bridgeChains.loopback })
  }
  if (guardSources) {
    const from = (bridge: string): string => `${sourcesOfBridge}${bridge}`
    const rules = new Map<string, string[]>(networks.map(({ bridge }) => [bridge, []]))
    for (const { bridge, mac, ips, besides } of planGuards(networks, leases)) {
      for (const ip of [...ips, ...besides]) {
        if (ipFamilyOf(ip) !== family) continue
        const matches = `-m mac --mac-source ${mac}`
        rules.get(bridge)?.push(formatRule({ source: hostCidr(ip), matches, target: 'RETURN' }))
      }
    }
    for (const [bridge, allowed] of rules) chains.set(from(bridge), [...allowed, formatRule({ target: 'DROP' })])
    chains.set(bridgeChains.sources, texts(networks.map(({ bridge }) => ({ input: bridge, goto: from(bridge) }))))
    jump({ target: bridgeChains.sources })
  }
  return { chains, jumps }
}

function compileMangle(
  networks: readonly Network[],
  leases: readonly Lease[],
  { family, peers }: Cluster,
): Omit<WantedTable, 'table' | 'owns'> {
  const chains: TableRules = new Map([
    [bridgeChains.forward, texts(forwardRules(networks, family))],
    [bridgeChains.toPods, texts([...peerRules(networks, { family, peers }), ...toPodsRules(networks, leases, family)])],
    [
      bridgeChains.noIcc,
      texts([
        { matches: isTranslated, target: 'RETURN' },
        ...openPortRules(networks, leases, family),
        { target: 'DROP' },
      ]),
    ],
  ])
  return { chains, jumps: [{ chain: 'FORWARD', rule: formatRule({ target: bridgeChains.forward }) }] }
}

/** Answers, neighbours, what is closed, what goes to pods. `goto`: what returns from there goes back to FORWARD. */
function forwardRules(networks: readonly Network[], family: IpFamily): Rule[] {
  const closed = networks.filter((network) => isClosed(network, family))
  return [
    { matches: '-m conntrack --ctstate RELATED,ESTABLISHED', target: 'RETURN' },
    ...networks.map(({ bridge, icc }): Rule => {
      const neighbours = { input: bridge, output: bridge }
      return icc ? { ...neighbours, target: 'RETURN' } : { ...neighbours, goto: bridgeChains.noIcc }
    }),
    ...closed.map(({ bridge }): Rule => ({ input: bridge, target: 'DROP' })),
    ...closed.map(({ bridge }): Rule => ({ output: bridge, target: 'DROP' })),
    ...networks.map(({ bridge }): Rule => ({ output: bridge, goto: bridgeChains.toPods })),
  ]
}

/** Other nodes of the cluster, and their pods. */
function peerRules(networks: readonly Network[], { family, peers }: Cluster): Rule[] {
  const network = clusterNetwork(networks, peers)
  if (!network) return []
  const sources = [...peers.pods, ...peers.nodes.map(hostCidr)].filter((source) => cidrFamily(source) === family)
  return sources.map((source) => ({ source, output: network.bridge, target: 'RETURN' }))
}

/** What somebody translated on purpose, and what the network opens. */
function toPodsRules(networks: readonly Network[], leases: readonly Lease[], family: IpFamily): Rule[] {
  const routed = networks.filter(({ gatewayModes }) => gatewayModes[family] === 'routed')
  const protocol = family === 4 ? 'icmp' : 'ipv6-icmp'
  return [
    { matches: isTranslated, target: 'RETURN' },
    ...routed.map(({ bridge }): Rule => ({ output: bridge, protocol, target: 'RETURN' })),
    ...openPortRules(networks, leases, family),
    { target: 'DROP' },
  ]
}

function openPortRules(networks: readonly Network[], leases: readonly Lease[], family: IpFamily): Rule[] {
  const open = Array.from(planPublications(networks, leases)).filter(
    (publication): publication is OpenPort => publication.kind === 'open-port' && publication.family === family,
  )
  return open.map(({ ip, protocol, port }) => ({
    destination: hostCidr(ip),
    protocol,
    destinationPort: port,
    target: 'RETURN',
  }))
}

/** Ours come last: an address and port that a Service has is the Service's. */
function compileNat(
  networks: readonly Network[],
  leases: readonly Lease[],
  { family, peers }: Cluster,
): Omit<WantedTable, 'table' | 'owns'> {
  const here: Rule[] = []
  const everywhere: Rule[] = []
  const hairpins = new Map<IpAddress, Rule>()
  for (const publication of planPublications(networks, leases)) {
    if (publication.kind !== 'translation' || publication.family !== family) continue
    const { hostIp, hostPort, protocol, ip, port } = publication
    const to = family === 4 ? `${ip}:${port}` : `[${ip}]:${port}`
    const rule: Rule = { protocol, destinationPort: hostPort, target: `DNAT --to-destination ${to}` }
    if (hostIp === undefined) everywhere.push(rule)
    else here.push({ destination: hostCidr(hostIp), ...rule })
    hairpins.set(ip, {
      source: hostCidr(ip),
      destination: hostCidr(ip),
      matches: isTranslated,
      target: masquerade,
    })
  }
  const bridges = networks.map(({ bridge }) => bridge)
  const outgoing: Rule[] = [
    // A pod that reaches itself, and who comes from 127.0.0.1.
    ...hairpins.values(),
    ...(family === 4
      ? bridges.map((bridge): Rule => ({ source: loopback[4], output: bridge, target: masquerade }))
      : []),
    ...bridges.map((bridge): Rule => ({ output: bridge, target: 'RETURN' })),
    ...untranslated(networks, { family, peers }),
    ...masqueradeRules(networks, family),
  ]
  return {
    chains: new Map([
      [bridgeChains.published, texts([...here, ...everywhere])],
      [bridgeChains.masquerade, texts(outgoing)],
    ]),
    jumps: [],
    lastJumps: [
      // 127.0.0.0/8 that comes in by a link is nobody's to publish, also where another program set route_localnet.
      { chain: 'PREROUTING', rule: publishedJump(family, { exceptLoopback: true }) },
      // ::1 cannot be translated: the kernel takes no answer to it from a link.
      { chain: 'OUTPUT', rule: publishedJump(family, { exceptLoopback: family === 6 }) },
      { chain: 'POSTROUTING', rule: formatRule({ target: bridgeChains.masquerade }) },
    ],
  }
}

function publishedJump(family: IpFamily, { exceptLoopback }: { readonly exceptLoopback: boolean }): string {
  return formatRule({
    ...(family === 6 && { source: { not: linkLocal6 } }),
    ...(exceptLoopback && { destination: { not: loopback[family] } }),
    matches: toHost,
    target: bridgeChains.published,
  })
}

/** From the cluster's pods of this node to those of others nothing is translated. */
function untranslated(networks: readonly Network[], { family, peers }: Cluster): Rule[] {
  const own = clusterNetwork(networks, peers)?.subnets.filter(({ cidr }) => cidrFamily(cidr) === family) ?? []
  const others = peers.pods.filter((cidr) => cidrFamily(cidr) === family)
  return own.flatMap(({ cidr }) => others.map((destination) => ({ source: cidr, destination, target: 'RETURN' })))
}

/** A source of its own comes first, as in nftables. */
function masqueradeRules(networks: readonly Network[], family: IpFamily): Rule[] {
  const subnets = planMasquerade(networks).filter(({ cidr }) => cidrFamily(cidr) === family)
  return [
    ...subnets.flatMap(({ cidr, source }): Rule[] =>
      source === undefined ? [] : [{ source: cidr, target: `SNAT --to-source ${source}` }],
    ),
    ...subnets.flatMap(({ cidr, source }): Rule[] =>
      source === undefined ? [{ source: cidr, target: masquerade }] : [],
    ),
  ]
}

function texts(rules: readonly Rule[]): readonly string[] {
  return rules.map(formatRule)
}

function hostCidr(ip: IpAddress): Cidr {
  return { address: ip, prefix: ipFamilyOf(ip) === 4 ? 32 : 128 }
}

function cidr(address: string, prefix: number): Cidr {
  return { address: parseIp(address), prefix }
}
