import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { View } from '../proxy/endpoint-picker.ts'
import { frontendKey, type Frontend, type ServiceFrontends, type Verdict } from '../proxy/frontends.ts'
import type { ServiceEndpoint } from '../proxy/select-endpoints.ts'

/** Where this daemon listens for connections to a frontend; undefined: it cannot. */
export type ListenerOf = (frontend: Frontend, view: View) => ServiceEndpoint | undefined

/** Services as they were compiled, and as the kernel is to see them. */
export interface RedirectedServices {
  readonly from: CompiledServices
  readonly to: CompiledServices
  /** Services of which some frontend has no listener yet: they are looked at again each time. */
  readonly incomplete: ReadonlySet<ObjectKey>
}

/**
 * Services as a mode of the kernel must have them so that every balanced connection comes to this daemon: the same
 * addresses, ports, policies and source ranges, with the daemon as the only endpoint, and nothing to remember of clients.
 * What is refused or dropped is so by the kernel, and SCTP, which Node has no sockets for, goes to its endpoints. With
 * the last result at hand only Services that changed are looked at; those that look the same from the kernel keep their
 * objects, whatever became of their endpoints.
 */
export function redirectServices(
  services: CompiledServices,
  listenerOf: ListenerOf,
  previous: RedirectedServices | undefined,
): RedirectedServices {
  const before = previous?.from.services ?? SharedMap.empty<ServiceFrontends>()
  const stale = SharedMap.changedKeys(before, services.services)
  for (const key of previous?.incomplete ?? []) stale.add(key)
  const incomplete = new Set<ObjectKey>()
  const set: [ObjectKey, ServiceFrontends][] = []
  const gone: ObjectKey[] = []
  const base = previous?.to.services ?? SharedMap.empty<ServiceFrontends>()
  for (const key of stale) {
    const service = services.services.get(key)
    if (!service) {
      gone.push(key)
      continue
    }
    const known = base.get(key)
    const { redirected, complete } = redirectService(service, listenerOf, known)
    if (!complete) incomplete.add(key)
    if (redirected !== known) set.push([key, redirected])
  }
  return { from: services, to: { ...services, services: base.with(set, gone) }, incomplete }
}

function redirectService(
  service: ServiceFrontends,
  listenerOf: ListenerOf,
  known: ServiceFrontends | undefined,
): { redirected: ServiceFrontends; complete: boolean } {
  const before = new Map(known?.frontends.map((frontend) => [frontendKey(frontend), frontend]))
  let complete = true
  const toListener = (frontend: Frontend, view: View): Verdict | undefined => {
    const verdict = frontend[view]
    if (verdict?.kind !== 'balance') return verdict
    const listener = listenerOf(frontend, view)
    if (!listener) complete = false
    return listener ? { kind: 'balance', slots: [listener] } : { kind: 'reject' }
  }
  const frontends = service.frontends.map((frontend): Frontend => {
    if (frontend.protocol === 'sctp') return frontend
    const redirected: Frontend = {
      ...frontend,
      verdict: toListener(frontend, 'verdict') ?? frontend.verdict,
      outside: toListener(frontend, 'outside'),
      algorithm: 'random',
      affinity: undefined,
    }
    const old = before.get(frontendKey(frontend))
    return old && looksTheSame(old, redirected) ? old : redirected
  })
  const same =
    known?.frontends.length === frontends.length &&
    known.creationTimestamp === service.creationTimestamp &&
    known.health === service.health &&
    frontends.every((frontend, i) => frontend === known.frontends[i])
  return { redirected: same ? known : { ...service, frontends }, complete }
}

function looksTheSame(a: Frontend, b: Frontend): boolean {
  return (
    a.kind === b.kind &&
    a.masquerade === b.masquerade &&
    a.portName === b.portName &&
    JSON.stringify(a.sourceRanges) === JSON.stringify(b.sourceRanges) &&
    sameVerdict(a.verdict, b.verdict) &&
    sameVerdict(a.outside, b.outside)
  )
}

/** Of one slot at most. */
function sameVerdict(a: Verdict | undefined, b: Verdict | undefined): boolean {
  if (a?.kind !== 'balance' || b?.kind !== 'balance') return a?.kind === b?.kind
  return a.slots[0]?.ip === b.slots[0]?.ip && a.slots[0]?.port === b.slots[0]?.port
}
