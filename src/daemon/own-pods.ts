import type { KubeObject } from '../api/kube-object.ts'
import type { ObjectStore } from '../api/object-store.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import { emptySnapshot } from '../model/snapshot.ts'
import { runAnnotation, runOf } from '../nodes/pod-object.ts'
import { MemorySource } from '../sources/memory.ts'

/**
 * The pods of a machine that has the API itself: what they are says the machine, at once; which labels and annotations they
 * have says the API, where somebody changed them (`kubectl label pod`), as for the pods of any other node. Dispose it to stop.
 */
export class OwnPods extends MemorySource implements Disposable {
  readonly #here: MemorySource
  readonly #store: ObjectStore
  readonly #unsubscribe: (() => void)[]
  #seen = emptySnapshot.pods

  constructor(here: MemorySource, store: ObjectStore) {
    super(here.name, { synced: false })
    this.#here = here
    this.#store = store
    this.#take()
    this.#unsubscribe = [
      here.subscribe(() => this.#take()),
      store.subscribe((events) => {
        const keys = events
          .filter(({ resource }) => resource === 'pods')
          .map(({ object }) => `${object.metadata.namespace}/${object.metadata.name}`)
        this.#compare(keys.filter((key) => this.#seen.has(key)))
      }),
    ]
  }

  [Symbol.dispose](): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
  }

  #take(): void {
    const { pods } = this.#here.snapshot
    const changed = SharedMap.changedKeys(this.#seen, pods)
    this.#seen = pods
    this.#compare(changed)
    if (this.#here.current.synced) this.markSynced()
  }

  #compare(keys: Iterable<ObjectKey>): void {
    const put: { kind: 'Pod'; value: Pod }[] = []
    const gone: string[] = []
    for (const key of keys) {
      const pod = this.#seen.get(key)
      if (pod) put.push({ kind: 'Pod', value: relabelled(pod, this.#store.get('pods', pod.namespace, pod.name)) })
      else gone.push(`Pod ${key}`)
    }
    if (put.length + gone.length > 0) this.update(put, gone)
  }
}

/** The pod with the labels and annotations of its object in the API, if that is of this run of it. */
function relabelled(pod: Pod, object: KubeObject | undefined): Pod {
  const { labels = {}, annotations = {} } = object?.metadata ?? {}
  const { [runAnnotation]: run, ...others } = annotations
  return run === runOf(pod) && object?.spec?.['nodeName'] === pod.nodeName
    ? { ...pod, labels, annotations: others }
    : pod
}
