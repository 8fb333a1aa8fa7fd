import { SharedMap } from '../base/shared-map.ts'
import type { ServiceFrontends } from '../proxy/frontends.ts'
import type { SyncOutcome } from '../proxy/sync-loop.ts'

/** Services that an event names; of more it gives the number. */
const named = 3

/** Says in one line what each sync did; undefined for one that had nothing to do. */
export class SyncDescriber {
  #before: SharedMap<ServiceFrontends> = SharedMap.empty()

  describe({ result, services, totalMs }: SyncOutcome): string | undefined {
    const changed = [...SharedMap.changedKeys(this.#before, services.services)]
    this.#before = services.services
    if (changed.length === 0 && !result.repaired && result.elements === 0) return undefined
    const what = [
      ...(result.repaired ? ['put back what another program changed'] : []),
      ...(changed.length > named
        ? [`${changed.length} Services changed`]
        : changed.map((key) => `${key}: ${describeService(services.services.get(key))}`)),
    ]
    const cost = `${result.elements} elements, ${result.bytes} bytes`
    return `${what.join('; ') || 'adopted'} (${cost}, ${totalMs.toFixed(1)} ms, of it ${result.kernelMs.toFixed(2)} in the kernel)`
  }
}

function describeService(service: ServiceFrontends | undefined): string {
  if (!service) return 'gone'
  const counts = service.frontends.map(({ verdict }) => (verdict.kind === 'balance' ? verdict.slots.length : 0))
  const most = Math.max(0, ...counts)
  return most === 0 ? 'no endpoints, connections are refused' : `${most} endpoint${most === 1 ? '' : 's'}`
}
