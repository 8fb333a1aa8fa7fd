import { parseManifest, manifestId, type ManifestObject, type ParsedManifest } from '../model/parse-manifest.ts'
import type { Pod } from '../model/pod.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { editSnapshot, type ObjectChange } from './edit-snapshot.ts'
import type { Source, SourceState } from './source.ts'

/** A source that is told its objects: the daemon's own pods, or the objects of a test. */
export class MemorySource implements Source {
  readonly name: string
  readonly #objects = new Map<string, ManifestObject>()
  readonly #listeners = new Set<(state: SourceState) => void>()
  #current: SourceState

  /** `synced: false` is for owners that still read their first list; they call {@link markSynced} after it. */
  constructor(name: string, options: { readonly synced?: boolean } = {}) {
    this.name = name
    this.#current = { snapshot: emptySnapshot, problems: [], synced: options.synced ?? true }
  }

  get current(): SourceState {
    return this.#current
  }

  get snapshot(): Snapshot {
    return this.#current.snapshot
  }

  subscribe(listener: (state: SourceState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Creates or replaces objects, then removes others by their id (`Service shop/web`, `Node worker-1`), as one change. */
  update(put: Iterable<ManifestObject>, remove: Iterable<string> = []): void {
    const changes = new Map<string, ObjectChange>()
    const change = (id: string, after: ManifestObject | undefined) => {
      const before = changes.get(id)?.before ?? this.#objects.get(id)
      changes.set(id, { before, after })
    }
    for (const object of put) change(manifestId(object), object)
    for (const id of remove) change(id, undefined)
    for (const [id, { after }] of changes) {
      if (after) this.#objects.set(id, after)
      else this.#objects.delete(id)
    }
    this.#publish({ ...this.#current, snapshot: editSnapshot(this.#current.snapshot, changes.values()) })
  }

  /** Creates or replaces the objects of manifests; returns what became of each. */
  applyManifests(manifests: Iterable<unknown>): readonly ParsedManifest[] {
    const parsed = [...manifests].flatMap((manifest) => parseManifest(manifest))
    this.update(parsed.flatMap((manifest) => (manifest.kind === 'object' ? [manifest.object] : [])))
    return parsed
  }

  putPod(pod: Pod): void {
    this.update([{ kind: 'Pod', value: pod }])
  }

  /** `key` is `namespace/name`. */
  removePod(key: string): void {
    this.update([], [`Pod ${key}`])
  }

  /** Says that the first complete list was given. */
  markSynced(): void {
    if (!this.#current.synced) this.#publish({ ...this.#current, synced: true })
  }

  #publish(state: SourceState): void {
    this.#current = state
    for (const listener of this.#listeners) listener(state)
  }
}
