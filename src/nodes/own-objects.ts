import { keyOf, type KubeObject, type WatchEvent } from '../kubernetes/kube-object.ts'
import type { ReflectorSink } from '../kubernetes/reflector-types.ts'
import { isNewerVersion } from '../kubernetes/resource-version.ts'

/** The objects of one resource as the API has them, whole: those of this node are few. */
export class OwnObjects implements ReflectorSink {
  readonly #onChange: () => void
  readonly #objects = new Map<string, KubeObject>()
  #pending = new Map<string, KubeObject>()
  #complete = false

  /** `onChange` is told when something is another than it was. */
  constructor(onChange: () => void) {
    this.#onChange = onChange
  }

  /** By name, or `namespace/name`. */
  get objects(): ReadonlyMap<string, KubeObject> {
    return this.#objects
  }

  /** A list was read whole. */
  get complete(): boolean {
    return this.#complete
  }

  /** Takes the answer to a write; the watch will say the same a moment later. */
  put(object: KubeObject): void {
    const key = keyOf(object)
    const before = this.#objects.get(key)
    if (before && isNewerVersion(before.metadata.resourceVersion, object.metadata.resourceVersion) === true) return
    this.#objects.set(key, object)
  }

  /** The object was removed by us. */
  remove(key: string): void {
    this.#objects.delete(key)
  }

  *versions(): Iterable<readonly [string, string]> {
    for (const [key, { metadata }] of this.#objects) yield [key, metadata.resourceVersion]
  }

  listItem(object: KubeObject): void {
    this.#pending.set(keyOf(object), object)
  }

  listed(): void {
    this.#objects.clear()
    for (const [key, object] of this.#pending) this.#objects.set(key, object)
    this.listBroken()
    this.#complete = true
    this.#onChange()
  }

  listBroken(): void {
    this.#pending = new Map()
  }

  changed(events: readonly WatchEvent[]): void {
    for (const event of events) {
      if (event.kind === 'bookmark') continue
      const key = keyOf(event.object)
      const before = this.#objects.get(key)
      // Said before a write whose answer is here already.
      const late =
        before && isNewerVersion(before.metadata.resourceVersion, event.object.metadata.resourceVersion) === true
      if (late) continue
      if (event.kind === 'delete') this.#objects.delete(key)
      else this.#objects.set(key, event.object)
    }
    this.#onChange()
  }
}
