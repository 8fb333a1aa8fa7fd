import { ApiError } from './api-error.ts'
import { FieldsPool } from './fields-pool.ts'
import type { Journal, JournalChange } from './journal.ts'
import type { KubeObject } from './kube-object.ts'

/** One change, as watchers are told. */
export interface StoreEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  /** The kind's plural name with its group: `services`. */
  readonly resource: string
  readonly revision: number
  readonly object: KubeObject
  /** The object before; undefined when it was added. */
  readonly before: KubeObject | undefined
}

/** Told of the changes of one commit, in their order; `texts` are their objects as JSON, written once for all who need that. */
export type CommitListener = (events: readonly StoreEvent[], texts: readonly string[]) => void

/** Told of each object that is put or removed, and of each that is put back because the disk refused it. */
export type ReplaceListener = (resource: string, before: KubeObject | undefined, after: KubeObject | undefined) => void

/** What a write sees and does. Its reads see its own writes. */
export interface Transaction {
  get(resource: string, namespace: string, name: string): KubeObject | undefined
  list(resource: string): Iterable<KubeObject>
  /** Creates or replaces; returns the object with its new resourceVersion. */
  put(resource: string, object: KubeObject): KubeObject
  /** Removes; returns the object as its watchers see it at last. */
  remove(resource: string, object: KubeObject): KubeObject
}

interface Job {
  readonly run: () => () => void
  readonly fail: (error: unknown) => void
}

/** Changes that a watch may be behind, before it has to list again: so many, and of so many characters of JSON at most. */
const maxHistory = 10_000
const maxHistoryLength = 8 << 20
/** Writes that share one commit. */
const maxBatch = 500
/** Writes that may wait for their commit. */
const maxWaiting = 5000

/**
 * All objects, in memory and in a journal. Writes run one after another, and those that come together share one commit: a
 * write is acknowledged, and seen by anybody else, when it is on the disk. Objects that it hands out must not be changed.
 */
export class ObjectStore implements Disposable {
  readonly #journal: Journal
  readonly #objects = new Map<string, Map<string, KubeObject>>()
  readonly #sorted = new Map<string, readonly KubeObject[]>()
  readonly #listeners = new Set<CommitListener>()
  readonly #fields = new FieldsPool()
  readonly #onReplace: ReplaceListener[] = []
  readonly #jobs: Job[] = []
  /** Of the newest change of each resource: what changed before is all that a watch has missed. */
  readonly #latest: Map<string, number>
  readonly #history: { readonly event: StoreEvent; readonly length: number }[] = []
  #historyLength = 0
  #forgotten: number
  #revision: number
  #scheduled = false
  #closed = false

  constructor(journal: Journal) {
    this.#journal = journal
    const { revision, latest, entries } = journal.load()
    this.#latest = new Map(latest)
    this.#revision = revision
    this.#forgotten = revision
    for (const { resource, namespace, name, object } of entries) {
      this.#table(resource).set(keyOf(namespace, name), this.#fields.share(object))
    }
  }

  /** Of the newest change. */
  get revision(): number {
    return this.#revision
  }

  /** How many objects there are of a kind. */
  count(resource: string): number {
    return this.#objects.get(resource)?.size ?? 0
  }

  get(resource: string, namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(resource)?.get(keyOf(namespace, name))
  }

  /** All objects of a kind, by namespace and name. */
  list(resource: string): readonly KubeObject[] {
    let sorted = this.#sorted.get(resource)
    if (!sorted) {
      const entries = [...(this.#objects.get(resource) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))
      this.#sorted.set(resource, (sorted = entries.map(([, object]) => object)))
    }
    return sorted
  }

  /** Told at once of all objects that are there, and then of each change, within its transaction. */
  onReplace(listener: ReplaceListener): void {
    for (const [resource, table] of this.#objects) {
      for (const object of table.values()) listener(resource, undefined, object)
    }
    this.#onReplace.push(listener)
  }

  /** Calls `listener` with the changes of each commit, once they are on the disk. Returns what ends that. */
  subscribe(listener: CommitListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The changes after a revision, of this resource and perhaps of others; undefined when they are no longer known. */
  eventsSince(resource: string, revision: number): readonly StoreEvent[] | undefined {
    if (revision >= (this.#latest.get(resource) ?? 0)) return []
    if (revision < this.#forgotten) return undefined
    const first = this.#history.findIndex(({ event }) => event.revision > revision)
    return first < 0 ? [] : this.#history.slice(first).map(({ event }) => event)
  }

  /** Runs a write. Whatever it throws undoes it, and no other; when this resolves, it is on the disk. */
  write<T>(job: (transaction: Transaction) => T): Promise<T> {
    if (this.#closed) return Promise.reject(new ApiError('InternalError', 'the server is stopping'))
    if (this.#jobs.length >= maxWaiting) {
      const details = { retryAfterSeconds: 1 }
      return Promise.reject(new ApiError('TooManyRequests', 'too many writes are waiting for the disk', { details }))
    }
    return new Promise((resolve, reject) => {
      const run = (): (() => void) => {
        const result = job(this.#transaction)
        return () => resolve(result)
      }
      this.#jobs.push({ run, fail: reject })
      this.#schedule()
    })
  }

  /** A copy of everything, as a file. */
  backup(file: string): Promise<void> {
    return this.#journal.backup(file)
  }

  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#flush()
    this.#closed = true
    this.#listeners.clear()
    this.#journal[Symbol.dispose]()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      if (!this.#closed) this.#flush()
      if (this.#jobs.length > 0) this.#schedule()
    })
  }

  #events: StoreEvent[] = []

  /** In one go, so that nobody sees what is not on the disk yet. */
  #flush(): void {
    const before = this.#revision
    const done: { readonly acknowledge: () => void; readonly fail: (error: unknown) => void }[] = []
    for (const job of this.#jobs.splice(0, maxBatch)) {
      const mark = this.#events.length
      const revision = this.#revision
      try {
        done.push({ acknowledge: job.run(), fail: job.fail })
      } catch (error) {
        this.#undo(mark, revision)
        job.fail(error)
      }
    }
    const events = this.#events
    const texts = events.map(({ object }) => JSON.stringify(object))
    try {
      if (events.length > 0) this.#journal.commit(events.map(toEntry), { texts, revision: this.#revision })
    } catch (cause) {
      this.#undo(0, before)
      const error = new ApiError('InternalError', `cannot store: ${(cause as Error).message}`, { cause })
      for (const { fail } of done) fail(error)
      return
    }
    this.#events = []
    this.#remember(events, texts)
    for (const { acknowledge } of done) acknowledge()
    if (events.length > 0) for (const listener of this.#listeners) listener(events, texts)
  }

  #remember(events: readonly StoreEvent[], texts: readonly string[]): void {
    for (const [index, event] of events.entries()) {
      const length = texts[index]?.length ?? 0
      this.#history.push({ event, length })
      this.#historyLength += length
      this.#latest.set(event.resource, event.revision)
    }
    if (this.#history.length < 2 * maxHistory && this.#historyLength < 2 * maxHistoryLength) return
    let keep = 0
    let kept = 0
    while (keep < Math.min(maxHistory, this.#history.length)) {
      kept += this.#history.at(-1 - keep)?.length ?? 0
      if (kept > maxHistoryLength) break
      keep++
    }
    const forgotten = this.#history.splice(0, this.#history.length - keep)
    this.#historyLength = this.#history.reduce((sum, { length }) => sum + length, 0)
    this.#forgotten = forgotten.at(-1)?.event.revision ?? this.#forgotten
  }

  #undo(mark: number, revision: number): void {
    for (const { resource, object, before, type } of this.#events.splice(mark).reverse()) {
      this.#replace(resource, type === 'DELETED' ? undefined : object, before)
    }
    this.#revision = revision
  }

  readonly #transaction: Transaction = {
    get: (resource, namespace, name) => this.get(resource, namespace, name),
    list: (resource) => this.#objects.get(resource)?.values() ?? [],
    put: (resource, object) => {
      const { namespace = '', name } = object.metadata
      const before = this.get(resource, namespace, name)
      const revision = ++this.#revision
      const stored = this.#fields.share(withRevision(object, revision))
      this.#events.push({ type: before ? 'MODIFIED' : 'ADDED', resource, revision, object: stored, before })
      this.#replace(resource, before, stored)
      return stored
    },
    remove: (resource, object) => {
      const { namespace = '', name } = object.metadata
      const before = this.get(resource, namespace, name)
      const revision = ++this.#revision
      const last = withRevision(object, revision)
      this.#events.push({ type: 'DELETED', resource, revision, object: last, before })
      this.#replace(resource, before, undefined)
      return last
    },
  }

  #replace(resource: string, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const { namespace = '', name } = (after ?? before)!.metadata
    const key = keyOf(namespace, name)
    if (after) this.#table(resource).set(key, after)
    else this.#table(resource).delete(key)
    this.#sorted.delete(resource)
    for (const listener of this.#onReplace) listener(resource, before, after)
  }

  #table(resource: string): Map<string, KubeObject> {
    let table = this.#objects.get(resource)
    if (!table) this.#objects.set(resource, (table = new Map()))
    return table
  }
}

/** A slash sorts before all characters of names but `-` and `.`, which is good enough for an order that stays. */
function keyOf(namespace: string, name: string): string {
  return `${namespace}/${name}`
}

function withRevision(object: KubeObject, revision: number): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
}

function toEntry({ type, resource, object }: StoreEvent): JournalChange {
  const { namespace = '', name } = object.metadata
  return { resource, namespace, name, gone: type === 'DELETED' }
}
