import type { ServerResponse } from 'node:http'
import type { Clock, Timer } from '../base/clock.ts'
import { ApiError } from './api-error.ts'
import type { KubeObject } from './kube-object.ts'
import type { ObjectStore, StoreEvent } from './object-store.ts'
import { groupVersion, qualifiedName, type ResourceType } from './resources.ts'
import { parseFieldSelector, parseLabelSelector, type Selector } from './selectors.ts'

/** One watch. */
export interface WatchOptions {
  readonly type: ResourceType
  readonly namespace: string
  readonly name: string
  readonly labelSelector: string
  readonly fieldSelector: string
  /** Empty or `0`: whatever there is now. */
  readonly resourceVersion: string
  readonly bookmarks: boolean
  /** Undefined: as long as older clients expect it. */
  readonly sendInitialEvents: boolean | undefined
  /** Seconds; undefined: some 30 to 60 minutes. */
  readonly timeoutSeconds: number | undefined
  /** How objects are written: as they are, or as a Table. */
  readonly write: (object: KubeObject) => object
  /** Equal for watches whose objects are written the same way. */
  readonly format: string
}

/** Bytes that a watcher may be behind with changes before it is dropped; it lists again then. */
const maxBehind = 4 << 20
/** Time between bookmarks, as kube-apiserver has it. */
const bookmarkMs = 60_000

/** All watchers of one server. */
export class WatchHub implements Disposable {
  readonly #store: ObjectStore
  readonly #clock: Clock
  readonly #maxWatchers: number
  readonly #watchers = new Set<Watcher>()
  readonly #unsubscribe: () => void

  constructor(store: ObjectStore, options: { readonly clock: Clock; readonly maxWatchers: number }) {
    this.#store = store
    this.#clock = options.clock
    this.#maxWatchers = options.maxWatchers
    this.#unsubscribe = store.subscribe((event) => {
      // What is the same for many watchers is written once.
      const lines = new Map<string, string>()
      for (const watcher of this.#watchers) watcher.send(event, lines)
    })
  }

  /** How many there are. */
  get size(): number {
    return this.#watchers.size
  }

  /** Serves a watch until its end. Throws {@link ApiError} before anything is written. */
  watch(response: ServerResponse, options: WatchOptions): void {
    if (this.#watchers.size >= this.#maxWatchers) {
      throw new ApiError('TooManyRequests', 'too many watches', { details: { retryAfterSeconds: 5 } })
    }
    const watcher = new Watcher(response, { ...options, store: this.#store, clock: this.#clock })
    this.#watchers.add(watcher)
    response.on('close', () => {
      watcher.stop()
      this.#watchers.delete(watcher)
    })
    watcher.start()
  }

  [Symbol.dispose](): void {
    this.#unsubscribe()
    for (const watcher of this.#watchers) watcher.stop()
  }
}

class Watcher {
  readonly #response: ServerResponse
  readonly #options: WatchOptions & { readonly store: ObjectStore; readonly clock: Clock }
  readonly #resource: string
  readonly #selects: Selector
  readonly #timers: Timer[] = []
  #behind = 0

  constructor(
    response: ServerResponse,
    options: WatchOptions & { readonly store: ObjectStore; readonly clock: Clock },
  ) {
    this.#response = response
    this.#options = options
    this.#resource = qualifiedName(options.type)
    const byLabel = parseLabelSelector(options.labelSelector)
    const byField = parseFieldSelector(options.fieldSelector, options.type.selectableFields)
    const { namespace, name } = options
    this.#selects = (object) =>
      (namespace === '' || object.metadata.namespace === namespace) &&
      (name === '' || object.metadata.name === name) &&
      byLabel(object) &&
      byField(object)
    response.on('drain', () => {
      this.#behind = 0
    })
  }

  start(): void {
    const { store, resourceVersion, sendInitialEvents, timeoutSeconds, bookmarks, clock } = this.#options
    const response = this.#response
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
    response.flushHeaders()
    const fresh = resourceVersion === '' || resourceVersion === '0'
    if (sendInitialEvents ?? fresh) {
      for (const object of store.list(this.#resource)) if (this.#selects(object)) this.#write('ADDED', object)
      if (sendInitialEvents) this.#bookmark({ 'k8s.io/initial-events-end': 'true' })
    } else if (!fresh) {
      const missed = /^\d{1,15}$/.test(resourceVersion)
        ? store.eventsSince(this.#resource, Number(resourceVersion))
        : undefined
      if (!missed || Number(resourceVersion) > store.revision) {
        const message = `too old resource version: ${resourceVersion} (${store.revision})`
        response.end(`${JSON.stringify({ type: 'ERROR', object: new ApiError('Expired', message).toStatus() })}\n`)
        return
      }
      for (const event of missed) this.send(event, new Map())
    }
    const seconds = timeoutSeconds ?? 1800 + Math.random() * 1800
    this.#timers.push(clock.after(seconds * 1000, () => response.end()))
    if (bookmarks) this.#remind()
  }

  send(event: StoreEvent, lines: Map<string, string>): void {
    if (event.resource !== this.#resource || this.#response.writableEnded || this.#response.destroyed) return
    const is = event.type !== 'DELETED' && this.#selects(event.object)
    const was = event.before !== undefined && this.#selects(event.before)
    // What leaves the selection is deleted for this watcher, whatever became of it; it sees it as it left, at the new revision.
    const type = is ? (was ? 'MODIFIED' : 'ADDED') : 'DELETED'
    if (!is && !was) return
    const object = is || event.type === 'DELETED' ? event.object : lastSeen(event)
    const key = `${type} ${this.#options.format} ${object === event.object}`
    let line = lines.get(key)
    if (line === undefined) {
      line = `${JSON.stringify({ type, object: this.#options.write(object) })}\n`
      lines.set(key, line)
    }
    this.#behind = this.#response.write(line) ? 0 : this.#behind + line.length
    if (this.#behind > maxBehind) this.#response.destroy()
  }

  stop(): void {
    for (const timer of this.#timers) timer.cancel()
    if (!this.#response.writableEnded) this.#response.end()
  }

  #remind(): void {
    const timer = this.#options.clock.after(bookmarkMs, () => {
      this.#timers.splice(this.#timers.indexOf(timer), 1)
      this.#bookmark()
      this.#remind()
    })
    this.#timers.push(timer)
  }

  #bookmark(annotations?: Record<string, string>): void {
    const { type, store } = this.#options
    const metadata = {
      resourceVersion: String(store.revision),
      creationTimestamp: null,
      ...(annotations && { annotations }),
    }
    const object = { kind: type.kind, apiVersion: groupVersion(type), metadata }
    this.#response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
  }

  #write(type: string, object: KubeObject): void {
    this.#response.write(`${JSON.stringify({ type, object: this.#options.write(object) })}\n`)
  }
}

function lastSeen({ before, object, revision }: StoreEvent): KubeObject {
  const last = before ?? object
  return { ...last, metadata: { ...last.metadata, resourceVersion: String(revision) } }
}
