import type { EndpointSlice } from '../model/endpoint-slice.ts'
import { objectKey, type ObjectKey } from '../model/object-key.ts'
import type { Service, ServicePort } from '../model/service.ts'
import { ipFamilies, ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'
import { selectEndpoints, type EndpointChoice, type NodeFacts } from './select-endpoints.ts'
import { assignSlots, type Slots } from './slots.ts'

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
  /** Sentences that begin with the Service's key and the field's path. */
  readonly problems: readonly string[]
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
    readonly previous?: ServiceFrontends | undefined
    readonly recalled?: RecalledSlots | undefined
  },
): ServiceFrontends {
  const key = objectKey(service)
  const problems: string[] = []
  const frontends = new Map<FrontendKey, Frontend>()
  if (isProxied(service)) {
    const before = new Map(options.previous?.frontends.map((f) => [frontendKey(f), f]))
    for (const wanted of frontendsOf(service, slices, options.node, problems)) {
      const name = frontendKey(wanted)
      if (frontends.has(name))
        problems.push(`${key}: ${frontendField(wanted)} is asked for twice (the first port keeps it)`)
      else
        frontends.set(
          name,
          settle(wanted, before.get(name), (which) => options.recalled?.(wanted, which)),
        )
    }
  }
  const result = {
    key,
    creationTimestamp: service.creationTimestamp,
    frontends: [...frontends.values()],
    problems: [...new Set(problems)],
  }
  return options.previous && isSame(options.previous, result) ? options.previous : result
}

/** The frontends in the order of the spec, with slots as endpoint choice has them. */
function* frontendsOf(
  service: Service,
  slices: readonly EndpointSlice[],
  node: NodeFacts,
  problems: string[],
): Generator<Frontend> {
  const key = objectKey(service)
  const exposed = service.type === 'NodePort' || service.type === 'LoadBalancer'
  const guarded = service.loadBalancerSourceRanges.length > 0 && service.type === 'LoadBalancer'
  if (guarded && service.loadBalancerIngress.some((i) => i.ipMode === 'VIP')) {
    problems.push(`${key}: spec.loadBalancerSourceRanges is not supported yet: its load balancer IPs are not served`)
  }
  for (const port of service.ports) {
    for (const family of ipFamilies) {
      const choice = selectEndpoints(slices, { portName: port.name, protocol: port.protocol, family }, node)
      const base = { family, protocol: port.protocol, port: port.port }
      const internal = internalPolicy(service, choice)
      for (const ip of ofFamily(service.clusterIPs, family)) yield { kind: 'cluster-ip', ip, ...base, ...internal }
      const external = externalPolicy(service, choice)
      for (const ip of ofFamily(service.externalIPs, family)) yield { kind: 'external-ip', ip, ...base, ...external }
      if (service.type === 'LoadBalancer' && !guarded) {
        const ips = service.loadBalancerIngress.filter((i) => i.ipMode === 'VIP').map((i) => i.ip)
        for (const ip of ofFamily(ips, family)) yield { kind: 'load-balancer-ip', ip, ...base, ...external }
      }
      if (exposed && hasFamily(service, family)) yield* nodePortOf(port, { ...base, ...external })
    }
  }
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

/** Under policy Local, pods and the node are treated as if a load balancer had sent them to any node ("short-circuit"). */
function externalPolicy(service: Service, choice: EndpointChoice): Policy {
  const verdict = verdictFor(choice.cluster, choice)
  if (service.externalTrafficPolicy === 'Cluster') return { verdict, outside: undefined, masquerade: 'always' }
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
    const slots = assignSlots(old?.kind === 'balance' ? old.slots : recalled(which), verdict.slots)
    return old?.kind === 'balance' && old.slots === slots ? old : { kind: 'balance', slots }
  }
  const verdict = place('verdict') ?? wanted.verdict
  const outside = place('outside')
  const unchanged =
    before !== undefined &&
    before.kind === wanted.kind &&
    before.masquerade === wanted.masquerade &&
    sameVerdict(before.verdict, verdict) &&
    sameVerdict(before.outside, outside)
  return unchanged ? before : { ...wanted, verdict, outside }
}

function sameVerdict(a: Verdict | undefined, b: Verdict | undefined): boolean {
  if (a === undefined || b === undefined || a.kind !== b.kind) return a === b
  return a.kind !== 'balance' || b.kind !== 'balance' || a.slots === b.slots
}

/** Frontends are compared by identity: `settle` keeps those that did not change. */
function isSame(a: ServiceFrontends, b: ServiceFrontends): boolean {
  return (
    a.creationTimestamp === b.creationTimestamp &&
    a.frontends.length === b.frontends.length &&
    a.frontends.every((frontend, i) => frontend === b.frontends[i]) &&
    a.problems.join('\n') === b.problems.join('\n')
  )
}
