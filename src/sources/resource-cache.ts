import type { KubeObject, WatchEvent } from '../kubernetes/kube-object.ts'
import { keyOf } from '../kubernetes/kube-object.ts'
import { isNewerVersion } from '../kubernetes/resource-version.ts'
import type { ReflectorSink } from '../kubernetes/reflector-types.ts'
import type { ReadOptions } from '../model/manifest-reader.ts'
import { manifestId, parseManifest, type ManifestObject } from '../model/parse-manifest.ts'
import type { ObjectChange } from './edit-snapshot.ts'
import type { ManifestResource } from './kubernetes-resources.ts'
import type { Problem } from './source.ts'

/** An object as the cache has it: what the model keeps of it, and its version. */
interface Entry {
  readonly version: string
  /** Undefined: of no use to a node, or never once right. */
  readonly object: ManifestObject | undefined
  readonly problems: readonly Problem[]
}

/** What changed in a cache at once. */
export interface CacheChange {
  readonly objects: readonly ObjectChange[]
  /** Problems came or went. */
  readonly problems: boolean
}

const none: readonly Problem[] = Object.freeze([])

/**
 * The objects of one resource, as the model has them. A new list is compared with what is here by resource version: objects
 * that did not change keep their identity and are not parsed, and the list counts as one change. An object that is wrong
 * keeps its last good version.
 */
export class ResourceCache implements ReflectorSink {
  readonly #resource: ManifestResource
  readonly #source: string
  readonly #intern: NonNullable<ReadOptions['intern']>
  readonly #onChange: (change: CacheChange) => void
  readonly #entries = new Map<string, Entry>()
  /** Keys with problems: few, hopefully. */
  readonly #wrong = new Set<string>()
  /** Of a list that is being read: what differs from {@link #entries}, and what does not. */
  #pending = new Map<string, Entry>()
  #unchanged = new Set<string>()

  constructor(
    resource: ManifestResource,
    options: {
      /** For problems: where the objects come from. */
      readonly source: string
      readonly intern: NonNullable<ReadOptions['intern']>
      readonly onChange: (change: CacheChange) => void
    },
  ) {
    this.#resource = resource
    this.#source = options.source
    this.#intern = options.intern
    this.#onChange = options.onChange
  }

  get size(): number {
    return this.#entries.size
  }

  *problems(): Iterable<Problem> {
    for (const key of this.#wrong) yield* this.#entries.get(key)?.problems ?? none
  }

  *versions(): Iterable<readonly [string, string]> {
    for (const [key, { version }] of this.#entries) yield [key, version]
  }

  listItem(object: KubeObject): void {
    const key = keyOf(object)
    const before = this.#entries.get(key)
    if (before?.version === object.metadata.resourceVersion) this.#unchanged.add(key)
    else this.#pending.set(key, this.#read(object, before))
  }

  listed(): void {
    const changes = new Changes()
    for (const key of this.#entries.keys()) {
      if (!this.#pending.has(key) && !this.#unchanged.has(key)) this.#set(key, undefined, changes)
    }
    for (const [key, entry] of this.#pending) this.#set(key, entry, changes)
    this.listBroken()
    this.#onChange(changes)
  }

  listBroken(): void {
    this.#pending = new Map()
    this.#unchanged = new Set()
  }

  changed(events: readonly WatchEvent[]): void {
    const changes = new Changes()
    for (const event of events) {
      if (event.kind === 'bookmark') continue
      const key = keyOf(event.object)
      const before = this.#entries.get(key)
      if (before && isStale(event, before.version)) continue
      this.#set(key, event.kind === 'delete' ? undefined : this.#read(event.object, before), changes)
    }
    this.#onChange(changes)
  }

  #set(key: string, entry: Entry | undefined, changes: Changes): void {
    const before = this.#entries.get(key)
    changes.note(before?.object, entry?.object)
    if ((before?.problems.length ?? 0) + (entry?.problems.length ?? 0) > 0) changes.problems = true
    if (entry) this.#entries.set(key, entry)
    else this.#entries.delete(key)
    if (entry && entry.problems.length > 0) this.#wrong.add(key)
    else this.#wrong.delete(key)
  }

  #read(object: KubeObject, before: Entry | undefined): Entry {
    const { apiVersion, kind } = this.#resource
    const [parsed] = parseManifest({ ...object, apiVersion, kind }, { intern: this.#intern })
    const version = object.metadata.resourceVersion
    switch (parsed?.kind) {
      case 'object':
        return { version, object: parsed.object, problems: this.#problems('error', parsed) }
      case 'refused':
        return { version, object: before?.object, problems: this.#problems('error', parsed) }
      case 'skipped': {
        const problem: Problem = { severity: 'skipped', file: this.#source, object: parsed.id, ...parsed.problem }
        return { version, object: undefined, problems: [problem] }
      }
      case 'ignored':
      case undefined:
        return { version, object: undefined, problems: none }
      default:
        return parsed satisfies never
    }
  }

  #problems(
    severity: Problem['severity'],
    parsed: { readonly problems: readonly { path: string; reason: string }[] } & (
      | { readonly object: ManifestObject }
      | { readonly id: string }
    ),
  ): readonly Problem[] {
    if (parsed.problems.length === 0) return none
    const object = 'id' in parsed ? parsed.id : manifestId(parsed.object)
    return parsed.problems.map(({ path, reason }) => ({ severity, file: this.#source, object, path, reason }))
  }
}

/** Given twice, or late: what is here is as new. A deletion may come with the version that the object had. */
function isStale(event: Exclude<WatchEvent, { kind: 'bookmark' }>, version: string): boolean {
  const given = event.object.metadata.resourceVersion
  return event.kind === 'delete' ? isNewerVersion(version, given) === true : isNewerVersion(given, version) === false
}

/** Changes of objects, in order. */
class Changes implements CacheChange {
  readonly objects: ObjectChange[] = []
  problems = false

  note(before: ManifestObject | undefined, after: ManifestObject | undefined): void {
    if (before !== after) this.objects.push({ before, after })
  }
}
