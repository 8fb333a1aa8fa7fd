import type { Endpoint, EndpointPort, EndpointSlice } from '../model/endpoint-slice.ts'
import { readWeights } from '../model/endpoint-weight.ts'
import { ipFamilyOf, type IpFamily } from '../net/ip-address.ts'
import type { Pod } from '../model/pod.ts'
import type { Service } from '../model/service.ts'

/** As the controller of Kubernetes has it by default (--max-endpoints-per-slice). */
const maxEndpoints = 100
const noHints: Endpoint['hints'] = Object.freeze({ zones: Object.freeze([]), nodes: Object.freeze([]) })

/** Whether a pod carries all labels of a selector. */
export function selects(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  for (const name in selector) if (labels[name] !== selector[name]) return false
  return true
}

/**
 * The EndpointSlices of a Service with a selector. `pods` are those that it selects. Endpoints stay in the slice where
 * `previous` has them (their zones are those of their nodes), and slices that are equal to a previous one keep its identity; so does the whole list.
 */
export function endpointSlicesFor(
  service: Service,
  pods: readonly Pod[],
  previous: readonly EndpointSlice[] = [],
  zoneOf: (nodeName: string | undefined) => string | undefined = () => undefined,
): readonly EndpointSlice[] {
  const groups = new Map<
    string,
    { family: IpFamily; ports: readonly EndpointPort[]; endpoints: Map<string, Endpoint> }
  >()
  for (const family of familiesOf(service)) {
    for (const pod of pods) {
      const address = pod.podIPs.find((ip) => ipFamilyOf(ip) === family)
      if (address === undefined || pod.phase === 'Succeeded' || pod.phase === 'Failed') continue
      const ports = portsFor(service, pod)
      // Pods that give a named port different numbers need different slices.
      const key = `${family} ${portsKey(ports)}`
      let group = groups.get(key)
      if (!group) groups.set(key, (group = { family, ports, endpoints: new Map() }))
      group.endpoints.set(pod.name, endpointFor(service, pod, { address, zone: zoneOf(pod.nodeName) }))
    }
  }
  const packed: EndpointSlice[] = []
  const names = new Set(previous.map((slice) => slice.name))
  for (const group of groups.values()) packed.push(...pack(service, group, { previous, names }))
  packed.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const same = packed.length === previous.length && packed.every((slice, i) => slice === previous[i])
  return same ? previous : packed
}

/** Fills the slices of one family and one list of ports: first each endpoint where it was, then the new ones into gaps. */
function pack(
  service: Service,
  group: { family: IpFamily; ports: readonly EndpointPort[]; endpoints: ReadonlyMap<string, Endpoint> },
  context: { previous: readonly EndpointSlice[]; names: Set<string> },
): EndpointSlice[] {
  const rest = new Map(group.endpoints)
  const bins: { before: EndpointSlice | undefined; endpoints: Endpoint[] }[] = []
  for (const before of context.previous) {
    if (before.family !== group.family || portsKey(before.ports) !== portsKey(group.ports)) continue
    const endpoints: Endpoint[] = []
    for (const old of before.endpoints) {
      const now = old.targetPod === undefined ? undefined : rest.get(old.targetPod)
      if (!now || old.targetPod === undefined) continue
      rest.delete(old.targetPod)
      endpoints.push(sameEndpoint(old, now) ? old : now)
    }
    bins.push({ before, endpoints })
  }
  for (const endpoint of rest.values()) {
    let bin = bins.find((bin) => bin.endpoints.length < maxEndpoints)
    if (!bin) bins.push((bin = { before: undefined, endpoints: [] }))
    bin.endpoints.push(endpoint)
  }
  const slices: EndpointSlice[] = []
  for (const { before, endpoints } of bins) {
    if (endpoints.length === 0) continue
    if (
      before &&
      endpoints.length === before.endpoints.length &&
      endpoints.every((e, i) => e === before.endpoints[i])
    ) {
      slices.push(before)
      continue
    }
    const name = before?.name ?? freeName(service, group.family, context.names)
    const { family, ports } = group
    slices.push({ namespace: service.namespace, name, serviceName: service.name, family, ports, endpoints })
  }
  return slices
}

function freeName(service: Service, family: IpFamily, names: Set<string>): string {
  for (let number = 1; ; number++) {
    const name = `${service.name}-ipv${family}${number === 1 ? '' : `-${number}`}`
    if (names.has(name)) continue
    names.add(name)
    return name
  }
}

/** The families of its addresses; without any (headless), what it asks for; by default IPv4, as an IPv4 cluster has it. */
function familiesOf(service: Service): readonly IpFamily[] {
  if (service.clusterIPs.length > 0) return service.clusterIPs.map((ip) => ipFamilyOf(ip))
  return requestedFamilies(service)
}

/** The families that the Service asks for, the primary first (`ipFamilies`, `ipFamilyPolicy`; by default IPv4). */
export function requestedFamilies(service: Service): readonly IpFamily[] {
  const families = service.ipFamilies ?? [4]
  const dual = service.ipFamilyPolicy === 'PreferDualStack' || service.ipFamilyPolicy === 'RequireDualStack'
  if (!dual) return service.ipFamilyPolicy === 'SingleStack' ? families.slice(0, 1) : families
  return families.length > 1 ? families : families[0] === 6 ? [6, 4] : [4, 6]
}

/** A named target port is looked up in the pod; where the pod does not have it, the port is left out. */
function portsFor(service: Service, pod: Pod): readonly EndpointPort[] {
  const ports: EndpointPort[] = []
  for (const { name, protocol, targetPort } of service.ports) {
    const port =
      typeof targetPort === 'string'
        ? pod.ports.find((port) => port.name === targetPort && port.protocol === protocol)?.port
        : targetPort
    if (port !== undefined) ports.push({ name, protocol, port })
  }
  return ports
}

function portsKey(ports: readonly EndpointPort[]): string {
  return ports.map((port) => `${port.name}/${port.protocol}/${port.port}`).join()
}

/** Conditions as the controller of Kubernetes sets them (podToEndpoint): a terminating pod may serve, but is not ready. */
function endpointFor(service: Service, pod: Pod, { address, zone }: Pick<Endpoint, 'address' | 'zone'>): Endpoint {
  const serving = pod.ready && pod.phase === 'Running'
  const weight = readWeights(pod.annotations, [])(address)
  return {
    ...(weight !== undefined && { weight }),
    address,
    hostname: pod.hostname !== undefined && pod.subdomain === service.name ? pod.hostname : undefined,
    nodeName: pod.nodeName,
    zone,
    ready: service.publishNotReadyAddresses || (serving && !pod.terminating),
    serving,
    terminating: pod.terminating,
    hints: noHints,
    targetPod: pod.name,
  }
}

function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return (
    a.address === b.address &&
    a.hostname === b.hostname &&
    a.nodeName === b.nodeName &&
    a.zone === b.zone &&
    a.ready === b.ready &&
    a.serving === b.serving &&
    a.terminating === b.terminating &&
    a.weight === b.weight
  )
}
