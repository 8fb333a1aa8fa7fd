import { cidrContains, type Cidr } from '../net/cidr.ts'
import { isLoopback, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { TransportAddress } from '../net/transport-address.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { Elements, NftSet, RegisterBytes, TableState } from '../nftables/objects.ts'
import { readSlotsAt } from '../proxy-nftables/nftables-elements.ts'
import { classFromNumber, type ClassKind } from '../proxy-nftables/nftables-numbers.ts'
import { sets, views, type View } from '../proxy-nftables/nftables-sets.ts'
import { closedBy, findPublished, firewallPlaces, type FirewallFacts } from './explain-published.ts'

/** What the way of a packet depends on, as it is in the kernel and on this machine. */
export interface ExplainFacts extends FirewallFacts {
  /** Tables as the kernel has them; undefined: there is none. */
  readonly services: Pick<TableState, 'elements'> | undefined
  /** Whether the address is one of this host. */
  readonly isLocal: (ip: IpAddress) => boolean
  readonly networks: readonly { readonly bridge: string; readonly subnets: readonly Cidr[] }[]
  readonly pods: readonly { readonly name: string; readonly ips: readonly IpAddress[] }[]
  /** Chains of others that refuse what goes through the host, each as one line. */
  readonly refusing: readonly string[]
}

/** One step of a packet's way. */
export interface ExplainStep {
  /** Hook, table and chain: `nat prerouting, inet fairlead-bridge`. */
  readonly where: string
  readonly what: string
}

/** The way of the first packet of a connection. */
export interface Explanation {
  readonly to: string
  /** `node`: only the node itself can send to such an address (loopback). */
  readonly from: 'outside' | 'node'
  /** `host`: nothing of ours takes the packet, and the host itself does. `elsewhere`: it is not for this host. */
  readonly outcome: 'endpoints' | 'refused' | 'dropped' | 'host' | 'elsewhere'
  readonly endpoints: readonly { readonly ip: IpAddress; readonly port: number; readonly pod: string | undefined }[]
  readonly steps: readonly ExplainStep[]
  /** What may stop it although we let it pass, each as one line. */
  readonly obstacles: readonly string[]
}

type Endpoint = Explanation['endpoints'][number]

/** What a table does with the destination; undefined: it leaves it alone. */
interface Decision {
  readonly what: string
  readonly endpoints: readonly Endpoint[]
  readonly outcome: 'endpoints' | 'refused' | 'dropped'
  /** Why the endpoint sees another source address than the client's; undefined: it sees the client's. */
  readonly masquerade: string | undefined
}

/** Follows the first packet of a connection to `to` through our tables. Pure. */
export function explainPacket(to: TransportAddress, facts: ExplainFacts): Explanation {
  const from = isLoopback(to.ip) ? 'node' : 'outside'
  const hook = from === 'node' ? 'output' : 'prerouting'
  const text = `${formatEndpoint(to)}/${to.protocol}`
  const steps: ExplainStep[] = []
  const end = (outcome: Explanation['outcome'], endpoints: readonly Endpoint[] = []): Explanation => {
    const through = outcome === 'endpoints' && endpoints.some(({ ip }) => !facts.isLocal(ip)) && from === 'outside'
    return { to: text, from, outcome, endpoints, steps, obstacles: through ? facts.refusing : [] }
  }
  const byServices = facts.services && decideServices(to, facts)
  const nothing = (table: unknown): string => (table === undefined ? 'there is no such table' : 'no element matches')
  steps.push({ where: `nat ${hook}, inet fairlead-services`, what: byServices?.what ?? nothing(facts.services) })
  const byPublish = byServices ? undefined : decidePublished(to, facts)
  if (!byServices) {
    const where = `nat ${hook}, ${firewallPlaces(facts).published}`
    steps.push({ where, what: byPublish?.what ?? nothing(facts.iptables ?? facts.bridge) })
  }
  const decision = byServices ?? byPublish
  if (!decision) return end(facts.isLocal(to.ip) ? 'host' : 'elsewhere')
  if (decision.outcome !== 'endpoints') return end(decision.outcome)
  const reached = decision.endpoints.filter((endpoint) => from === 'node' || passesForward(endpoint, { facts, steps }))
  if (reached.length === 0) return end('dropped', decision.endpoints)
  steps.push({
    where: 'nat postrouting',
    what: decision.masquerade ?? "the client's address is kept (an endpoint that reaches itself sees its gateway)",
  })
  return end('endpoints', reached)
}

/** The Services' table: frontends, then cluster IPs without such a port, then node ports. */
function decideServices(to: TransportAddress, facts: ExplainFacts): Decision | undefined {
  const family = ipFamilyOf(to.ip)
  const s = sets[family]
  const vip = registerBytes(to, { protocol: to.protocol }, { port: to.port })
  const found = lookUp(facts, s.frontends, vip)
  if (found !== undefined) {
    return decideClass(found, { view: 'cluster', localView: 'local', key: vip, name: s.frontends.name, facts, family })
  }
  if (lookUp(facts, s.clusterIps, registerBytes(to)) !== undefined) {
    const what = `set ${s.clusterIps.name}: a cluster IP without this port, refused`
    return { what, endpoints: [], outcome: 'refused', masquerade: undefined }
  }
  const bytes = registerBytes(to)
  if (!facts.isLocal(to.ip) && isInRanges(bytes, facts.services?.elements.get(s.serviceRanges.name))) {
    const what = `set ${s.serviceRanges.name}: an address for Services that none has, dropped`
    return { what, endpoints: [], outcome: 'dropped', masquerade: undefined }
  }
  if (!facts.isLocal(to.ip) || isLoopback(to.ip) || !isNodePortAddress(to.ip, facts)) return undefined
  const key = registerBytes({ protocol: to.protocol }, { port: to.port })
  const number = lookUp(facts, s.nodePorts, key)
  if (number === undefined) return undefined
  const at = { view: 'nodePort', localView: 'localNodePort' } as const
  return decideClass(number, { ...at, key, name: s.nodePorts.name, facts, family })
}

/** The elements that a class of frontends leads on to. */
interface ClassContext {
  readonly name: string
  readonly key: RegisterBytes
  readonly family: IpFamily
  readonly facts: ExplainFacts
  readonly view: View
  /** Of the second lookup. */
  readonly localView: View
}

function decideClass(number: RegisterBytes, context: ClassContext): Decision {
  const { name, key, family, facts } = context
  const found = classFromNumber(Buffer.from(number, 'latin1').readUInt32LE())
  const element = `map ${name}`
  const none = { endpoints: [], masquerade: undefined }
  if (!found || found.kind === 'reject') {
    return { ...none, outcome: 'refused', what: `${element}: a Service without endpoints, refused` }
  }
  if (found.kind === 'drop') return { ...none, outcome: 'dropped', what: `${element}: nothing to send it to, dropped` }
  const { kind } = found
  if (kind === 'short-circuit' || kind === 'node-port-short-circuit') {
    const frontends = sets[family][views[context.localView].frontends]
    const local = lookUp(facts, frontends, key)
    if (local === undefined)
      return { ...none, outcome: 'dropped', what: `${element}: no endpoint on this node, dropped` }
    return decideClass(local, { ...context, name: `${name}, then ${frontends.name}` })
  }
  const view = kind === 'local' || kind === 'node-port-local' ? context.localView : context.view
  const endpoints = endpointsAt(view, context)
  const map = sets[family][views[view].endpoints].name
  const affinity =
    'affinitySeconds' in found.choice ? `, the same for a client for ${found.choice.affinitySeconds} s` : ''
  const what = `${element}: ${kindText[kind]}; one of ${endpoints.length} in map ${map}${affinity}: ${formatList(endpoints)}`
  return { what, endpoints, outcome: 'endpoints', masquerade: masqueradeOf[kind] }
}

const kindText = {
  vip: 'a cluster IP',
  external: 'an external address, all endpoints',
  'node-port': 'a node port, all endpoints',
  local: 'an external address, endpoints of this node only',
  'node-port-local': 'a node port, endpoints of this node only',
  draw: 'a draw',
} as const satisfies Partial<Record<ClassKind, string>>

const masqueradeOf = {
  vip: 'masqueraded if the client is known to be no pod',
  external: 'masqueraded',
  'node-port': 'masqueraded',
  local: undefined,
  'node-port-local': undefined,
  draw: undefined,
} as const satisfies Partial<Record<ClassKind, string | undefined>>

/** The ports that pods publish. */
function decidePublished(to: TransportAddress, facts: ExplainFacts): Decision | undefined {
  if (!facts.isLocal(to.ip) || to.ip === '::1') return undefined
  const found = findPublished(to, facts)
  if (!found) return undefined
  const { ip, port } = found
  const endpoint = { ip, port, pod: podAt(ip, facts) }
  const masquerade = isLoopback(to.ip)
    ? "the source becomes the bridge's address, for 127.0.0.1 means the pod there"
    : undefined
  const what = `${found.what}: published, leads to ${formatList([endpoint])}`
  return { what, endpoints: [endpoint], outcome: 'endpoints', masquerade }
}

/** Who reaches pods. That knows only bridges of ours; what goes elsewhere is none of its business. */
function passesForward(
  { ip, pod }: Endpoint,
  { facts, steps }: { readonly facts: ExplainFacts; readonly steps: ExplainStep[] },
): boolean {
  const where = firewallPlaces(facts).forward
  const bridge = facts.networks.find(({ subnets }) => subnets.some((cidr) => cidrContains(cidr, ip)))?.bridge
  if (bridge === undefined) return true
  const closed = closedBy(bridge, ipFamilyOf(ip), facts)
  const to = `${pod ?? ip} on ${bridge}`
  steps.push(
    closed === undefined
      ? { where, what: `translated (ct status dnat), so it may go to ${to}` }
      : { where, what: `${closed}: nothing from outside enters ${bridge}, dropped (${to})` },
  )
  return closed === undefined
}

function lookUp(facts: ExplainFacts, { name }: NftSet, key: RegisterBytes): string | undefined {
  return facts.services?.elements.get(name)?.get(key)
}

/** Without such a set every address of the host has node ports. Its elements are ranges, in network order, so text compares. */
function isNodePortAddress(ip: IpAddress, { services }: ExplainFacts): boolean {
  const ranges = services?.elements.get(sets[ipFamilyOf(ip)].nodePortAddresses.name)
  return !ranges?.size || isInRanges(registerBytes({ ip }), ranges)
}

function isInRanges(bytes: RegisterBytes, ranges: Elements | undefined): boolean {
  return [...(ranges ?? [])].some(([first, last]) => first <= bytes && bytes <= (last === '' ? first : last))
}

/** The endpoints in the slots of a frontend, each once. */
function endpointsAt(view: View, { key, family, facts }: Pick<ClassContext, 'key' | 'family' | 'facts'>): Endpoint[] {
  const slots = readSlotsAt(view, family, { key, table: facts.services?.elements ?? new Map() }) ?? []
  const distinct = new Map(slots.map(({ ip, port }) => [`${ip} ${port}`, { ip, port, pod: podAt(ip, facts) }]))
  return [...distinct.values()]
}

function podAt(ip: IpAddress, { pods }: ExplainFacts): string | undefined {
  return pods.find(({ ips }) => ips.includes(ip))?.name
}

function formatEndpoint({ ip, port }: { readonly ip: IpAddress; readonly port: number }): string {
  return ipFamilyOf(ip) === 6 ? `[${ip}]:${port}` : `${ip}:${port}`
}

function formatList(endpoints: readonly Endpoint[]): string {
  const some = endpoints.slice(0, 10).map((endpoint) => {
    return endpoint.pod === undefined ? formatEndpoint(endpoint) : `${formatEndpoint(endpoint)} (${endpoint.pod})`
  })
  return some.join(', ') + (endpoints.length > some.length ? `, and ${endpoints.length - some.length} more` : '')
}
