import type { ServerResponse } from 'node:http'
import type { Clock, Timer } from '../base/clock.ts'
import { ApiError } from './api-error.ts'
import type { ObjectStore } from './object-store.ts'
import { groupVersion, qualifiedName } from './resources.ts'
import { channelKey, WatchChannel, type ChannelOptions } from './watch-channel.ts'

/** One watch. */
export interface WatchOptions extends ChannelOptions {
  /** Empty or `0`: whatever there is now. */
  readonly resourceVersion: string
  readonly bookmarks: boolean
  /** Undefined: as long as older clients expect it. */
  readonly sendInitialEvents: boolean | undefined
  /** Seconds; undefined: some 30 to 60 minutes. */
  readonly timeoutSeconds: number | undefined
}

/** Bytes that a watcher may be behind with changes before it is dropped; it lists again then. */
const maxBehind = 4 << 20
/** The same for all watchers of a server together: who is furthest behind goes first. */
const maxBehindTogether = 64 << 20
/** A watch ends after this time whatever is asked for: timers hold no more than 24 days. */
const maxWatchSeconds = 604_800
/** Time between bookmarks, as kube-apiserver has it. */
const bookmarkMs = 60_000

/** All watchers of one server. */
export class WatchHub implements Disposable {
  readonly #store: ObjectStore
  readonly #clock: Clock
  readonly #maxWatchers: number
  readonly #channels = new Map<string, WatchChannel>()
  readonly #watchers = new Set<Watcher>()
  readonly #unsubscribe: () => void
  #dropped = 0

  constructor(store: ObjectStore, options: { readonly clock: Clock; readonly maxWatchers: number }) {
    this.#store = store
    this.#clock = options.clock
    this.#maxWatchers = options.maxWatchers
    this.#unsubscribe = store.subscribe((events, texts) => {
      // What is the same for many watchers is written once.
      const lines = new Map<string, string>()
      for (const channel of this.#channels.values()) channel.send(events, { texts, lines })
      this.#dropSlow()
    })
  }

  /** How many there are. */
  get size(): number {
    return this.#watchers.size
  }

  /** How many were dropped because they were too far behind. */
  get dropped(): number {
    return this.#dropped
  }

  /** Serves a watch until its end. Throws {@link ApiError} before anything is written. */
  watch(response: ServerResponse, options: WatchOptions): void {
    if (this.#watchers.size >= this.#maxWatchers) {
      throw new ApiError('TooManyRequests', 'too many watches', { details: { retryAfterSeconds: 5 } })
    }
    const key = channelKey(options)
    const channel = this.#channels.get(key) ?? new WatchChannel(this.#store, options)
    this.#channels.set(key, channel)
    const watcher = new Watcher(response, channel, { ...options, store: this.#store, clock: this.#clock })
    this.#watchers.add(watcher)
    response.on('close', () => {
      watcher.stop()
      this.#watchers.delete(watcher)
      if (channel.isEmpty && this.#channels.get(key) === channel) this.#channels.delete(key)
    })
    watcher.start()
  }

  [Symbol.dispose](): void {
    this.#unsubscribe()
    for (const watcher of this.#watchers) watcher.stop()
  }

  #dropSlow(): void {
    let together = 0
    for (const watcher of this.#watchers) {
      if (watcher.behind > maxBehind) this.#drop(watcher)
      else together += watcher.behind
    }
    if (together <= maxBehindTogether) return
    for (const watcher of [...this.#watchers].toSorted((a, b) => b.behind - a.behind)) {
      together -= watcher.behind
      this.#drop(watcher)
      if (together <= maxBehindTogether) return
    }
  }

  #drop(watcher: Watcher): void {
    this.#dropped++
    watcher.drop()
  }
}

class Watcher {
  readonly #response: ServerResponse
  readonly #channel: WatchChannel
  readonly #options: WatchOptions & { readonly store: ObjectStore; readonly clock: Clock }
  readonly #timers: Timer[] = []
  /** What happened while the objects that there were are still being written. */
  #held: Buffer[] | undefined
  #heldBytes = 0

  constructor(
    response: ServerResponse,
    channel: WatchChannel,
    options: WatchOptions & { readonly store: ObjectStore; readonly clock: Clock },
  ) {
    this.#response = response
    this.#channel = channel
    this.#options = options
  }

  /** Bytes that it has not taken yet. Those that many watchers share are counted for each. */
  get behind(): number {
    return this.#held === undefined ? this.#response.writableLength : this.#heldBytes
  }

  start(): void {
    const { store, resourceVersion, sendInitialEvents, timeoutSeconds, bookmarks, clock, type } = this.#options
    const response = this.#response
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
    response.flushHeaders()
    const fresh = resourceVersion === '' || resourceVersion === '0'
    if (sendInitialEvents ?? fresh) {
      const end = sendInitialEvents ? { 'k8s.io/initial-events-end': 'true' } : undefined
      void this.#begin(this.#channel.initial(), end)
    } else {
      const missed = fresh
        ? []
        : Number(resourceVersion) <= store.revision
          ? store.eventsSince(qualifiedName(type), Number(resourceVersion))
          : undefined
      if (!missed) {
        const message = `too old resource version: ${resourceVersion} (${store.revision})`
        response.end(`${JSON.stringify({ type: 'ERROR', object: new ApiError('Expired', message).toStatus() })}\n`)
        return
      }
      void this.#begin(this.#channel.missed(missed))
    }
    const seconds = Math.min(timeoutSeconds ?? 1800 + Math.random() * 1800, maxWatchSeconds)
    this.#timers.push(clock.after(seconds * 1000, () => response.end()))
    if (bookmarks) this.#remind()
  }

  send(lines: Buffer): void {
    if (this.#response.writableEnded || this.#response.destroyed) return
    if (this.#held) {
      this.#held.push(lines)
      this.#heldBytes += lines.length
    } else this.#response.write(lines)
  }

  /** Ends it without a word: it is told 410 when it comes back with a revision that is too old. */
  drop(): void {
    this.#response.destroy()
  }

  stop(): void {
    this.#channel.delete(this)
    for (const timer of this.#timers) timer.cancel()
    if (!this.#response.writableEnded) this.#response.end()
  }

  /** No faster than it is read: many clients that start at once must not have their lists in memory at once. */
  async #begin(first: AsyncIterable<Buffer>, bookmark?: Record<string, string>): Promise<void> {
    const response = this.#response
    const { revision } = this.#options.store
    this.#held = []
    this.#channel.add(this)
    for await (const chunk of first) {
      if (response.destroyed || response.writableEnded) return
      if (!response.write(chunk)) await drained(response)
    }
    if (response.destroyed || response.writableEnded) return
    if (bookmark) this.#bookmark(revision, bookmark)
    const held = this.#held ?? []
    this.#held = undefined
    for (const lines of held) response.write(lines)
  }

  #remind(): void {
    const timer = this.#options.clock.after(bookmarkMs, () => {
      this.#timers.splice(this.#timers.indexOf(timer), 1)
      if (!this.#held) this.#bookmark(this.#options.store.revision)
      this.#remind()
    })
    this.#timers.push(timer)
  }

  #bookmark(revision: number, annotations?: Record<string, string>): void {
    const { type } = this.#options
    const metadata = {
      resourceVersion: String(revision),
      creationTimestamp: null,
      ...(annotations && { annotations }),
    }
    const object = { kind: type.kind, apiVersion: groupVersion(type), metadata }
    this.#response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
  }
}

/** Resolves when there is room again, or when the connection is gone. */
export function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}
