import type { KubeApi, Target, WriteOptions } from '../api/kube-api.ts'
import { resourceTypeOf } from '../api/resources.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { Log } from '../base/log.ts'
import type { KubeObject } from '../api/kube-object.ts'
import { describeEndpoints, endpointsManagedByLabel, selectsPods } from './describe-endpoints.ts'
import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { serviceNameLabel } from '../model/parse-endpoint-slice.ts'
import { managedByLabel, SliceIndex } from './slice-index.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'

/** Our name in the label of slices that somebody keeps up to date. */
export const publisher = 'endpoints.fairlead.dev'

/** Services whose slices are written together: their writes share a commit. */
const servicesAtOnce = 50

/**
 * Writes the EndpointSlices that the daemon made for Services of the embedded API into that API, so that kubectl and whoever
 * follows it see them. Level-triggered: after each snapshot, what differs is written. Objects of others are left alone.
 * Endpoints (core/v1) of Services that select pods are written, too.
 */
export class SlicePublisher implements Disposable {
  readonly #api: KubeApi
  /** The slices that this, or an earlier daemon, wrote. */
  readonly #ours: SliceIndex
  readonly #log: Log
  #published = emptySnapshot
  /** Keys of Services whose slices could not be written; the next snapshot tries again. */
  readonly #failed = new Map<ObjectKey, string>()
  #newest = emptySnapshot
  #running = false
  #stopped = false

  constructor(api: KubeApi, options: { readonly log: Log }) {
    this.#api = api
    this.#ours = new SliceIndex(api.store, publisher)
    this.#log = options.log
  }

  /** Takes the newest whole snapshot; resolves when the API has its slices. */
  async update(snapshot: Snapshot): Promise<void> {
    this.#newest = snapshot
    if (this.#running) return
    this.#running = true
    try {
      while (this.#published !== this.#newest && !this.#stopped) await this.#publish(this.#newest)
    } finally {
      this.#running = false
    }
  }

  [Symbol.dispose](): void {
    this.#stopped = true
    this.#ours[Symbol.dispose]()
  }

  async #publish(snapshot: Snapshot): Promise<void> {
    const stale = SharedMap.changedKeys(this.#published.slices, snapshot.slices)
    for (const key of SharedMap.changedKeys(this.#published.services, snapshot.services)) stale.add(key)
    // What an earlier daemon left behind belongs to Services that may be gone.
    if (this.#published === emptySnapshot) {
      for (const service of this.#ours.services) stale.add(service)
      for (const { metadata } of this.#api.store.list('endpoints'))
        if (metadata.labels?.[endpointsManagedByLabel] === publisher)
          stale.add(`${metadata.namespace}/${metadata.name}`)
    }
    for (const key of this.#failed.keys()) stale.add(key)
    const keys = [...stale]
    for (let from = 0; from < keys.length; from += servicesAtOnce) {
      if (this.#stopped) return
      await Promise.all(
        keys.slice(from, from + servicesAtOnce).map((key) => {
          const names = new Set(this.#ours.namesOf(key))
          return this.#reconcileOrNote(key, { wanted: snapshot.slices.get(key) ?? [], names })
        }),
      )
    }
    this.#published = snapshot
  }

  async #reconcileOrNote(
    key: ObjectKey,
    state: { readonly wanted: readonly EndpointSlice[]; readonly names: ReadonlySet<string> },
  ): Promise<void> {
    try {
      await this.#reconcile(key, state)
      this.#failed.delete(key)
    } catch (error) {
      // In the kernel and in DNS all is well.
      const reason = String(error)
      const known = this.#failed.get(key) === reason
      this.#failed.set(key, reason)
      if (!known) this.#log.error({ err: error, service: key }, 'cannot write EndpointSlices into the embedded API')
    }
  }

  /** `names` are those of our slices that the API has. */
  async #reconcile(
    key: ObjectKey,
    { wanted, names }: { readonly wanted: readonly EndpointSlice[]; readonly names: ReadonlySet<string> },
  ): Promise<void> {
    const [namespace = '', service = ''] = key.split('/')
    const owner = this.#api.store.get('services', namespace, service)
    const options: WriteOptions = { fieldManager: publisher, fieldValidation: 'Ignore', dryRun: false, warnings: [] }
    const published = owner ? wanted : []
    for (const slice of published) {
      const there = this.#api.store.get(slices, namespace, slice.name)
      // Somebody wrote this one there himself: it is where ours came from.
      if (there && !names.has(slice.name)) continue
      const body = describeSlice(slice, owner?.metadata.uid ?? '')
      await this.#api.patch(targetOf(namespace, slice.name), { kind: 'apply', body, force: true }, options)
    }
    for (const name of names) {
      if (published.some((slice) => slice.name === name)) continue
      if (this.#api.store.get(slices, namespace, name))
        await this.#api.remove(targetOf(namespace, name), { dryRun: false })
    }
    await this.#reconcileEndpoints({ owner, namespace, service }, { wanted, options })
  }

  /** Older clients know Endpoints only. */
  async #reconcileEndpoints(
    { owner, namespace, service }: { owner: KubeObject | undefined; namespace: string; service: string },
    { wanted, options }: { readonly wanted: readonly EndpointSlice[]; readonly options: WriteOptions },
  ): Promise<void> {
    const target: Target = { type: resourceTypeOf('Endpoints'), namespace, name: service, subresource: '' }
    const there = this.#api.store.get('endpoints', namespace, service)
    if (owner && selectsPods(owner)) {
      const body = describeEndpoints(owner, wanted, { managedBy: publisher })
      await this.#api.patch(target, { kind: 'apply', body, force: true }, options)
    } else if (there?.metadata.labels?.[endpointsManagedByLabel] === publisher) {
      await this.#api.remove(target, { dryRun: false })
    }
  }
}

const slices = 'endpointslices.discovery.k8s.io'

function targetOf(namespace: string, name: string): Target {
  return { type: resourceTypeOf('EndpointSlice'), namespace, name, subresource: '' }
}

function describeSlice(slice: EndpointSlice, uid: string): object {
  const { namespace, name, serviceName, family, ports, endpoints, headless } = slice
  const labels = {
    [serviceNameLabel]: serviceName,
    [managedByLabel]: publisher,
    ...(headless && { 'service.kubernetes.io/headless': '' }),
  }
  const ownerReferences = [{ apiVersion: 'v1', kind: 'Service', name: serviceName, uid, controller: true }]
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace, name, labels, ownerReferences },
    addressType: `IPv${family}`,
    ports: ports.map(({ name, protocol, port }) => ({ name, protocol: protocol.toUpperCase(), port })),
    endpoints: endpoints.map((endpoint) => describeEndpoint(endpoint, namespace)),
  }
}

function describeEndpoint(endpoint: Endpoint, namespace: string): object {
  const { address, hostname, nodeName, zone, ready, serving, terminating, targetPod } = endpoint
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname !== undefined && { hostname }),
    ...(nodeName !== undefined && { nodeName }),
    ...(zone !== undefined && { zone }),
    ...(targetPod !== undefined && { targetRef: { kind: 'Pod', name: targetPod, namespace } }),
  }
}
