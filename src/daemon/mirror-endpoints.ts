import type { KubeApi, Target, WriteOptions } from '../api/kube-api.ts'
import { isJsonObject, listAt, objectAt, textAt, type JsonObject, type KubeObject } from '../api/kube-object.ts'
import { resourceTypeOf } from '../api/resources.ts'
import type { Log } from '../base/log.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { serviceNameLabel } from '../model/parse-endpoint-slice.ts'
import { endpointsManagedByLabel, selectsPods } from './describe-endpoints.ts'
import { managedByLabel, SliceIndex } from './slice-index.ts'

/** What mirrored slices say of who made them (discovery/v1); everybody knows that name. */
const mirrorer = 'endpointslicemirroring-controller.k8s.io'
const skipMirror = 'endpointslice.kubernetes.io/skip-mirror'
const leader = 'control-plane.alpha.kubernetes.io/leader'
/** Addresses of one subset that are mirrored, as in Kubernetes. */
const maxAddresses = 1000
const untold = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  'endpoints.kubernetes.io/last-change-trigger-time',
])

/**
 * Writes EndpointSlices for Services without a selector whose endpoints somebody wrote as an Endpoints object (core/v1), as the
 * EndpointSliceMirroring controller of Kubernetes does. Level-triggered: a change has its Service looked at as a whole.
 */
export class EndpointsMirror implements Disposable {
  readonly #api: KubeApi
  readonly #log: Log
  readonly #mirrored: SliceIndex
  readonly #stale = new Set<ObjectKey>()
  readonly #unsubscribe: () => void
  #running: Promise<void> | undefined
  #stopped = false

  constructor(api: KubeApi, options: { readonly log: Log }) {
    this.#api = api
    this.#log = options.log
    this.#mirrored = new SliceIndex(api.store, mirrorer)
    for (const object of api.store.list('endpoints')) this.#stale.add(keyOf(object))
    for (const service of this.#mirrored.services) this.#stale.add(service)
    this.#unsubscribe = api.store.subscribe((events) => {
      for (const { resource, object } of events) {
        if (resource === 'endpoints' || resource === 'services') this.#stale.add(keyOf(object))
        const mirrored = resource === slices ? this.#mirrored.serviceOf(object) : undefined
        if (mirrored !== undefined) this.#stale.add(mirrored)
      }
      this.#start()
    })
    this.#start()
  }

  /** Resolves when all that happened before is mirrored. */
  async settled(): Promise<void> {
    await this.#running
  }

  [Symbol.dispose](): void {
    this.#stopped = true
    this.#unsubscribe()
    this.#mirrored[Symbol.dispose]()
  }

  #start(): void {
    if (this.#running || this.#stale.size === 0) return
    this.#running = this.#run().finally(() => {
      this.#running = undefined
      if (!this.#stopped) this.#start()
    })
  }

  async #run(): Promise<void> {
    const keys = [...this.#stale]
    this.#stale.clear()
    for (const key of keys) {
      if (this.#stopped) return
      try {
        await this.#reconcile(key)
      } catch (error) {
        this.#log.error({ err: error, service: key }, 'cannot mirror Endpoints as EndpointSlices')
      }
    }
  }

  async #reconcile(key: ObjectKey): Promise<void> {
    const [namespace = '', name = ''] = key.split('/')
    const { store } = this.#api
    const endpoints = store.get('endpoints', namespace, name)
    const service = store.get('services', namespace, name)
    const wanted = endpoints && service && isToBeMirrored(endpoints, service) ? describeMirrors(endpoints) : []
    const options: WriteOptions = { fieldManager: mirrorer, fieldValidation: 'Ignore', dryRun: false, warnings: [] }
    for (const slice of wanted) {
      const target = targetOf(namespace, slice.metadata.name)
      const there = store.get(slices, namespace, slice.metadata.name)
      // A slice of another family stays what it is (addressType cannot change), so names say the family.
      if (there) await this.#api.update(target, slice, options)
      else await this.#api.create(target, slice, options)
    }
    const names = new Set(wanted.map(({ metadata }) => metadata.name))
    for (const old of this.#mirrored.namesOf(key))
      if (!names.has(old)) await this.#api.remove(targetOf(namespace, old), { dryRun: false })
  }
}

const slices = 'endpointslices.discovery.k8s.io'

function targetOf(namespace: string, name: string): Target {
  return { type: resourceTypeOf('EndpointSlice'), namespace, name, subresource: '' }
}

function keyOf({ metadata }: KubeObject): ObjectKey {
  return `${metadata.namespace}/${metadata.name}`
}

/** Those of Services with a selector come from slices themselves; leader locks were Endpoints once. */
function isToBeMirrored({ metadata }: KubeObject, service: KubeObject): boolean {
  const { labels = {}, annotations = {} } = metadata
  if (selectsPods(service) || textAt(service.spec, 'type') === 'ExternalName') return false
  return labels[skipMirror] !== 'true' && labels[endpointsManagedByLabel] === undefined && !(leader in annotations)
}

interface Mirror extends JsonObject {
  metadata: { name: string }
}

/** One slice for each subset and family. */
function describeMirrors(endpoints: KubeObject): readonly Mirror[] {
  const { namespace, name, labels, annotations = {}, uid } = endpoints.metadata
  const told = Object.entries(annotations).filter(([key]) => !untold.has(key))
  const metadata = {
    namespace,
    labels: { ...labels, [serviceNameLabel]: name, [managedByLabel]: mirrorer },
    ...(told.length > 0 && { annotations: Object.fromEntries(told) }),
    ownerReferences: [{ apiVersion: 'v1', kind: 'Endpoints', name, uid, controller: true, blockOwnerDeletion: true }],
  }
  return listAt(endpoints, 'subsets').flatMap((subset, index) => {
    const all = [
      ...listAt(subset, 'addresses').map((address) => describeMirrored(address, true)),
      ...listAt(subset, 'notReadyAddresses').map((address) => describeMirrored(address, false)),
    ].slice(0, maxAddresses)
    const ports = listAt(subset, 'ports').map((port) => ({ name: '', protocol: 'TCP', ...(port as JsonObject) }))
    return (['IPv4', 'IPv6'] as const).flatMap((addressType) => {
      const some = all.filter(({ addresses }) => addresses[0].includes(':') === (addressType === 'IPv6'))
      if (some.length === 0) return []
      const sliceName = `${name}-mirror-${addressType.toLowerCase()}${index === 0 ? '' : `-${index}`}`
      return [
        {
          apiVersion: 'discovery.k8s.io/v1',
          kind: 'EndpointSlice',
          metadata: { ...metadata, name: sliceName },
          addressType,
          ports,
          endpoints: some,
        },
      ]
    })
  })
}

function describeMirrored(address: unknown, ready: boolean): { addresses: [string] } {
  const { hostname, nodeName, targetRef } = objectAt({ address }, 'address')
  return {
    addresses: [textAt(address, 'ip')],
    conditions: { ready },
    ...(typeof hostname === 'string' && { hostname }),
    ...(typeof nodeName === 'string' && { nodeName }),
    ...(isJsonObject(targetRef) && { targetRef }),
  } as { addresses: [string] }
}
