import type { EndpointSlice } from '../model/endpoint-slice.ts'
import { objectKey, type ObjectKey } from '../model/object-key.ts'
import type { Service, ServicePort } from '../model/service.ts'
import { addressCidr, cidrContains, cidrFamily, type Cidr } from '../net/cidr.ts'
import { ipFamilies, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'
import { sharedAddresses, type SharedAddress } from './affinity-members.ts'
import { selectEndpoints, type EndpointChoice, type NodeFacts } from './select-endpoints.ts'
import { annotationOf, annotationProblems } from './service-annotations.ts'
import { compileSlots, type Slots } from './slots.ts'

/** What happens to a new connection at a frontend. */
export type Verdict =
  /** It goes to one of the slots, each with the same chance. Never empty. */
  | { readonly kind: 'balance'; readonly slots: Slots }
  /** It is refused at once: no node has a usable endpoint. */
  | { readonly kind: 'reject' }
  /** It is dropped silently, so that a load balancer tries another node: only this node has no usable endpoint. */
  | { readonly kind: 'drop' }

/**
 * Whose source address is replaced by the node's, so that answers come back through it:
 * - `unless-pod`: everybody's but local pods' (cluster IPs; with masqueradeAll theirs too);
 * - `always`: everybody's (addresses for clients outside, policy Cluster);
 * - `node-only`: the node's own processes'; pods and clients outside keep theirs (policy Local).
 */
export type MasqueradePolicy = 'unless-pod' | 'always' | 'node-only'

interface FrontendBase {
  readonly family: IpFamily
  readonly protocol: Protocol
  readonly port: Port
  /** For pods and the node's processes; for everybody when `outside` is not given. */
  readonly verdict: Verdict
  /** For clients outside the node's pods, where it differs: externalTrafficPolicy Local. */
  readonly outside: Verdict | undefined
  readonly masquerade: MasqueradePolicy
  /** The name of the Service's port; empty when it has none. */
  readonly portName: string
  /** How a new connection finds its slot. */
  readonly algorithm: Algorithm
  /** Brings a client back to the endpoint that it had. */
  readonly affinity: Affinity | undefined
  /**
   * Connections from anywhere else are dropped, whatever the verdict, pods and the node included. Undefined: all may come.
   * Never empty.
   */
  readonly sourceRanges: readonly Cidr[] | undefined
}

/**
 * How a new connection finds its slot: by chance, by a hash of the client's address (the slots are then a Maglev table,
 * the same on every node), or each slot in turn, where the mode can.
 */
export type Algorithm = 'random' | 'maglev' | 'round-robin'

/** Session affinity, for one family. A client that was silent for the timeout (each connection starts it anew) is forgotten. */
export interface Affinity {
  readonly timeoutSeconds: number
  /** Frontends with the same group remember a client together: `NAMESPACE/NAME:PORT/PROTOCOL`, or `NAMESPACE/NAME` for all ports. */
  readonly group: string
  /** What is remembered of the endpoint: with `address`, ports of the Service lead to the same pod although their target ports differ. */
  readonly remembers: 'endpoint' | 'address'
  /** With `address`: those that several endpoints of this port share; absent where none do. See `memberName`. */
  readonly shared?: readonly SharedAddress[]
}

/** An address and port of its own. */
export interface VipFrontend extends FrontendBase {
  readonly kind: 'cluster-ip' | 'external-ip' | 'load-balancer-ip'
  readonly ip: IpAddress
}

/** A port of the node's own addresses. */
export interface NodePortFrontend extends FrontendBase {
  readonly kind: 'node-port'
}

/** Where clients find a Service: one per address (or node port), port and protocol. */
export type Frontend = VipFrontend | NodePortFrontend

/** All frontends of one Service, and what is wrong with it. */
export interface ServiceFrontends {
  readonly key: ObjectKey
  readonly creationTimestamp: string | undefined
  readonly frontends: readonly Frontend[]
  /** What load balancers ask of this node: externalTrafficPolicy Local with a healthCheckNodePort. */
  readonly health: HealthCheck | undefined
  /** Sentences that begin with the Service's key and the field's path. */
  readonly problems: readonly string[]
}

/** A healthCheckNodePort, and how many pods of this node are ready, by family (kube-proxy's service_health.go). */
export interface HealthCheck {
  readonly nodePort: Port
  readonly localEndpoints: Readonly<Record<IpFamily, number>>
}

/** Slots that the kernel has already (after a restart); `which` tells the two views of a frontend apart. */
export type RecalledSlots = (frontend: Frontend, which: 'verdict' | 'outside') => Slots | undefined

/** Names a frontend on the node: no two may have the same. Like `10.96.0.5 80/TCP` or `node-port-4 30080/TCP`. */
export type FrontendKey = string

/** The label by which a Service chooses another proxy, whatever its value. */
const otherProxyLabel = 'service.kubernetes.io/service-proxy-name'

/** See {@link FrontendKey}. */
export function frontendKey(frontend: Frontend): FrontendKey {
  const where = frontend.kind === 'node-port' ? `node-port-${frontend.family}` : frontend.ip
  return `${where} ${portText(frontend)}`
}

/** The field that asks for the frontend, for messages: `spec.clusterIP 10.96.0.5 port 80/TCP`. */
export function frontendField(frontend: Frontend): string {
  switch (frontend.kind) {
    case 'cluster-ip':
      return `spec.clusterIP ${frontend.ip} port ${portText(frontend)}`
    case 'external-ip':
      return `spec.externalIPs ${frontend.ip} port ${portText(frontend)}`
    case 'load-balancer-ip':
      return `status.loadBalancer.ingress ${frontend.ip} port ${portText(frontend)}`
    case 'node-port':
      return `spec.ports nodePort ${portText(frontend)}`
    default:
      return frontend satisfies never
  }
}

function portText(frontend: Frontend): string {
  return `${frontend.port}/${frontend.protocol.toUpperCase()}`
}

/** Whether the proxy has anything to do with the Service: not headless, ExternalName, or meant for another proxy. */
export function isProxied(service: Service): boolean {
  if (service.headless || service.type === 'ExternalName' || service.clusterIPs.length === 0) return false
  return !Object.hasOwn(service.labels, otherProxyLabel)
}

/**
 * Compiles one Service and its slices to frontends (kube-proxy's serviceport.go and topology.go). Slots stay where
 * `previous`, or else `recalled`, has them. Returns `previous` itself when the result is equal to it.
 */
export function compileService(
  service: Service,
  slices: readonly EndpointSlice[],
  options: {
    readonly node: NodeFacts
    /** Whether externalIPs are served. @default true */
    readonly externalIPs?: boolean
    readonly previous?: ServiceFrontends | undefined
    readonly recalled?: RecalledSlots | undefined
  },
): ServiceFrontends {
  const key = objectKey(service)
  const problems: string[] = []
  const frontends = new Map<FrontendKey, Frontend>()
  let health: HealthCheck | undefined
  if (isProxied(service)) {
    const { previous } = options
    const before = previous && new Map(previous.frontends.map((f) => [frontendKey(f), f]))
    const choices = chooseEndpoints(service, slices, options.node)
    health = healthCheckOf(service, choices)
    const settled = { node: options.node, externalIPs: options.externalIPs ?? true, problems }
    for (const wanted of frontendsOf(service, choices, settled)) {
      const name = frontendKey(wanted)
      if (frontends.has(name))
        problems.push(`${key}: ${frontendField(wanted)} is asked for twice (the first port keeps it)`)
      else
        frontends.set(
          name,
          settle(wanted, before?.get(name), (which) => options.recalled?.(wanted, which)),
        )
    }
  }
  const result = {
    key,
    creationTimestamp: service.creationTimestamp,
    frontends: [...frontends.values()],
    health: sameHealth(options.previous?.health, health) ? options.previous?.health : health,
    problems: problems.length > 1 ? [...new Set(problems)] : problems,
  }
  return options.previous && isSame(options.previous, result) ? options.previous : result
}

/** The endpoints of one port in one family. */
interface PortChoice {
  readonly port: ServicePort
  readonly family: IpFamily
  readonly choice: EndpointChoice
}

function chooseEndpoints(service: Service, slices: readonly EndpointSlice[], node: NodeFacts): readonly PortChoice[] {
  const families = ipFamilies.filter((family) => hasFamily(service, family))
  return service.ports.flatMap((port) =>
    families.map((family) => {
      const wanted = { portName: port.name, protocol: port.protocol, family }
      return { port, family, choice: selectEndpoints(slices, wanted, node) }
    }),
  )
}

/** The frontends in the order of the spec, with slots as endpoint choice has them. */
function* frontendsOf(
  service: Service,
  choices: readonly PortChoice[],
  { node, externalIPs, problems }: { node: NodeFacts; externalIPs: boolean; problems: string[] },
): Generator<Frontend> {
  const key = objectKey(service)
  // Whatever the type: kube-proxy goes by the fields, and an API server clears those that the type does not have.
  const ingress = service.loadBalancerIngress.filter((i) => i.ipMode === 'VIP').map((i) => i.ip)
  const algorithm = annotationOf(service, 'algorithm', ['random', 'maglev', 'round-robin'], problems)
  problems.push(...annotationProblems(service))
  const guardAll = annotationOf(service, 'sourceRanges', ['load-balancer', 'all'], problems) === 'all'
  if (service.externalIPs.length > 0 && !externalIPs) {
    problems.push(
      `${key}: spec.externalIPs ${service.externalIPs.join(', ')} are not served (externalIPs are switched off)`,
    )
  }
  const outer = service.externalIPs.length > 0 || ingress.length > 0
  const strangers = outer
    ? [...service.externalIPs, ...ingress].filter((ip) => !hasFamily(service, ipFamilyOf(ip)))
    : []
  if (strangers.length > 0)
    problems.push(`${key}: ${strangers.join(', ')} is not served: the Service has no cluster IP of that family`)
  for (const { port, family, choice } of choices) {
    const ranges = sourceRangesOf(service, family, { node, ingress, problems })
    const base = {
      family,
      protocol: port.protocol,
      port: port.port,
      portName: port.name,
      algorithm,
      affinity: affinityOf(service, port, { choice, problems }),
      sourceRanges: undefined,
    }
    const internal = internalPolicy(service, choice)
    for (const ip of ofFamily(service.clusterIPs, family)) yield { kind: 'cluster-ip', ip, ...base, ...internal }
    // Most Services have nothing more.
    if (!outer && port.nodePort === undefined) continue
    const external = { ...base, ...externalPolicy(service, choice) }
    const guarded = { ...external, sourceRanges: ranges }
    const others = guardAll ? guarded : external
    const balanced = new Set(ofFamily(ingress, family))
    if (externalIPs) {
      // An address that is both has the load balancer's source ranges, as in kube-proxy.
      for (const ip of new Set(ofFamily(service.externalIPs, family))) {
        if (!balanced.has(ip)) yield { kind: 'external-ip', ip, ...others }
      }
    }
    for (const ip of balanced) yield { kind: 'load-balancer-ip', ip, ...guarded }
    yield* nodePortOf(port, others)
  }
}

/**
 * The sources that may come in one family, as kube-proxy has it (nftables/proxier.go): where this node itself may, its
 * load balancer IPs may too, since a connection from the node to such an address of its own has it as its source.
 */
function sourceRangesOf(
  service: Service,
  family: IpFamily,
  { node, ingress, problems }: { node: NodeFacts; ingress: readonly IpAddress[]; problems: string[] },
): readonly Cidr[] | undefined {
  const all = service.loadBalancerSourceRanges
  if (all.length === 0) return undefined
  const own = all.filter((range) => cidrFamily(range) === family)
  if (own.length === 0) {
    problems.push(
      `${objectKey(service)}: spec.loadBalancerSourceRanges has no IPv${family} range: its IPv${family} addresses are open to all`,
    )
    return undefined
  }
  const primary = node.addresses.find((ip) => ipFamilyOf(ip) === family)
  const nodeMayCome = primary !== undefined && own.some((range) => cidrContains(range, primary))
  return nodeMayCome ? [...own, ...ofFamily(ingress, family).map(addressCidr)] : own
}

function affinityOf(
  service: Service,
  port: ServicePort,
  { choice, problems }: { readonly choice: EndpointChoice; readonly problems: string[] },
): Affinity | undefined {
  const scope = annotationOf(service, 'affinityScope', ['port', 'service'], problems)
  if (service.sessionAffinity.kind === 'None') return undefined
  const { timeoutSeconds } = service.sessionAffinity
  const key = objectKey(service)
  // Of one port the endpoint itself can be remembered.
  if (scope === 'service' && service.ports.length > 1) {
    const shared = sharedAddresses([...choice.cluster, ...choice.local])
    return { timeoutSeconds, group: key, remembers: 'address', ...(shared && { shared }) }
  }
  return { timeoutSeconds, group: `${key}:${port.name}/${port.protocol}`, remembers: 'endpoint' }
}

function healthCheckOf(service: Service, choices: readonly PortChoice[]): HealthCheck | undefined {
  const { type, externalTrafficPolicy, healthCheckNodePort } = service
  if (type !== 'LoadBalancer' || externalTrafficPolicy !== 'Local' || healthCheckNodePort === undefined)
    return undefined
  const count = (family: IpFamily): number =>
    new Set(choices.flatMap((c) => (c.family === family ? c.choice.readyHere : []))).size
  return { nodePort: healthCheckNodePort, localEndpoints: { 4: count(4), 6: count(6) } }
}

function sameHealth(a: HealthCheck | undefined, b: HealthCheck | undefined): boolean {
  if (!a || !b) return a === b
  return a.nodePort === b.nodePort && ipFamilies.every((f) => a.localEndpoints[f] === b.localEndpoints[f])
}

function* nodePortOf(port: ServicePort, base: FrontendBase): Generator<Frontend> {
  if (port.nodePort !== undefined) yield { kind: 'node-port', ...base, port: port.nodePort }
}

function ofFamily(ips: readonly IpAddress[], family: IpFamily): IpAddress[] {
  return ips.filter((ip) => ipFamilyOf(ip) === family)
}

function hasFamily(service: Service, family: IpFamily): boolean {
  return service.clusterIPs.some((ip) => ipFamilyOf(ip) === family)
}

type Policy = Pick<FrontendBase, 'verdict' | 'outside' | 'masquerade'>

function internalPolicy(service: Service, choice: EndpointChoice): Policy {
  const local = service.internalTrafficPolicy === 'Local'
  return {
    verdict: verdictFor(local ? choice.local : choice.cluster, choice),
    outside: undefined,
    masquerade: 'unless-pod',
  }
}

/** kube-proxy's ExternalPolicyLocal (pkg/api/v1/service): the field counts where the type or externalIPs let clients outside in. */
function isLocalOutside({ type, externalIPs, externalTrafficPolicy }: Service): boolean {
  return externalTrafficPolicy === 'Local' && (type !== 'ClusterIP' || externalIPs.length > 0)
}

/** Under policy Local, pods and the node are treated as if a load balancer had sent them to any node ("short-circuit"). */
function externalPolicy(service: Service, choice: EndpointChoice): Policy {
  const verdict = verdictFor(choice.cluster, choice)
  if (!isLocalOutside(service)) return { verdict, outside: undefined, masquerade: 'always' }
  return { verdict, outside: verdictFor(choice.local, choice), masquerade: 'node-only' }
}

function verdictFor(endpoints: Slots, choice: EndpointChoice): Verdict {
  if (endpoints.length > 0) return { kind: 'balance', slots: endpoints }
  return { kind: choice.any ? 'drop' : 'reject' }
}

/** The same frontend with its slots where they were. */
function settle(
  wanted: Frontend,
  before: Frontend | undefined,
  recalled: (which: 'verdict' | 'outside') => Slots | undefined,
): Frontend {
  const place = (which: 'verdict' | 'outside'): Verdict | undefined => {
    const verdict = wanted[which]
    if (verdict?.kind !== 'balance') return verdict
    const old = before?.[which]
    const previous = old?.kind === 'balance' ? old.slots : recalled(which)
    const slots = compileSlots(verdict.slots, { consistent: wanted.algorithm === 'maglev', previous })
    if (slots === verdict.slots) return verdict
    return old?.kind === 'balance' && old.slots === slots ? old : { kind: 'balance', slots }
  }
  const verdict = place('verdict') ?? wanted.verdict
  const outside = place('outside')
  const unchanged =
    before !== undefined &&
    before.kind === wanted.kind &&
    before.masquerade === wanted.masquerade &&
    before.portName === wanted.portName &&
    before.algorithm === wanted.algorithm &&
    sameText(before.affinity, wanted.affinity) &&
    sameText(before.sourceRanges, wanted.sourceRanges) &&
    sameVerdict(before.verdict, verdict) &&
    sameVerdict(before.outside, outside)
  if (unchanged) return before
  return verdict === wanted.verdict && outside === wanted.outside ? wanted : { ...wanted, verdict, outside }
}

/** Whether two small values say the same. */
function sameText(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b)
}

function sameVerdict(a: Verdict | undefined, b: Verdict | undefined): boolean {
  if (a === undefined || b === undefined || a.kind !== b.kind) return a === b
  return a.kind !== 'balance' || b.kind !== 'balance' || a.slots === b.slots
}

/** Frontends are compared by identity: `settle` keeps those that did not change. */
function isSame(a: ServiceFrontends, b: ServiceFrontends): boolean {
  return (
    a.creationTimestamp === b.creationTimestamp &&
    a.health === b.health &&
    a.frontends.length === b.frontends.length &&
    a.frontends.every((frontend, i) => frontend === b.frontends[i]) &&
    a.problems.join('\n') === b.problems.join('\n')
  )
}
