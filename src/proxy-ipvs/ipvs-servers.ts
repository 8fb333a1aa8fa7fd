import {
  virtualKey,
  type RealServer,
  type Scheduler,
  type VirtualKey,
  type VirtualServerWithReals,
} from '../ipvs/objects.ts'
import { cidrContains } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import type { Service } from '../model/service.ts'
import type { CompiledServices, ProxySettings } from '../proxy/compile-services.ts'
import type { Frontend, ServiceFrontends, Verdict } from '../proxy/frontends.ts'
import { parseScheduling, schedulerAnnotation, type Scheduling } from '../proxy/ipvs-scheduling.ts'
import type { Slots } from '../proxy/slots.ts'

/** What virtual servers depend on beside the Services. */
export interface IpvsContext {
  /** For Services that name none. */
  readonly scheduler: Scheduler
  /** The machine's own addresses where node ports answer, without loopback ones. */
  readonly nodeAddresses: readonly IpAddress[]
}

/** A frontend at one address: node ports have one for each address of the node. */
export interface PlacedFrontend {
  readonly ip: IpAddress
  readonly frontend: Frontend
}

/** Everything that all Services want of IPVS. Where two want one address and port (a node port and an address of its own), the address of its own wins. */
export function virtualServers(
  services: CompiledServices,
  context: IpvsContext,
): ReadonlyMap<VirtualKey, VirtualServerWithReals> {
  const all = new Map<VirtualKey, VirtualServerWithReals>()
  const later: VirtualServerWithReals[] = []
  for (const service of services.services.values()) {
    const object = services.snapshot.services.get(service.key)
    for (const placed of placeFrontends(service, context.nodeAddresses)) {
      const virtual = virtualServer(placed, schedulingOf(placed.frontend, object, context.scheduler))
      if (!virtual) continue
      if (placed.frontend.kind === 'node-port') later.push(virtual)
      else all.set(virtualKey(virtual.at), virtual)
    }
  }
  for (const virtual of later) {
    const key = virtualKey(virtual.at)
    if (!all.has(key)) all.set(key, virtual)
  }
  return all
}

/** The frontends of a Service, each at each of its addresses. */
export function* placeFrontends(
  { frontends }: ServiceFrontends,
  nodeAddresses: readonly IpAddress[],
): Generator<PlacedFrontend> {
  for (const frontend of frontends) {
    if (frontend.kind !== 'node-port') yield { ip: frontend.ip, frontend }
    else for (const ip of nodeAddresses) if (ipFamilyOf(ip) === frontend.family) yield { ip, frontend }
  }
}

/** Where node ports answer: `own` addresses within the settings' networks. IPVS cannot serve loopback ones: answers would not leave. */
export function nodePortAddresses(own: Iterable<IpAddress>, settings: ProxySettings): readonly IpAddress[] {
  const networks = settings.nodePortAddresses
  return [...own].filter(
    (ip) =>
      !ip.startsWith('127.') &&
      ip !== '::1' &&
      !ip.startsWith('fe80:') &&
      (!networks || networks.some((network) => sameFamily(network.address, ip) && cidrContains(network, ip))),
  )
}

/**
 * The endpoints that a virtual server has. It has one list for all clients: where clients outside have endpoints of their own
 * (externalTrafficPolicy Local), pods and the node share these, if there are any.
 */
export function servedSlots(frontend: Frontend): Slots | undefined {
  const served: Verdict = frontend.outside?.kind === 'balance' ? frontend.outside : frontend.verdict
  return served.kind === 'balance' ? served.slots : undefined
}

function virtualServer({ ip, frontend }: PlacedFrontend, scheduling: Scheduling): VirtualServerWithReals | undefined {
  const slots = servedSlots(frontend)
  if (!slots) return undefined
  const { protocol, port, affinity } = frontend
  const reals = realServers(slots)
  const weighted = reals.some(({ weight }) => weight !== reals[0]?.weight)
  return {
    at: { ip, port, protocol },
    ...scheduling,
    scheduler: weighted ? (withWeights[scheduling.scheduler] ?? scheduling.scheduler) : scheduling.scheduler,
    ...(affinity && { persistence: { seconds: affinity.timeoutSeconds } }),
    reals,
  }
}

/** Schedulers that know no weights, and those that do the same with them. */
const withWeights: Readonly<Record<string, Scheduler>> = { rr: 'wrr', lc: 'wlc' }

function realServers(slots: Slots): readonly RealServer[] {
  const reals = new Map<string, RealServer>()
  for (const { ip, port, weight = 1 } of slots) {
    const key = `${ip} ${port}`
    if (!reals.has(key)) reals.set(key, { ip, port, weight })
  }
  return [...reals.values()]
}

/** The scheduler of a Service: its annotation's; else what its algorithm means; else the one for all. */
export function schedulingOf({ algorithm }: Frontend, service: Service | undefined, general: Scheduler): Scheduling {
  const text = service?.annotations[schedulerAnnotation]
  const asked = text === undefined ? undefined : parseScheduling(text)
  if (asked) return asked
  if (algorithm === 'maglev') return { scheduler: 'mh' }
  return { scheduler: algorithm === 'round-robin' ? 'rr' : general }
}

function sameFamily(a: IpAddress, b: IpAddress): boolean {
  return ipFamilyOf(a) === ipFamilyOf(b)
}
