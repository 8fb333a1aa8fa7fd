import type { EndpointSlice } from '../model/endpoint-slice.ts'
import type { Namespace } from '../model/namespace.ts'
import type { NetworkManifest } from '../model/network.ts'
import type { Node } from '../model/node.ts'
import { objectKey, type ObjectKey } from '../model/object-key.ts'
import type { ManifestObject } from '../model/parse-manifest.ts'
import type { Pod } from '../model/pod.ts'
import type { ServiceCIDR } from '../model/service-cidr.ts'
import type { Service } from '../model/service.ts'
import type { Snapshot } from '../model/snapshot.ts'

/** One object before and after; undefined where it is not there. Both are of one kind and name. */
export interface ObjectChange {
  readonly before: ManifestObject | undefined
  readonly after: ManifestObject | undefined
}

/** The snapshot with `changes` made. Costs what changes; objects that are identical before and after change nothing. */
export function editSnapshot(snapshot: Snapshot, changes: Iterable<ObjectChange>): Snapshot {
  const services = new Edits<Service>()
  const pods = new Edits<Pod>()
  const nodes = new Edits<Node>()
  const namespaces = new Edits<Namespace>()
  const networks = new Edits<NetworkManifest>()
  const serviceCIDRs = new Edits<ServiceCIDR>()
  const slices = new SliceEdits(snapshot)
  for (const { before, after } of changes) {
    if (before && before.value === after?.value) continue
    const object = after ?? before
    switch (object?.kind) {
      case 'Service':
        services.put(objectKey(object.value), after?.kind === 'Service' ? after.value : undefined)
        break
      case 'Pod':
        pods.put(objectKey(object.value), after?.kind === 'Pod' ? after.value : undefined)
        break
      case 'Node':
        nodes.put(object.value.name, after?.kind === 'Node' ? after.value : undefined)
        break
      case 'Namespace':
        namespaces.put(object.value.name, after?.kind === 'Namespace' ? after.value : undefined)
        break
      case 'Network':
        networks.put(object.value.name, after?.kind === 'Network' ? after.value : undefined)
        break
      case 'ServiceCIDR':
        serviceCIDRs.put(object.value.name, after?.kind === 'ServiceCIDR' ? after.value : undefined)
        break
      case 'EndpointSlice':
        slices.put(before?.kind === 'EndpointSlice' ? before.value : undefined, undefined)
        slices.put(undefined, after?.kind === 'EndpointSlice' ? after.value : undefined)
        break
      case undefined:
        break
      default:
        return object satisfies never
    }
  }
  const sliceEdits = slices.edits()
  return {
    services: snapshot.services.with(services.set, services.deleted),
    slices: snapshot.slices.with(sliceEdits.set, sliceEdits.deleted),
    pods: snapshot.pods.with(pods.set, pods.deleted),
    nodes: snapshot.nodes.with(nodes.set, nodes.deleted),
    namespaces: snapshot.namespaces.with(namespaces.set, namespaces.deleted),
    networks: snapshot.networks.with(networks.set, networks.deleted),
    serviceCIDRs: snapshot.serviceCIDRs.with(serviceCIDRs.set, serviceCIDRs.deleted),
  }
}

/** The key of the Service that a slice belongs to. */
export function serviceKeyOf(slice: EndpointSlice): ObjectKey {
  return `${slice.namespace}/${slice.serviceName}`
}

class Edits<V> {
  readonly set = new Map<string, V>()
  readonly deleted = new Set<string>()

  put(key: string, value: V | undefined): void {
    if (value === undefined) {
      this.set.delete(key)
      this.deleted.add(key)
    } else {
      this.deleted.delete(key)
      this.set.set(key, value)
    }
  }
}

/** Slices stand in one array per Service, ordered by name. */
class SliceEdits {
  readonly #snapshot: Snapshot
  readonly #byService = new Map<ObjectKey, Map<string, EndpointSlice>>()

  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot
  }

  put(before: EndpointSlice | undefined, after: EndpointSlice | undefined): void {
    if (before) this.#of(serviceKeyOf(before)).delete(before.name)
    if (after) this.#of(serviceKeyOf(after)).set(after.name, after)
  }

  edits(): Edits<readonly EndpointSlice[]> {
    const edits = new Edits<readonly EndpointSlice[]>()
    for (const [key, byName] of this.#byService) {
      const slices = [...byName.values()]
      if (slices.length > 1) slices.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
      const before = this.#snapshot.slices.get(key)
      const same = before?.length === slices.length && slices.every((slice, i) => slice === before[i])
      if (!same) edits.put(key, slices.length === 0 ? undefined : slices)
    }
    return edits
  }

  #of(key: ObjectKey): Map<string, EndpointSlice> {
    let byName = this.#byService.get(key)
    if (!byName) {
      byName = new Map((this.#snapshot.slices.get(key) ?? []).map((slice) => [slice.name, slice]))
      this.#byService.set(key, byName)
    }
    return byName
  }
}
