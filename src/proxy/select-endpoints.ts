import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/** An endpoint that new connections may be sent to. */
export interface ServiceEndpoint {
  readonly ip: IpAddress
  readonly port: Port
  /** Its share of new connections, above 0. Absent: 1. */
  readonly weight?: number
}

/** What endpoint choice must know of this node. */
export interface NodeFacts {
  readonly name: string
  /** The label `topology.kubernetes.io/zone`; undefined switches zone hints off. */
  readonly zone: string | undefined
  /** Of the Node object, the primary first in each family. Empty when there is none. */
  readonly addresses: readonly IpAddress[]
}

/** Endpoints of one Service port in one family, by traffic policy. Each list is sorted by address, then port. */
export interface EndpointChoice {
  /** For policy Cluster. */
  readonly cluster: readonly ServiceEndpoint[]
  /** For policy Local: those of this node. */
  readonly local: readonly ServiceEndpoint[]
  /** Some node has a usable one. An empty list then means `drop`, otherwise `reject`. */
  readonly any: boolean
  /** Addresses of this node's ready endpoints, without terminating ones: what a health check node port counts. */
  readonly readyHere: readonly IpAddress[]
}

/** Which endpoints of the slices are meant. */
export interface PortInFamily {
  readonly portName: string
  readonly protocol: Protocol
  readonly family: IpFamily
}

interface Candidate extends ServiceEndpoint {
  readonly endpoint: Endpoint
  readonly here: boolean
  readonly weight: number
  /** What is left of it when it is chosen: the same object wherever that is. */
  readonly chosen: ServiceEndpoint
}

/**
 * Chooses the endpoints of a Service port as kube-proxy does (pkg/proxy/topology.go, CategorizeEndpoints): ready ones,
 * narrowed by complete topology hints; where none is ready, those that terminate but still serve (KEP-1669), without
 * hints. Policy Local looks at this node's endpoints alone, and never at hints. An endpoint with the weight 0 takes no new
 * connections, so it counts as not being there.
 */
export function selectEndpoints(slices: readonly EndpointSlice[], port: PortInFamily, node: NodeFacts): EndpointChoice {
  const ready: Candidate[] = []
  const draining: Candidate[] = []
  for (const candidate of gather(slices, port, node)) {
    if (candidate.weight === 0) continue
    if (candidate.endpoint.ready) ready.push(candidate)
    if (isDraining(candidate.endpoint)) draining.push(candidate)
  }
  const cluster = ready.length > 0 ? nearest(ready, node) : draining
  const readyHere = ready.filter((c) => c.here)
  const local = readyHere.length > 0 || draining.length === 0 ? readyHere : draining.filter((c) => c.here)
  return {
    cluster: cluster.map((c) => c.chosen),
    local: local.map((c) => c.chosen),
    any: ready.length > 0 || draining.length > 0,
    readyHere: readyHere.map((c) => c.ip),
  }
}

/** An endpoint that old connections may go on with. */
export interface ServingEndpoint extends ServiceEndpoint {
  /** It is on this node. */
  readonly here: boolean
  /** New connections may come too, as far as the endpoint itself is concerned. */
  readonly wanted: boolean
}

/** Endpoints of the port that still serve, ready or not, whatever policy and hints say: those that may finish their work. */
export function servingEndpoints(
  slices: readonly EndpointSlice[],
  port: PortInFamily,
  node: NodeFacts,
): readonly ServingEndpoint[] {
  return gather(slices, port, node)
    .filter(({ endpoint }) => endpoint.ready || endpoint.serving)
    .map(({ ip, port, here, endpoint, weight }) => ({ ip, port, here, wanted: endpoint.ready && weight !== 0 }))
}

/** All endpoints of the port, once each: an address and port that several slices carry counts as this node's if any says so. */
function gather(slices: readonly EndpointSlice[], port: PortInFamily, node: NodeFacts): readonly Candidate[] {
  const all: Candidate[] = []
  for (const slice of slices) {
    if (slice.family !== port.family || slice.headless) continue
    const slicePort = slice.ports.find((p) => p.name === port.portName && p.protocol === port.protocol)
    if (!slicePort) continue
    for (const endpoint of slice.endpoints) {
      const { address: ip, weight = 1 } = endpoint
      const { port: number } = slicePort
      const chosen = weight === 1 ? { ip, port: number } : { ip, port: number, weight }
      all.push({ ip, port: number, endpoint, here: endpoint.nodeName === node.name, weight, chosen })
    }
  }
  return isInOrder(all) ? all : onceEach(all.sort(compareEndpoints))
}

/** Of sorted candidates, those with the same address and port stand side by side; one of them counts. */
function onceEach(sorted: readonly Candidate[]): Candidate[] {
  const once: Candidate[] = []
  for (const candidate of sorted) {
    const last = once.at(-1)
    if (!last || compareEndpoints(last, candidate) !== 0) once.push(candidate)
    else if (outranks(candidate, last)) once[once.length - 1] = candidate
  }
  return once
}

/**
 * Which of two mentions of one address counts: the one that does not terminate (a new pod may have the address of one that goes),
 * then this node's, then the one in better condition, then the one of less weight. Not which came first.
 */
function outranks(one: Candidate, other: Candidate): boolean {
  return rank(one) === rank(other) ? one.weight < other.weight : rank(one) > rank(other)
}

function rank(candidate: Candidate): number {
  return (
    (candidate.endpoint.terminating ? 0 : 8) +
    (candidate.here ? 4 : 0) +
    (candidate.endpoint.ready ? 2 : 0) +
    (isDraining(candidate.endpoint) ? 1 : 0)
  )
}

function isDraining(endpoint: Endpoint): boolean {
  return endpoint.serving && endpoint.terminating
}

/**
 * Those that hints mean: this node's (KEP-3015), else its zone's (KEP-2433), and only if every ready endpoint carries
 * hints of that kind and one of them means us.
 */
function nearest(ready: readonly Candidate[], node: NodeFacts): readonly Candidate[] {
  if (ready.every((c) => c.endpoint.hints.nodes.length > 0)) {
    const forNode = ready.filter((c) => c.endpoint.hints.nodes.includes(node.name))
    if (forNode.length > 0) return forNode
  }
  const { zone } = node
  if (zone !== undefined && ready.every((c) => c.endpoint.hints.zones.length > 0)) {
    const forZone = ready.filter((c) => c.endpoint.hints.zones.includes(zone))
    if (forZone.length > 0) return forZone
  }
  return ready
}

/** Sorted, and each once. */
function isInOrder(candidates: readonly Candidate[]): boolean {
  return candidates.every((candidate, i) => i === 0 || compareEndpoints(candidates[i - 1]!, candidate) < 0)
}

/** By text: any fixed order will do, and equal addresses are equal strings. */
function compareEndpoints(a: ServiceEndpoint, b: ServiceEndpoint): number {
  if (a.ip !== b.ip) return a.ip < b.ip ? -1 : 1
  return a.port - b.port
}
