import type { ObjectStore } from '../api/object-store.ts'
import type { ServiceClaims } from '../api/service-claims.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { Service } from '../model/service.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'

/**
 * Keeps the embedded API from giving away what Services of other sources (files, Docker, a cluster that is followed) have: they
 * share the machine's addresses and ports. Call it with each snapshot; `update` returns nothing and never fails.
 */
export class ForeignClaims {
  readonly #store: ObjectStore
  readonly #claims: ServiceClaims
  #seen: Snapshot = emptySnapshot

  constructor(store: ObjectStore, claims: ServiceClaims) {
    this.#store = store
    this.#claims = claims
  }

  update(snapshot: Snapshot): void {
    for (const key of SharedMap.changedKeys(this.#seen.services, snapshot.services)) {
      const service = snapshot.services.get(key)
      const [namespace = '', name = ''] = key.split('/')
      const isOwn = this.#store.get('services', namespace, name) !== undefined
      this.#claims.setForeign(key, service && !isOwn ? claimsOf(service) : undefined)
    }
    this.#seen = snapshot
  }
}

function claimsOf({ clusterIPs, loadBalancerIngress, ports, healthCheckNodePort }: Service) {
  const nodePorts = [...ports.map(({ nodePort }) => nodePort), healthCheckNodePort]
  return {
    addresses: [...clusterIPs, ...loadBalancerIngress.map(({ ip }) => ip)],
    nodePorts: nodePorts.filter((port) => port !== undefined),
  }
}
