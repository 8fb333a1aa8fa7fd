import { SharedMap } from '../base/shared-map.ts'
import type { EndpointSlice } from './endpoint-slice.ts'
import type { Namespace } from './namespace.ts'
import type { NetworkManifest } from './network.ts'
import type { Node } from './node.ts'
import type { ObjectKey } from './object-key.ts'
import type { Pod } from './pod.ts'
import type { ServiceCIDR } from './service-cidr.ts'
import type { Service } from './service.ts'

/**
 * All that a node was told, at one moment. Immutable; versions share what did not change, so comparing two of them
 * costs what differs ({@link SharedMap.changedKeys}).
 */
export interface Snapshot {
  readonly services: SharedMap<Service>
  /** By the key of the Service that they belong to; the array changes identity when any of its slices does. */
  readonly slices: SharedMap<readonly EndpointSlice[]>
  readonly pods: SharedMap<Pod>
  /** By name. */
  readonly nodes: SharedMap<Node>
  /** By name. A namespace exists too when it has objects, whether or not it is in here. */
  readonly namespaces: SharedMap<Namespace>
  /** By name. */
  readonly networks: SharedMap<NetworkManifest>
  /** By name. */
  readonly serviceCIDRs: SharedMap<ServiceCIDR>
}

export const emptySnapshot: Snapshot = {
  services: SharedMap.empty(),
  slices: SharedMap.empty(),
  pods: SharedMap.empty(),
  nodes: SharedMap.empty(),
  namespaces: SharedMap.empty(),
  networks: SharedMap.empty(),
  serviceCIDRs: SharedMap.empty(),
}

/** Keys of the Services whose own object or whose slices differ between two snapshots. */
export function changedServices(before: Snapshot, after: Snapshot): Set<ObjectKey> {
  const changed = SharedMap.changedKeys(before.services, after.services)
  for (const key of SharedMap.changedKeys(before.slices, after.slices)) changed.add(key)
  return changed
}

/** Whether two snapshots hold the same objects, by identity. */
export function sameSnapshot(a: Snapshot, b: Snapshot): boolean {
  return (Object.keys(emptySnapshot) as (keyof Snapshot)[]).every((kind) => a[kind] === b[kind])
}
