import { setImmediate as nextTurn } from 'node:timers/promises'
import type { KubeObject } from './kube-object.ts'
import type { ObjectStore, StoreEvent } from './object-store.ts'
import { qualifiedName, type ResourceType } from './resources.ts'
import { parseFieldSelector, parseLabelSelector, type Selector } from './selectors.ts'

/** What a watch is of, and how it is written. */
export interface ChannelOptions {
  readonly type: ResourceType
  readonly namespace: string
  readonly name: string
  readonly labelSelector: string
  readonly fieldSelector: string
  /** How objects are written; undefined: as they are. */
  readonly write: ((object: KubeObject) => object) | undefined
  /** Equal for watches whose objects are written the same way. */
  readonly format: string
}

/** Whoever is sent the lines of a channel. */
export interface Listener {
  send(lines: Buffer): void
}

/** Objects that are written in one go before others have their turn. */
const objectsPerTurn = 200

/** Equal for watches that are sent the same bytes. */
export function channelKey({ type, ...options }: ChannelOptions): string {
  const { namespace, name, labelSelector, fieldSelector, format } = options
  return JSON.stringify([qualifiedName(type), namespace, name, labelSelector, fieldSelector, format])
}

/** Watches of the same objects in the same format: what they are sent is written once for all of them. */
export class WatchChannel {
  readonly #store: ObjectStore
  readonly #options: ChannelOptions
  readonly #resource: string
  readonly #selects: Selector
  readonly #listeners = new Set<Listener>()
  /** The objects of some moment as lines, while somebody is still being sent them. */
  #initial: { readonly objects: readonly KubeObject[]; readonly chunks: Buffer[]; readers: number } | undefined

  /** Throws ApiError when a selector is wrong. */
  constructor(store: ObjectStore, options: ChannelOptions) {
    this.#store = store
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
  }

  get isEmpty(): boolean {
    return this.#listeners.size === 0
  }

  add(listener: Listener): void {
    this.#listeners.add(listener)
  }

  delete(listener: Listener): void {
    this.#listeners.delete(listener)
  }

  /** Sends the changes of one commit. `lines` is shared by all channels: what is written for one need not be written again. */
  send(
    events: readonly StoreEvent[],
    written: { readonly texts: readonly string[]; readonly lines: Map<string, string> },
  ): void {
    if (this.#listeners.size === 0) return
    const lines = this.#linesOf(events, written)
    if (lines) for (const listener of this.#listeners) listener.send(lines)
  }

  /** Changes of the past, piece by piece. */
  async *missed(events: readonly StoreEvent[]): AsyncGenerator<Buffer, void> {
    for (let from = 0; from < events.length; from += objectsPerTurn) {
      if (from > 0) await nextTurn()
      const lines = this.#linesOf(events.slice(from, from + objectsPerTurn), { texts: [], lines: new Map() })
      if (lines) yield lines
    }
  }

  /** What there is at the first call, as lines, piece by piece; who comes while another is still reading shares its pieces. */
  async *initial(): AsyncGenerator<Buffer, void> {
    const now = this.#store.list(this.#resource)
    if (this.#initial?.objects !== now) this.#initial = { objects: now, chunks: [], readers: 0 }
    const initial = this.#initial
    initial.readers++
    try {
      for (let from = 0; from < now.length; from += objectsPerTurn) {
        const place = from / objectsPerTurn
        let chunk = initial.chunks[place]
        if (!chunk) {
          if (from > 0) await nextTurn()
          const some = now.slice(from, from + objectsPerTurn).filter((object) => this.#selects(object))
          chunk = Buffer.from(some.map((object) => this.#write('ADDED', object)).join(''))
          initial.chunks[place] = chunk
        }
        if (chunk.length > 0) yield chunk
      }
    } finally {
      if (--initial.readers === 0 && this.#initial === initial) this.#initial = undefined
    }
  }

  #linesOf(
    events: readonly StoreEvent[],
    { texts, lines }: { readonly texts: readonly string[]; readonly lines: Map<string, string> },
  ): Buffer | undefined {
    const some = events.flatMap((event, index) => this.#line(event, texts[index], lines) ?? [])
    return some.length === 0 ? undefined : Buffer.from(some.join(''))
  }

  #line(event: StoreEvent, text: string | undefined, lines: Map<string, string>): string | undefined {
    if (event.resource !== this.#resource) return undefined
    const is = event.type !== 'DELETED' && this.#selects(event.object)
    const was = event.before !== undefined && this.#selects(event.before)
    if (!is && !was) return undefined
    // What leaves the selection is deleted for this watcher, whatever became of it; it sees it as it left, at the new revision.
    const type = is ? (was ? 'MODIFIED' : 'ADDED') : 'DELETED'
    const left = !is && event.type !== 'DELETED'
    const key = `${event.revision} ${type} ${this.#options.format} ${left}`
    let line = lines.get(key)
    if (line === undefined) {
      line = this.#write(type, left ? lastSeen(event) : event.object, left ? undefined : text)
      lines.set(key, line)
    }
    return line
  }

  #write(type: string, object: KubeObject, text?: string): string {
    const { write } = this.#options
    return `{"type":"${type}","object":${write ? JSON.stringify(write(object)) : (text ?? JSON.stringify(object))}}\n`
  }
}

function lastSeen({ before, object, revision }: StoreEvent): KubeObject {
  const last = before ?? object
  return { ...last, metadata: { ...last.metadata, resourceVersion: String(revision) } }
}
