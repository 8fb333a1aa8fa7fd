import { ipFamilyOf, parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parseTransportAddress } from '../net/transport-address.ts'
import { localAddresses } from '../rtnetlink/local-addresses.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { PacketAtNode } from '../proxy/dataplane.ts'
import { decide, originOf, type Decision } from '../proxy/decide.ts'
import { explainEndpoints } from '../proxy/explain-endpoints.ts'
import type { Frontend } from '../proxy/frontends.ts'
import type { PodView, ServiceExplanationView, VerifyView } from './control-api.ts'
import { HttpError } from './http-server.ts'
import type { ServiceProxy } from './service-proxy.ts'

/** Answers `fairlead explain FROM TO` and `fairlead verify`: what is wanted, and what the kernel has. */
export class ServiceInspection {
  readonly #pods: () => readonly PodView[]
  readonly #refused: () => readonly string[]
  #proxy: ServiceProxy | undefined

  /** `refused`: why manifests are not served that might have had an address which no Service has. */
  constructor(pods: () => readonly PodView[], refused: () => readonly string[]) {
    this.#pods = pods
    this.#refused = refused
  }

  /** From here on there are Services. */
  serve(proxy: ServiceProxy | undefined): void {
    this.#proxy = proxy
  }

  /**
   * A new connection `from` (an address, `node`, or a pod's NAMESPACE/NAME) to `to` (`ADDRESS:PORT`, with `/udp` where it is not
   * TCP). Throws {@link HttpError}.
   */
  async explain(from: string | null, to: string | null): Promise<ServiceExplanationView> {
    const { services, dataplane, proxy } = this.#served()
    const destination = parseDestination(to ?? '')
    const own = localAddresses()
    const isLocal = (ip: IpAddress): boolean => own.has(ip) || ip.startsWith('127.')
    const client = await this.#client(from ?? 'node', { services, destination, own })
    const packet: PacketAtNode = { ...destination, ...client, toNode: isLocal(destination.destination) }
    const decision = decide(services, packet)
    const evidence = await proxy.explain(services, packet, { isLocal })
    const description = describe(services, decision, { mode: dataplane.name, podName: (ip) => this.#podName(ip) })
    return {
      from: from ?? 'node',
      source: packet.source,
      origin: packet.origin,
      interface: packet.iifname,
      to: to ?? '',
      mode: dataplane.name,
      ...description,
      problems: decision.kind === 'pass' ? this.#refused() : description.problems,
      evidence: evidence?.lines ?? [],
      differences: evidence?.differences ?? [],
      compared: evidence !== undefined,
    }
  }

  /** Compares all that is wanted with the kernel. Throws {@link HttpError}. */
  async verify(): Promise<VerifyView> {
    const { services, dataplane } = this.#served()
    const began = performance.now()
    const { lines } = await dataplane.plan(services)
    return {
      mode: dataplane.name,
      services: services.services.size,
      differences: lines,
      tookMs: performance.now() - began,
    }
  }

  #served() {
    const proxy = this.#proxy
    const services = proxy?.loop.status().services
    if (proxy && services) return { services, proxy, dataplane: proxy.loop.dataplane }
    throw new HttpError(409, 'this daemon serves no Services (services.enabled is false, or it is just starting)')
  }

  #podName(ip: IpAddress): string | undefined {
    const pod = this.#pods().find(({ ips }) => ips.includes(ip))
    return pod && `${pod.namespace}/${pod.name}`
  }

  async #client(
    from: string,
    known: {
      readonly services: CompiledServices
      readonly destination: Destination
      readonly own: ReadonlySet<IpAddress>
    },
  ): Promise<Pick<PacketAtNode, 'source' | 'origin' | 'iifname'>> {
    const family = ipFamilyOf(known.destination.destination)
    if (from === 'node') {
      const source = await this.#nodeSource(known)
      return { source, origin: 'node', iifname: undefined }
    }
    const source = this.#clientAddress(from, family)
    if (known.own.has(source)) return { source, origin: 'node', iifname: undefined }
    if (ipFamilyOf(source) !== family) {
      throw new HttpError(400, `from: ${source} and ${known.destination.destination} are of different families`)
    }
    using rtnetlink = openRtnetlink()
    const iifname = (await routeTo(rtnetlink, source)) ?? 'unknown'
    return { source, origin: originOf(known.services.settings, source, iifname), iifname }
  }

  /** What the kernel would choose as the source of a connection that the node makes. */
  async #nodeSource({
    services,
    destination,
    own,
  }: {
    readonly services: CompiledServices
    readonly destination: Destination
    readonly own: ReadonlySet<IpAddress>
  }): Promise<IpAddress> {
    const family = ipFamilyOf(destination.destination)
    const loopback = family === 4 ? '127.0.0.1' : '::1'
    if (destination.destination === loopback) return parseIp(loopback)
    const primary = services.node.addresses.find((ip) => ipFamilyOf(ip) === family)
    const some = [...own].find((ip) => ipFamilyOf(ip) === family && !/^(127\.|::1$|fe80:)/.test(ip))
    return primary ?? some ?? parseIp(loopback)
  }

  #clientAddress(from: string, family: 4 | 6): IpAddress {
    const pod = this.#pods().find(({ namespace, name }) => from === `${namespace}/${name}` || from === name)
    const ip = pod?.ips.map(parseIp).find((ip) => ipFamilyOf(ip) === family)
    if (ip !== undefined) return ip
    if (pod) throw new HttpError(400, `from: pod ${from} has no IPv${family} address`)
    try {
      return parseIp(from)
    } catch (cause) {
      const expected = 'expected an IP address, "node", or a pod of this machine'
      throw new HttpError(400, `from: ${JSON.stringify(from)} (${expected})`, { cause })
    }
  }
}

type Destination = Pick<PacketAtNode, 'destination' | 'port' | 'protocol'>

/** Throws {@link HttpError}. */
function parseDestination(text: string): Destination {
  try {
    const { ip, port, protocol } = parseTransportAddress(text)
    return { destination: ip, port, protocol }
  } catch (cause) {
    if (!(cause instanceof ParseError)) throw cause
    throw new HttpError(400, `to: ${cause.message}`, { cause })
  }
}

/** The interface by which answers to `ip` would leave: where its packets come in, unless routes are asymmetric. */
async function routeTo(rtnetlink: ReturnType<typeof openRtnetlink>, ip: IpAddress): Promise<string | undefined> {
  const route = await rtnetlink.routes.lookup(ip)
  if (route?.dev === undefined) return undefined
  const links = await rtnetlink.links.list()
  return links.find((link) => link.index === route.dev)?.name
}

type Description = Pick<
  ServiceExplanationView,
  'outcome' | 'why' | 'service' | 'frontend' | 'endpoints' | 'masquerade' | 'choice' | 'problems'
>

function describe(
  services: CompiledServices,
  decision: Decision,
  { mode, podName }: { readonly mode: string; readonly podName: (ip: IpAddress) => string | undefined },
): Description {
  const none = { service: undefined, frontend: undefined, endpoints: [], masquerade: undefined, choice: undefined }
  if (decision.kind === 'pass') return { ...none, outcome: 'not-ours', why: decision.why, problems: [] }
  const { service, frontend } = decision
  const problems = service === undefined ? [] : (services.problems.get(service) ?? [])
  const endpoints =
    frontend && service !== undefined && !isSourceRefused(decision)
      ? endpointsOf(services, { service, frontend, decision, podName })
      : []
  const common = { service, frontend: frontend && frontendText(frontend), endpoints, problems }
  if (decision.kind !== 'balance') {
    const outcome = decision.kind === 'reject' ? 'rejected' : 'dropped'
    return { ...none, ...common, outcome, why: decision.why }
  }
  return {
    ...common,
    outcome: 'endpoints',
    why: undefined,
    // In userspace mode the daemon makes the connection itself.
    masquerade: decision.masquerade || mode === 'userspace',
    choice: choiceText(decision.frontend, mode),
  }
}

function isSourceRefused(decision: Decision): boolean {
  return decision.kind === 'drop' && decision.sourceRefused === true
}

function endpointsOf(
  { snapshot, node }: CompiledServices,
  of: {
    readonly service: string
    readonly frontend: Frontend
    readonly decision: Exclude<Decision, { kind: 'pass' }>
    readonly podName: (ip: IpAddress) => string | undefined
  },
): ServiceExplanationView['endpoints'] {
  const { service, frontend, decision, podName } = of
  const policy = isLocalPolicy(snapshot.services.get(service), frontend, decision) ? 'Local' : 'Cluster'
  const slots = decision.kind === 'balance' ? decision.slots : []
  return explainEndpoints(snapshot.slices.get(service) ?? [], frontend, { node, policy, slots }).map((endpoint) => ({
    endpoint: ipFamilyOf(endpoint.ip) === 6 ? `[${endpoint.ip}]:${endpoint.port}` : `${endpoint.ip}:${endpoint.port}`,
    pod: podName(endpoint.ip),
    node: endpoint.nodeName,
    zone: endpoint.zone,
    share: endpoint.share,
    why: endpoint.why,
  }))
}

/** Pods and the node are not concerned by externalTrafficPolicy Local: `view` says who asks. */
function isLocalPolicy(
  service: { readonly internalTrafficPolicy: string; readonly externalTrafficPolicy: string } | undefined,
  frontend: Frontend,
  decision: Exclude<Decision, { kind: 'pass' }>,
): boolean {
  if (frontend.kind === 'cluster-ip') return service?.internalTrafficPolicy === 'Local'
  return decision.kind === 'balance' ? decision.view === 'outside' : service?.externalTrafficPolicy === 'Local'
}

function frontendText(frontend: Frontend): string {
  const port = `${frontend.port}/${frontend.protocol.toUpperCase()}`
  const name = frontend.portName === '' ? '' : ` (port ${frontend.portName})`
  switch (frontend.kind) {
    case 'cluster-ip':
      return `cluster IP ${frontend.ip} ${port}${name}`
    case 'external-ip':
      return `external IP ${frontend.ip} ${port}${name}`
    case 'load-balancer-ip':
      return `load balancer IP ${frontend.ip} ${port}${name}`
    case 'node-port':
      return `node port ${port}${name}`
    default:
      return frontend satisfies never
  }
}

function choiceText({ algorithm, affinity }: Frontend, mode: string): string {
  const inTurn = 'each in turn'
  const random = { userspace: inTurn, ipvs: "by IPVS's scheduler" }[mode] ?? 'by chance'
  const how = { random, maglev: 'by a hash of the client (Maglev)', 'round-robin': inTurn }[algorithm]
  if (!affinity) return how
  const scope = affinity.remembers === 'address' ? 'for all ports of the Service' : 'for this port'
  return `${how}; a client comes back to its endpoint for ${affinity.timeoutSeconds} s, ${scope}`
}
