import type { KubeObject } from '../api/kube-object.ts'
import type { ObjectStore, StoreEvent } from '../api/object-store.ts'
import { qualifiedName, resourceTypeOf } from '../api/resources.ts'
import { parseManifest, type ManifestObject } from '../model/parse-manifest.ts'
import { runAnnotation } from '../nodes/pod-object.ts'
import { MemorySource } from '../sources/memory.ts'
import { publisher } from './publish-slices.ts'
import { managedByLabel } from './slice-index.ts'

/** Kinds that become part of snapshots. */
const kinds = ['Namespace', 'Node', 'Pod', 'Service', 'EndpointSlice', 'Network', 'ServiceCIDR'] as const

/** What the embedded API holds, as a source: complete from the start, and as new as the last commit. Dispose it to stop. */
export class ApiSource extends MemorySource implements Disposable {
  readonly #unsubscribe: () => void
  readonly #waiting = new Map<string, KubeObject | undefined>()

  /** `nodeName`: the pods that this node wrote there itself are left out. */
  constructor(store: ObjectStore, { nodeName }: { readonly nodeName: string }) {
    super('embedded API', { synced: false })
    const isOurs = (object: KubeObject): boolean => isOwnSlice(object) || isOwnPod(object, nodeName)
    const names = new Set(kinds.map((kind) => qualifiedName(resourceTypeOf(kind))))
    for (const name of names) {
      for (const object of store.list(name)) if (!isOurs(object)) this.#waiting.set(idOf(object), object)
    }
    this.#flush()
    this.markSynced()
    this.#unsubscribe = store.subscribe((events) => {
      for (const event of events) if (names.has(event.resource) && !isOurs(event.object)) this.#note(event)
      if (this.#waiting.size > 0) this.#flush()
    })
  }

  [Symbol.dispose](): void {
    this.#unsubscribe()
  }

  #note({ object, type }: StoreEvent): void {
    this.#waiting.set(idOf(object), type === 'DELETED' ? undefined : object)
  }

  #flush(): void {
    const put: ManifestObject[] = []
    const remove: string[] = []
    for (const [id, object] of this.#waiting) {
      // The API took it, so nothing is wrong with it; what means nothing to a node (FQDN slices) is left out.
      const parsed = object === undefined ? undefined : parseManifest(object)[0]
      if (parsed?.kind === 'object') put.push(parsed.object)
      else remove.push(id)
    }
    this.#waiting.clear()
    this.update(put, remove)
  }
}

/** Slices that the daemon wrote there itself say nothing new. */
function isOwnSlice({ metadata }: KubeObject): boolean {
  return metadata.labels?.[managedByLabel] === publisher
}

/** Of the pods that run here, the daemon knows before the API does. */
function isOwnPod({ kind, metadata, spec }: KubeObject, nodeName: string): boolean {
  return kind === 'Pod' && spec?.['nodeName'] === nodeName && metadata.annotations?.[runAnnotation] !== undefined
}

function idOf({ kind, metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace === undefined ? '' : `${metadata.namespace}/`}${metadata.name}`
}
