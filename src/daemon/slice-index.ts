import type { KubeObject } from '../api/kube-object.ts'
import type { ObjectStore } from '../api/object-store.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { serviceNameLabel } from '../model/parse-endpoint-slice.ts'

/** The label of slices that somebody keeps up to date (discovery/v1). */
export const managedByLabel = 'endpointslice.kubernetes.io/managed-by'

const slices = 'endpointslices.discovery.k8s.io'

/** Which slices of the embedded API one manager keeps for which Service, so that a change of one looks at no other. */
export class SliceIndex implements Disposable {
  readonly #manager: string
  readonly #names = new Map<ObjectKey, Set<string>>()
  readonly #unsubscribe: () => void

  /** `manager` is a value of {@link managedByLabel}. */
  constructor(store: ObjectStore, manager: string) {
    this.#manager = manager
    for (const slice of store.list(slices)) this.#put(slice)
    this.#unsubscribe = store.subscribe((events) => {
      for (const { resource, type, object, before } of events) {
        if (resource !== slices) continue
        if (before) this.#remove(before)
        if (type !== 'DELETED') this.#put(object)
      }
    })
  }

  /** The Services that have such slices, be they there or gone. */
  get services(): Iterable<ObjectKey> {
    return this.#names.keys()
  }

  /** The names of the slices of a Service. */
  namesOf(service: ObjectKey): ReadonlySet<string> {
    return this.#names.get(service) ?? new Set()
  }

  [Symbol.dispose](): void {
    this.#unsubscribe()
  }

  /** The Service of a slice; undefined when somebody else keeps it. */
  serviceOf({ metadata }: KubeObject): ObjectKey | undefined {
    const { [managedByLabel]: manager, [serviceNameLabel]: service } = metadata.labels ?? {}
    return manager === this.#manager ? `${metadata.namespace}/${service}` : undefined
  }

  #put(slice: KubeObject): void {
    const key = this.serviceOf(slice)
    if (key === undefined) return
    const names = this.#names.get(key) ?? new Set()
    this.#names.set(key, names.add(slice.metadata.name))
  }

  #remove(slice: KubeObject): void {
    const key = this.serviceOf(slice)
    const names = key === undefined ? undefined : this.#names.get(key)
    if (key === undefined || !names) return
    names.delete(slice.metadata.name)
    if (names.size === 0) this.#names.delete(key)
  }
}
