import type { IncomingMessage } from 'node:http'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { ApiClient } from './api-client.ts'
import { ApiError, isAhead, isExpired, isNotServed, ProtocolError, SilenceError } from './api-error.ts'
import { auditVersions } from './audit.ts'
import { Backoff, pause } from './backoff.ts'
import { LineDecoder, ListDecoder, type ListMetadata } from './decode-list.ts'
import { parseKubeObject, parseWatchEvent, type KubeObject, type WatchEvent } from './kube-object.ts'
import type { ReflectorSink, ReflectorStatus, ReflectorTimes, Resource } from './reflector-types.ts'
import { isNewerVersion } from './resource-version.ts'
import { Silence } from './silence.ts'

/** A page of a list, where the server makes pages. */
const pageSize = '500'

/**
 * Keeps a sink equal to what an API server has of one resource: a list, then a watch from its resource version on, as
 * client-go's Reflector does. By watch-list (KEP-3157) where the server offers it. A broken watch goes on where it was; an
 * expired one begins with a list; the sink keeps what it has meanwhile.
 */
export class Reflector {
  readonly #client: ApiClient
  readonly #resource: Resource
  readonly #sink: ReflectorSink
  readonly #clock: Clock
  readonly #log: Log
  readonly #times: ReflectorTimes
  readonly #onStatus: () => void
  readonly #backoff: Backoff
  /** Of answers that a version is too old: the server works, and what it did not do before is no reason to wait. */
  readonly #expiryBackoff: Backoff
  /** Where the next watch begins; undefined: with a list. */
  #version: string | undefined
  /** What the next list asks for: not older than this; empty: the newest there is. */
  #notOlderThan = '0'
  #watchList = true
  #fieldSelector: boolean
  #bookmarksSeen = false
  #lastSign: number | undefined
  #error: string | undefined
  #count = { lists: 0, watches: 0, events: 0, bookmarks: 0, failures: 0, auditFailures: 0 }
  #synced = false
  #connected = false
  /** Ends the watch that is open, to list anew. */
  #endWatch: (() => void) | undefined

  /** `onStatus` is told when {@link status} has another error, or is synced. */
  constructor(options: {
    readonly client: ApiClient
    readonly resource: Resource
    readonly sink: ReflectorSink
    readonly clock: Clock
    readonly log: Log
    readonly times?: ReflectorTimes
    readonly onStatus: () => void
  }) {
    this.#client = options.client
    this.#resource = options.resource
    this.#sink = options.sink
    this.#clock = options.clock
    this.#log = options.log
    this.#times = options.times ?? {}
    this.#onStatus = options.onStatus
    this.#backoff = new Backoff(options.clock, this.#times.backoff)
    this.#expiryBackoff = new Backoff(options.clock, this.#times.backoff)
    this.#fieldSelector = options.resource.fieldSelector !== undefined
  }

  status(): ReflectorStatus {
    return {
      resource: this.#resource.name,
      synced: this.#synced,
      connected: this.#connected,
      ageMs: this.#lastSign === undefined ? undefined : this.#clock.monotonic() - this.#lastSign,
      resourceVersion: this.#version,
      ...this.#count,
      error: this.#error,
    }
  }

  /** Works until `signal` is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const auditing = this.#auditForever(signal)
    while (!signal.aborted) {
      try {
        await this.#once(signal)
      } catch (error) {
        if (signal.aborted) break
        await this.#recover(error, signal)
      } finally {
        this.#connected = false
      }
    }
    await auditing
  }

  async #once(signal: AbortSignal): Promise<void> {
    if (this.#version === undefined && !this.#watchList) await this.#listPages(signal)
    await this.#watch(signal)
  }

  /** What to do differently, and how long to wait before. */
  async #recover(error: unknown, signal: AbortSignal): Promise<void> {
    const { status } = error instanceof ApiError ? error : { status: undefined }
    const listing = this.#version === undefined
    if (listing && status === 400 && this.#fieldSelector) {
      this.#fieldSelector = false
      return
    }
    // Servers before 1.32, or with WatchList off, refuse sendInitialEvents; other servers know nothing of it.
    if (listing && this.#watchList && (status === 422 || status === 400 || error instanceof SilenceError)) {
      this.#log.debug({ err: error }, 'no watch-list here: lists instead')
      this.#watchList = false
      return
    }
    if (this.#resource.optional && isNotServed(error)) {
      if (!this.#synced) this.#complete(undefined)
      this.#setError(undefined)
      await pause(this.#times.optionalMs ?? 300_000, { clock: this.#clock, signal })
      return
    }
    this.#count.failures++
    // Expired, or newer than the server is (it was restored, or is behind): only the newest list is sure to exist.
    if (isExpired(error) || isAhead(error) || error instanceof ProtocolError) {
      this.#version = undefined
      this.#notOlderThan = ''
    }
    const backoff = isExpired(error) ? this.#expiryBackoff : this.#backoff
    const wait = backoff.next(error instanceof ApiError ? error.retryAfterMs : undefined)
    const reason = error instanceof Error ? error.message : String(error)
    const fields = { err: error, resource: this.#resource.name, retryInMs: Math.round(wait) }
    if (reason !== this.#error) this.#log.warn(fields, `cannot follow ${this.#resource.name}: ${reason}`)
    else this.#log.debug(fields, `still cannot follow ${this.#resource.name}`)
    this.#setError(reason)
    await pause(wait, { clock: this.#clock, signal })
  }

  async #listPages(signal: AbortSignal): Promise<void> {
    let next = ''
    let list: ListMetadata
    try {
      do {
        // A server answers "not older than" from memory and then makes no pages; a page belongs to one moment.
        const page: Record<string, string> = next === '' ? {} : { continue: next }
        if (next !== '' || this.#notOlderThan === '') page['limit'] = pageSize
        else page['resourceVersion'] = this.#notOlderThan
        list = await this.#readList({ ...this.#selectors(), ...page }, signal, (object) => this.#sink.listItem(object))
        next = list.continue
      } while (next !== '')
    } catch (error) {
      this.#sink.listBroken()
      throw error
    }
    this.#complete(list.resourceVersion)
  }

  async #readList(
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    onObject: (object: KubeObject) => void,
    accept?: string,
  ): Promise<ListMetadata> {
    using silence = this.#silence(signal)
    const { path } = this.#resource
    const request = { path, query, signal: silence.signal, ...(accept !== undefined && { accept }) }
    const decoder = new ListDecoder()
    try {
      for await (const chunk of (await this.#client.get(request)) as AsyncIterable<Buffer>) {
        silence.rearm(this.#silenceMs)
        for (const item of decoder.push(chunk)) onObject(parseKubeObject(item))
      }
    } catch (error) {
      throw silence.reason ?? error
    }
    return decoder.end()
  }

  #complete(version: string | undefined): void {
    this.#sink.listed()
    this.#count.lists++
    this.#version = version
    if (version !== undefined) this.#notOlderThan = version
    this.#lastSign = this.#clock.monotonic()
    this.#synced = true
    this.#error = undefined
    this.#onStatus()
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const seconds = Math.ceil((this.#times.watchSeconds ?? 300) * (1 + Math.random()))
    const began = this.#clock.monotonic()
    using silence = this.#silence(signal)
    const deadline = this.#clock.after((seconds + 30) * 1000, () => silence.end('the server does not end its watch'))
    const initial = this.#version === undefined
    let relist = false
    this.#endWatch = () => {
      relist = true
      silence.end('listed anew')
    }
    let events = 0
    try {
      const response = await this.#client.get({
        path: this.#resource.path,
        query: this.#watchQuery(seconds, this.#version),
        signal: silence.signal,
      })
      this.#count.watches++
      // The list of a watch-list has to come at a pace, too.
      if (this.#bookmarksSeen || initial) silence.rearm(this.#silenceMs)
      else silence.disarm()
      if (!initial) this.#opened()
      events = await this.#readEvents(response, silence)
    } catch (error) {
      if (relist) return
      throw silence.reason ?? error
    } finally {
      this.#endWatch = undefined
      deadline.cancel()
      if (initial && this.#version === undefined) this.#sink.listBroken()
      if (relist) this.#version = undefined
    }
    if (this.#version === undefined) throw new ProtocolError('the watch ended within its list')
    if (events === 0 && this.#clock.monotonic() - began < 1000) throw new Error('the server ended a watch at once')
  }

  #watchQuery(seconds: number, version: string | undefined): Record<string, string> {
    const begin: Record<string, string> =
      version === undefined
        ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan', resourceVersion: this.#notOlderThan }
        : { resourceVersion: version }
    // "0" would let a server that is behind go first; a watch-list is cheap enough to ask for the newest (client-go does).
    if (begin['resourceVersion'] === '0') begin['resourceVersion'] = ''
    return {
      ...this.#selectors(),
      watch: 'true',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(seconds),
      ...begin,
    }
  }

  /** Reads a watch to its end; returns how many events it had. */
  async #readEvents(response: IncomingMessage, silence: Silence): Promise<number> {
    const decoder = new LineDecoder()
    let count = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      const batch: WatchEvent[] = []
      let failure: unknown
      try {
        for (const value of decoder.push(chunk)) {
          count++
          const event = parseWatchEvent(value)
          if (this.#version === undefined) this.#takeInitial(event)
          else batch.push(event)
        }
      } catch (error) {
        failure = error
      }
      // What came before an error counts.
      this.#takeEvents(batch)
      if (failure !== undefined) throw failure
      if (this.#bookmarksSeen || this.#version === undefined) silence.rearm(this.#silenceMs)
      else silence.disarm()
    }
    return count
  }

  #takeInitial(event: WatchEvent): void {
    if (event.kind === 'put') this.#sink.listItem(event.object)
    else if (event.kind !== 'bookmark') throw new ProtocolError('an object is deleted within a list')
    else if (event.end) {
      this.#complete(event.resourceVersion)
      this.#bookmarksSeen = true
      this.#opened()
    }
  }

  #takeEvents(batch: readonly WatchEvent[]): void {
    if (batch.length === 0) return
    this.#lastSign = this.#clock.monotonic()
    for (const event of batch) {
      if (event.kind === 'bookmark') {
        this.#bookmarksSeen = true
        this.#count.bookmarks++
        this.#advance(event.resourceVersion)
      } else {
        this.#count.events++
        this.#advance(event.object.metadata.resourceVersion)
      }
    }
    this.#sink.changed(batch.filter(({ kind }) => kind !== 'bookmark'))
  }

  /** Never back: a bookmark that comes late would make the next watch repeat what is known. */
  #advance(version: string): void {
    if (this.#version !== undefined && isNewerVersion(version, this.#version) === false) return
    this.#version = version
    this.#notOlderThan = version
  }

  #opened(): void {
    this.#connected = true
    this.#setError(undefined)
  }

  #setError(error: string | undefined): void {
    if (error === this.#error) return
    if (error === undefined)
      this.#log.info({ resource: this.#resource.name }, `${this.#resource.name} are followed again`)
    this.#error = error
    this.#onStatus()
  }

  #selectors(): Record<string, string> {
    const { labelSelector, fieldSelector } = this.#resource
    return {
      ...(labelSelector !== undefined && { labelSelector }),
      ...(fieldSelector !== undefined && this.#fieldSelector && { fieldSelector }),
    }
  }

  get #silenceMs(): number {
    return this.#times.silenceMs ?? 150_000
  }

  #silence(signal: AbortSignal): Silence {
    return new Silence({ clock: this.#clock, signal, ms: this.#silenceMs })
  }

  async #auditForever(signal: AbortSignal): Promise<void> {
    const { auditMs = 3_600_000, auditGraceMs = 5000 } = this.#times
    for (;;) {
      await pause(auditMs * (1 + Math.random() / 2), { clock: this.#clock, signal })
      if (signal.aborted) return
      if (!this.#connected) continue
      try {
        const lost = await auditVersions({
          list: async (onObject) => {
            await this.#readList({ ...this.#selectors(), resourceVersion: '0' }, signal, onObject, metadataOnly)
          },
          cached: () => this.#sink.versions(),
          grace: async () => await pause(auditGraceMs, { clock: this.#clock, signal }),
        })
        if (lost.length === 0) continue
        this.#count.auditFailures++
        const fields = { resource: this.#resource.name, objects: lost.slice(0, 10), count: lost.length }
        this.#log.warn(fields, `the watch of ${this.#resource.name} lost changes: listed anew`)
        this.#endWatch?.()
      } catch (error) {
        // The watch has its own words for a server that is away.
        this.#log.debug({ err: error, resource: this.#resource.name }, 'an audit could not be made')
      }
    }
  }
}

/** Names and versions are enough for an audit; a server that cannot leave the rest away sends it all. */
const metadataOnly = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json'
