import { SharedMap } from '../base/shared-map.ts'
import type { EndpointSlice } from '../model/endpoint-slice.ts'
import type { Node } from '../model/node.ts'
import type { ObjectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import type { Service } from '../model/service.ts'
import { endpointSlicesFor, selects } from './endpoint-slices-for.ts'

/**
 * Makes the EndpointSlices of Services with a selector from the pods that are there, as the controller of the same name
 * does in Kubernetes. Touches nothing outside: services and pods in, slices out. An update recomputes the Services that
 * changed and those that select a pod that changed, before or after; all other slices keep their identity.
 */
export class EndpointSliceController {
  /** By the key of the Service. Services without endpoints are not in it. */
  slices: SharedMap<readonly EndpointSlice[]> = SharedMap.empty()
  #services: SharedMap<Service> = SharedMap.empty()
  #pods: SharedMap<Pod> = SharedMap.empty()
  #nodes: SharedMap<Node> = SharedMap.empty()
  /** Keys of the pods with a label, by `namespace label=value`. */
  readonly #podsByLabel = new Index()
  /** Keys of the Services whose selector begins with a label, by the same. */
  readonly #servicesByLabel = new Index()

  /** Takes the newest services and pods, and the nodes, whose zones are those of their pods; returns {@link slices} for them. */
  update(
    services: SharedMap<Service>,
    pods: SharedMap<Pod>,
    nodes: SharedMap<Node> = this.#nodes,
  ): SharedMap<readonly EndpointSlice[]> {
    const stale = SharedMap.changedKeys(this.#services, services)
    const before = this.#nodes
    const moved = [...SharedMap.changedKeys(before, nodes)].some((name) => zoneOf(before, name) !== zoneOf(nodes, name))
    // Seldom, and of few nodes.
    if (moved) for (const key of services.keys()) stale.add(key)
    this.#nodes = nodes
    for (const key of stale) {
      const before = anchorOf(this.#services.get(key))
      const after = anchorOf(services.get(key))
      if (before === after) continue
      if (before !== undefined) this.#servicesByLabel.remove(before, key)
      if (after !== undefined) this.#servicesByLabel.add(after, key)
    }
    for (const key of SharedMap.changedKeys(this.#pods, pods)) {
      for (const pod of [this.#pods.get(key), pods.get(key)]) {
        if (pod) this.#addSelecting(pod, { services, stale })
      }
      for (const label of labelsOf(this.#pods.get(key))) this.#podsByLabel.remove(label, key)
      for (const label of labelsOf(pods.get(key))) this.#podsByLabel.add(label, key)
    }
    this.#services = services
    this.#pods = pods
    const set: [ObjectKey, readonly EndpointSlice[]][] = []
    const deleted: ObjectKey[] = []
    for (const key of stale) {
      const service = services.get(key)
      const slices = service?.selector ? this.#compute(service, key) : []
      if (slices.length > 0) set.push([key, slices])
      else deleted.push(key)
    }
    return (this.slices = this.slices.with(set, deleted))
  }

  #compute(service: Service, key: ObjectKey): readonly EndpointSlice[] {
    const selector = service.selector ?? {}
    const candidates = Object.entries(selector)
      .map(([name, value]) => this.#podsByLabel.get(labelKey(service.namespace, name, value)))
      .reduce((a, b) => (b.size < a.size ? b : a))
    const pods: Pod[] = []
    for (const podKey of [...candidates].sort()) {
      const pod = this.#pods.get(podKey)
      if (pod && selects(selector, pod.labels)) pods.push(pod)
    }
    return endpointSlicesFor(service, pods, this.slices.get(key), (node) => zoneOf(this.#nodes, node))
  }

  #addSelecting(pod: Pod, into: { services: SharedMap<Service>; stale: Set<ObjectKey> }): void {
    for (const label of labelsOf(pod)) {
      for (const key of this.#servicesByLabel.get(label)) {
        const selector = into.services.get(key)?.selector
        if (selector && selects(selector, pod.labels)) into.stale.add(key)
      }
    }
  }
}

/** The label of Kubernetes for it. */
function zoneOf(nodes: SharedMap<Node>, name: string | undefined): string | undefined {
  return name === undefined ? undefined : nodes.get(name)?.labels['topology.kubernetes.io/zone']
}

/** The first label of the selector: a pod that the Service selects has it. */
function anchorOf(service: Service | undefined): string | undefined {
  for (const [name, value] of Object.entries(service?.selector ?? {})) {
    return labelKey(service?.namespace ?? '', name, value)
  }
  return undefined
}

function labelsOf(pod: Pod | undefined): string[] {
  return pod ? Object.entries(pod.labels).map(([name, value]) => labelKey(pod.namespace, name, value)) : []
}

function labelKey(namespace: string, name: string, value: string): string {
  return `${namespace} ${name}=${value}`
}

const nobody: ReadonlySet<ObjectKey> = new Set()

/** Sets of object keys by a label. */
class Index {
  readonly #sets = new Map<string, Set<ObjectKey>>()

  get(label: string): ReadonlySet<ObjectKey> {
    return this.#sets.get(label) ?? nobody
  }

  add(label: string, key: ObjectKey): void {
    const set = this.#sets.get(label)
    if (set) set.add(key)
    else this.#sets.set(label, new Set([key]))
  }

  remove(label: string, key: ObjectKey): void {
    const set = this.#sets.get(label)
    set?.delete(key)
    if (set?.size === 0) this.#sets.delete(label)
  }
}
