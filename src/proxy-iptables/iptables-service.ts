import type { ChainRules } from '../iptables/objects.ts'
import { formatRule, type Rule } from '../iptables/rule.ts'
import { addressCidr, networkOf } from '../net/cidr.ts'
import type { IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { ProxySettings } from '../proxy/compile-services.ts'
import type { Frontend, NodePortFrontend, ServiceFrontends, Verdict, VipFrontend } from '../proxy/frontends.ts'
import {
  balanceRules,
  countBalanceRules,
  endpointsOf,
  type BalancedPort,
  type EndpointChain,
} from './iptables-endpoints.ts'
import { nodePortMatches, podMatch, type PodMatch } from './iptables-local.ts'
import { chains, portChain } from './iptables-names.ts'
import type { Slots } from '../proxy/slots.ts'

/** Rules of one Service in chains that all Services share. */
export interface DispatchRules {
  /** nat KUBE-SERVICES and KUBE-NODEPORTS: to the chains of the Service's ports. */
  readonly services: readonly string[]
  readonly nodePorts: readonly string[]
  /** filter: what meets connections that nat did not translate. */
  readonly unservedServices: readonly string[]
  readonly unservedExternal: readonly string[]
  readonly firewall: readonly string[]
  readonly healthChecks: readonly string[]
}

/** What the rules of a Service depend on beside the Service. */
export interface RuleContext {
  readonly family: IpFamily
  readonly settings: ProxySettings
  readonly pods: PodMatch
  /** See {@link BalancedPort.terse}. */
  readonly terse: boolean
  /** Whether a Service's internalTrafficPolicy is Local: only the names of its chains follow from it. */
  readonly isInternalLocal: (key: string) => boolean
  /** See `nodePortMatches`. */
  readonly atNodePorts: readonly Rule[]
}

/** What the rules of all Services of a family depend on. */
export function ruleContext(
  settings: ProxySettings,
  options: Pick<RuleContext, 'family' | 'terse' | 'isInternalLocal'>,
): RuleContext {
  const { family } = options
  return { ...options, settings, pods: podMatch(settings, family), atNodePorts: nodePortMatches(settings, family) }
}

/** The frontends of a Service in one family, port by port. */
function portsOf(service: ServiceFrontends, context: RuleContext): ServicePortRules[] {
  const own = service.frontends.filter(({ family }) => family === context.family)
  // Of most Services there is nothing to group.
  if (own.length < 2) return own.map((frontend) => new ServicePortRules(service.key, [frontend], context))
  const groups = new Map<string, Frontend[]>()
  for (const frontend of own) {
    const name = `${frontend.portName}/${frontend.protocol}`
    const group = groups.get(name)
    if (group) group.push(frontend)
    else groups.set(name, [frontend])
  }
  return [...groups.values()].map((frontends) => new ServicePortRules(service.key, frontends, context))
}

/** The rules of a Service in the chains that all share. Pure. */
export function dispatchRules(service: ServiceFrontends, context: RuleContext): DispatchRules {
  const rules = {
    services: [] as string[],
    nodePorts: [] as string[],
    unservedServices: [] as string[],
    unservedExternal: [] as string[],
    firewall: [] as string[],
    healthChecks: [] as string[],
  }
  const ports = portsOf(service, context)
  for (const port of ports) port.dispatch(rules)
  const [first] = ports
  if (service.health && first) rules.healthChecks.push(healthCheckRule(first.name, service.health.nodePort))
  return rules
}

/** Whether a Service has {@link dispatchRules} in the table filter. */
export function isFiltered({ frontends, health }: ServiceFrontends): boolean {
  const isServed = (verdict: Verdict | undefined): boolean => verdict === undefined || verdict.kind === 'balance'
  const isOpen = ({ verdict, outside, sourceRanges }: Frontend): boolean =>
    isServed(verdict) && isServed(outside) && !sourceRanges
  return health !== undefined || !frontends.every(isOpen)
}

/** Adds the chains of nat that are a Service's own. */
export function addServiceChains(into: Map<string, ChainRules>, service: ServiceFrontends, context: RuleContext): void {
  for (const port of portsOf(service, context)) port.addChains(into)
}

function healthCheckRule(name: string, port: Port): string {
  const comment = `${name} health check node port`
  return formatRule({ protocol: 'tcp', comment, destinationPort: port, target: 'ACCEPT' })
}

type Mutable<T> = { -readonly [K in keyof T]: string[] }

/** One port of a Service in one family, as kube-proxy's syncProxyRules writes it. */
class ServicePortRules {
  /** `NAMESPACE/NAME:PORT` */
  readonly name: string
  readonly #key: string
  readonly #context: RuleContext
  readonly #clusterIps: readonly VipFrontend[]
  readonly #external: readonly Frontend[]
  readonly #port: BalancedPort

  constructor(key: string, frontends: readonly Frontend[], context: RuleContext) {
    const [first] = frontends as [Frontend, ...Frontend[]]
    const { portName, protocol, algorithm, affinity } = first
    this.name = portName === '' ? key : `${key}:${portName}`
    this.#key = key
    this.#context = context
    this.#clusterIps = frontends.filter((f): f is VipFrontend => f.kind === 'cluster-ip')
    this.#external = frontends.filter((f) => f.kind !== 'cluster-ip')
    this.#port = {
      name: this.name,
      protocol,
      family: context.family,
      algorithm,
      affinity,
      terse: context.terse,
    }
  }

  dispatch(into: Mutable<DispatchRules>): void {
    for (const frontend of this.#clusterIps) {
      const comment = `${this.name} cluster IP`
      if (frontend.verdict.kind === 'balance') into.services.push(this.#at(frontend, this.#internalChain(), comment))
      else into.unservedServices.push(this.#unserved(frontend, frontend.verdict))
    }
    for (const frontend of this.#external) {
      if (frontend.kind === 'node-port') this.#dispatchNodePort(frontend, into)
      else this.#dispatchExternal(frontend, into)
    }
  }

  #dispatchExternal(frontend: VipFrontend, into: Mutable<DispatchRules>): void {
    const what = frontend.kind === 'external-ip' ? 'external IP' : 'loadbalancer IP'
    if (isServed(frontend)) into.services.push(this.#at(frontend, this.#entryChain(frontend), `${this.name} ${what}`))
    const rest = frontend.outside ?? frontend.verdict
    if (rest.kind !== 'balance') into.unservedExternal.push(this.#unserved(frontend, rest))
    into.firewall.push(...this.#firewallRules(frontend, { destination: addressCidr(frontend.ip) }))
  }

  #dispatchNodePort(frontend: NodePortFrontend, into: Mutable<DispatchRules>): void {
    const { protocol, port } = frontend
    if (isServed(frontend)) {
      const target = this.#entryChain(frontend)
      into.nodePorts.push(formatRule({ protocol, comment: this.name, destinationPort: port, target }))
    }
    const rest = frontend.outside ?? frontend.verdict
    for (const address of this.#context.atNodePorts) {
      if (rest.kind !== 'balance') into.unservedExternal.push(this.#unserved(frontend, rest, address))
      into.firewall.push(...this.#firewallRules(frontend, address))
    }
  }

  addChains(into: Map<string, ChainRules>): void {
    const served = this.#external.filter(isServed)
    const entry = served.find((f) => f.verdict.kind === 'balance') ?? served[0]
    if (entry) into.set(this.#chain('EXT'), this.#externalRules(entry))
    const guarded = served.find((f) => f.sourceRanges)
    if (guarded) into.set(this.#chain('FW'), this.#sourceRangeRules(guarded))
    const internal = this.#clusterIps.find((f) => f.verdict.kind === 'balance')
    const isLocal = this.#context.isInternalLocal(this.#key)
    const internalSlots = slotsOf(internal?.verdict)
    const cluster = slotsOf(entry?.verdict) ?? (isLocal ? undefined : internalSlots)
    const local = slotsOf(entry?.outside) ?? (isLocal ? internalSlots : undefined)
    if (cluster) this.#addBalanceChain(into, 'SVC', cluster)
    if (local) this.#addBalanceChain(into, 'SVL', local)
  }

  #addBalanceChain(into: Map<string, ChainRules>, kind: 'SVC' | 'SVL', slots: Slots): void {
    const endpoints = endpointsOf(slots, this.#port)
    const marked = kind === this.#internalKind() ? this.#clusterIps : []
    const mark = (): string[] => marked.flatMap((frontend) => this.#markRules(frontend))
    into.set(this.#chain(kind), new BalanceChain(slots, endpoints, { mark, port: this.#port }))
    for (const endpoint of endpoints) into.set(endpoint.chain, endpoint)
  }

  /** Who comes to a cluster IP and must see answers come back through this node. */
  #markRules(frontend: VipFrontend): string[] {
    if (frontend.verdict.kind !== 'balance') return []
    const { settings, pods } = this.#context
    const who: Rule | undefined = settings.masqueradeAll ? { target: chains.markMasquerade } : pods.markOthers
    if (!who) return []
    const { protocol, port } = frontend
    const destination = addressCidr(frontend.ip)
    const comment = `${this.name} cluster IP`
    return [formatRule({ ...who, destination, protocol, comment, destinationPort: port })]
  }

  #externalRules(frontend: Frontend): string[] {
    const cluster = this.#chain('SVC')
    if (frontend.masquerade === 'always') {
      const comment = `masquerade traffic for ${this.name} external destinations`
      return [formatRule({ comment, target: chains.markMasquerade }), formatRule({ target: cluster })]
    }
    const rules: string[] = []
    if (frontend.verdict.kind === 'balance') {
      // Policy Local means what comes from outside: pods and the node reach all endpoints, as through a load balancer.
      const comment = `pod traffic for ${this.name} external destinations`
      for (const match of this.#context.pods.isPod) rules.push(formatRule({ ...match, comment, target: cluster }))
      const matches = '-m addrtype --src-type LOCAL'
      const masquerade = `masquerade LOCAL traffic for ${this.name} external destinations`
      rules.push(formatRule({ comment: masquerade, matches, target: chains.markMasquerade }))
      const route = `route LOCAL traffic for ${this.name} external destinations`
      rules.push(formatRule({ comment: route, matches, target: cluster }))
    }
    if (frontend.outside?.kind === 'balance') rules.push(formatRule({ target: this.#chain('SVL') }))
    return rules
  }

  /** Allowed sources go on to the endpoints; the rest stays as it is, and is dropped by KUBE-PROXY-FIREWALL. */
  #sourceRangeRules(frontend: Frontend): string[] {
    const comment = `${this.name} loadbalancer IP`
    const target = this.#chain('EXT')
    return [
      ...sourcesOf(frontend).map((source) => formatRule({ ...source, comment, target })),
      formatRule({ comment: `other traffic to ${this.name} will be dropped by KUBE-PROXY-FIREWALL` }),
    ]
  }

  #firewallRules(frontend: Frontend, where: Rule): string[] {
    if (!frontend.sourceRanges) return []
    const { protocol, port } = frontend
    const comment = `${this.name} traffic not accepted by ${this.#chain('FW')}`
    const rule: Rule = { ...where, protocol, comment, destinationPort: port }
    const rest = frontend.outside ?? frontend.verdict
    // Allowed sources are translated before they come here, unless there is nothing to translate to. kube-proxy forgets these.
    const allowed = rest.kind === 'reject' ? sourcesOf(frontend) : []
    return [
      ...allowed.map((source) => formatRule({ ...rule, ...source, target: 'RETURN' })),
      formatRule({ ...rule, target: 'DROP' }),
    ]
  }

  #at({ ip, protocol, port }: VipFrontend, target: string, comment: string): string {
    return formatRule({ destination: addressCidr(ip), protocol, comment, destinationPort: port, target })
  }

  /** In filter, for what nat did not translate. */
  #unserved(frontend: Frontend, verdict: Exclude<Verdict, { kind: 'balance' }>, address?: Rule): string {
    const where = address ?? (frontend.kind === 'node-port' ? {} : { destination: addressCidr(frontend.ip) })
    const reject = `REJECT --reject-with ${this.#context.family === 4 ? 'icmp' : 'icmp6'}-port-unreachable`
    return formatRule({
      ...where,
      protocol: frontend.protocol,
      comment: `${this.name} has no ${verdict.kind === 'reject' ? 'endpoints' : 'local endpoints'}`,
      destinationPort: frontend.port,
      target: verdict.kind === 'reject' ? reject : 'DROP',
    })
  }

  #entryChain(frontend: Frontend): string {
    return this.#chain(frontend.sourceRanges ? 'FW' : 'EXT')
  }

  #internalChain(): string {
    return this.#chain(this.#internalKind())
  }

  #internalKind(): 'SVL' | 'SVC' {
    return this.#context.isInternalLocal(this.#key) ? 'SVL' : 'SVC'
  }

  #chain(kind: 'SVC' | 'SVL' | 'EXT' | 'FW'): string {
    return portChain(kind, this.name, { protocol: this.#port.protocol })
  }
}

/** The rules of a chain that chooses an endpoint, made when they are read. */
class BalanceChain implements ChainRules {
  readonly #slots: Slots
  readonly #endpoints: readonly EndpointChain[]
  readonly #mark: () => readonly string[]
  readonly #port: BalancedPort

  constructor(
    slots: Slots,
    endpoints: readonly EndpointChain[],
    { mark, port }: { readonly mark: () => readonly string[]; readonly port: BalancedPort },
  ) {
    this.#slots = slots
    this.#endpoints = endpoints
    this.#mark = mark
    this.#port = port
  }

  get length(): number {
    const { length } = this.#mark()
    return length + (countBalanceRules(this.#endpoints, this.#port) ?? this.#balance().length)
  }

  [Symbol.iterator](): Iterator<string> {
    return [...this.#mark(), ...this.#balance()][Symbol.iterator]()
  }

  #balance(): readonly string[] {
    return balanceRules(this.#slots, this.#endpoints, this.#port)
  }
}

/** Whether some client of the frontend reaches an endpoint. */
function isServed({ verdict, outside }: Frontend): boolean {
  return verdict.kind === 'balance' || outside?.kind === 'balance'
}

function slotsOf(verdict: Verdict | undefined): Slots | undefined {
  return verdict?.kind === 'balance' ? verdict.slots : undefined
}

/** iptables has no word for "from everywhere": such a rule has no source. */
function sourcesOf({ sourceRanges = [] }: Frontend): readonly Rule[] {
  return sourceRanges.map((range) => (range.prefix === 0 ? {} : { source: networkOf(range) }))
}
