import {
  virtualKey,
  type RealServer,
  type Scheduler,
  type VirtualAddress,
  type VirtualKey,
  type VirtualServerWithReals,
} from '../ipvs/objects.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { Protocol } from '../net/protocol.ts'
import type { ObjectKey } from '../model/object-key.ts'
import type { Service } from '../model/service.ts'
import {
  frontendKey,
  type Frontend,
  type FrontendKey,
  type ServiceFrontends,
  type Verdict,
} from '../proxy/frontends.ts'
import { parseScheduling, schedulerAnnotation, type Scheduling } from '../proxy/ipvs-scheduling.ts'
import type { Slots } from '../proxy/slots.ts'
import { placeFrontends } from './placed-frontends.ts'
import { secondView } from './second-views.ts'

/** What virtual servers depend on beside the Services. */
export interface IpvsContext {
  /** For Services that name none. */
  readonly scheduler: Scheduler
  /** The machine's own addresses where node ports answer, without loopback ones. */
  readonly nodeAddresses: readonly IpAddress[]
  /** Schedulers that this kernel lacks: Services that ask for them get rr, or wrr. */
  readonly missing: ReadonlySet<string>
  /** Of those frontends whose clients outside have endpoints of their own. */
  readonly marks: ReadonlyMap<FrontendKey, number>
}

/** A virtual server, and whose it is. */
export interface WantedVirtual {
  readonly server: VirtualServerWithReals
  readonly service: ObjectKey
  readonly protocol: Protocol
}

/** The virtual servers of one Service. Second views and node ports stand apart: see {@link virtualServers}. */
export type ServiceVirtuals = readonly {
  readonly rank: 'view' | 'node-port' | 'own'
  readonly key: VirtualKey
  readonly wanted: WantedVirtual
}[]

/**
 * Everything that all Services want of IPVS. Where two want one address and port (a node port and an address of its own), the address
 * of its own wins. Second views come first: once an address is served, clients outside are to find theirs.
 */
export function virtualServers(all: Iterable<ServiceVirtuals>): ReadonlyMap<VirtualKey, WantedVirtual> {
  const ranks = { view: new Map(), 'node-port': new Map(), own: new Map() } satisfies Record<
    string,
    Map<VirtualKey, WantedVirtual>
  >
  for (const virtuals of all) {
    for (const { rank, key, wanted } of virtuals) if (!ranks[rank].has(key)) ranks[rank].set(key, wanted)
  }
  return new Map([...ranks.view, ...ranks['node-port'], ...ranks.own])
}

/** Compiles one Service. Pure. */
export function serviceVirtuals(
  service: ServiceFrontends,
  object: Service | undefined,
  { nodeAddresses, marks, scheduler, missing }: IpvsContext,
): ServiceVirtuals {
  const virtuals = new Map<VirtualKey, ServiceVirtuals[number]>()
  for (const { frontend, ip } of placeFrontends(service, nodeAddresses)) {
    const { protocol, port, family, affinity } = frontend
    const scheduling = schedulingOf(frontend, object, scheduler)
    const put = (rank: ServiceVirtuals[number]['rank'], at: VirtualAddress, slots: Slots): void => {
      const key = virtualKey(at)
      if (virtuals.has(key)) return
      const server = virtualServer(at, slots, { ...scheduling, affinity, missing })
      virtuals.set(key, { rank, key, wanted: { server, service: service.key, protocol } })
    }
    const mark = marks.get(frontendKey(frontend))
    const view = mark === undefined ? undefined : secondView(frontend)
    if (mark !== undefined && view) put('view', { mark, family }, view)
    // Also where there is no endpoint (the table refuses new connections): with its virtual server the last endpoint's connections would go.
    const slots = servedSlots(frontend, { apart: mark !== undefined }) ?? []
    put(frontend.kind === 'node-port' ? 'node-port' : 'own', { ip, port, protocol }, slots)
  }
  return [...virtuals.values()]
}

/**
 * The endpoints that the virtual server of an address has. Where clients outside have others (externalTrafficPolicy Local) and are
 * not kept `apart`, pods and the node share theirs.
 */
export function servedSlots({ verdict, outside }: Frontend, { apart }: { readonly apart: boolean }): Slots | undefined {
  const served: Verdict = !apart && outside?.kind === 'balance' ? outside : verdict
  return served.kind === 'balance' ? served.slots : undefined
}

function virtualServer(
  at: VirtualAddress,
  slots: Slots,
  { affinity, missing, ...scheduling }: Scheduling & Pick<Frontend, 'affinity'> & Pick<IpvsContext, 'missing'>,
): VirtualServerWithReals {
  const reals = realServers(slots)
  const weighted = reals.some(({ weight }) => weight !== reals[0]?.weight)
  const { scheduler } = scheduling
  const asked = weighted ? (withWeights[scheduler] ?? scheduler) : scheduler
  const flags = keepsPlaces.has(asked) && { fallback: true }
  return {
    at,
    ...(missing.has(asked) ? { scheduler: weighted ? 'wrr' : 'rr' } : { ...scheduling, scheduler: asked, ...flags }),
    ...(affinity && { persistence: { seconds: affinity.timeoutSeconds } }),
    reals,
  }
}

/**
 * Their tables keep the place of a real server that drains (ip_vs_dest.last_weight): without `fallback`, its clients would be refused
 * until its last connection has ended.
 */
const keepsPlaces: ReadonlySet<string> = new Set(['sh', 'mh'])

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
