import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An object of the fake: what is wanted plus metadata. */
export interface FakeObject {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [key: string]: unknown }
  readonly [key: string]: unknown
}

interface Stored {
  readonly key: string
  readonly version: number
  readonly object: FakeObject
}

interface Happening {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly stored: Stored
}

/** How the fake answers one request in place of its normal answer; true: it did. */
export type Fault = (request: URL, response: ServerResponse) => boolean

/** An open watch, for a test to spoil. */
export interface FakeWatch {
  readonly url: URL
  readonly response: ServerResponse
}

/**
 * A Kubernetes API server for tests: lists with pages, watches, watch-lists and bookmarks over real HTTP, for any path.
 * Its answers can be replaced by faults, and its watches are open to be written to and cut.
 */
export class FakeApiServer implements AsyncDisposable {
  /** Answers of the next requests that a fault takes; each stays until the test removes it. */
  readonly faults: Fault[] = []
  readonly requests: URL[] = []
  readonly headers: IncomingMessage['headers'][] = []
  readonly watches = new Set<FakeWatch>()
  /** Whether `sendInitialEvents` is known; otherwise refused as the real one does. */
  watchList = true
  /** Whether changes reach watches. */
  muted = false
  version = 100
  readonly #kinds = new Map<string, Map<string, Stored>>()
  readonly #history = new Map<string, Happening[]>()
  #oldest = 0
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
    server.on('request', (request: IncomingMessage, response: ServerResponse) => this.#answer(request, response))
  }

  /** `server` can be one of node:https; `listen` makes it listen elsewhere than on a free port of 127.0.0.1. */
  static async start(
    server: Server = createServer(),
    listen = (waiting: Server): unknown => waiting.listen(0, '127.0.0.1'),
  ): Promise<FakeApiServer> {
    const fake = new FakeApiServer(server)
    const listening = once(server, 'listening')
    listen(server)
    await listening
    return fake
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Creates or replaces an object of the resource at `path`. */
  put(path: string, object: FakeObject): void {
    const key = keyOf(object)
    const kind = this.#kind(path)
    const version = ++this.version
    const metadata = { ...object.metadata, resourceVersion: String(version) }
    const stored: Stored = { key, version, object: { ...object, metadata } }
    const type = kind.has(key) ? 'MODIFIED' : 'ADDED'
    kind.set(key, stored)
    this.#happen(path, { type, stored })
  }

  /** `key` is `namespace/name`, or a name. */
  delete(path: string, key: string): void {
    const before = this.#kind(path).get(key)
    if (!before) throw new Error(`there is no ${key}`)
    this.#kind(path).delete(key)
    const version = ++this.version
    const object = { ...before.object, metadata: { ...before.object.metadata, resourceVersion: String(version) } }
    this.#happen(path, { type: 'DELETED', stored: { key, version, object } })
  }

  /** What it has, as `key@version`, sorted. */
  content(path: string): string[] {
    return [...this.#kind(path).values()].map(({ key, version }) => `${key}@${version}`).toSorted()
  }

  /** Forgets the past: a watch from before it is answered with 410. */
  compact(): void {
    this.#oldest = this.version
  }

  /** Ends the connections of all watches, in the middle of an object if `torn`. */
  cut({ torn = false } = {}): void {
    for (const { response } of this.watches) {
      if (torn) response.write('{"type":"MODIFIED","object":{"metadata":{"name":"to')
      setImmediate(() => response.destroy())
    }
    this.watches.clear()
  }

  bookmark(version = this.version): void {
    for (const { url, response } of this.watches) writeBookmark(url.pathname, response, String(version))
  }

  /** Sends text to all watches. */
  say(text: string): void {
    for (const { response } of this.watches) response.write(text)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://fake')
    this.requests.push(url)
    this.headers.push(request.headers)
    if (this.faults.some((fault) => fault(url, response))) return
    if (url.searchParams.get('watch') === 'true') this.#watch(url, response)
    else this.#list(url, response)
  }

  #list(url: URL, response: ServerResponse): void {
    const items = [...this.#kind(url.pathname).values()]
    const limit = Number(url.searchParams.get('limit') ?? items.length)
    const from = Number(url.searchParams.get('continue') ?? 0)
    const next = from + limit < items.length ? String(from + limit) : undefined
    const body = {
      kind: 'ThingList',
      apiVersion: 'v1',
      metadata: { resourceVersion: String(this.version), ...(next !== undefined && { continue: next }) },
      items: items.slice(from, from + limit).map(({ object }) => object),
    }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }

  #watch(url: URL, response: ServerResponse): void {
    const { searchParams: query, pathname: path } = url
    if (query.has('sendInitialEvents') && !this.watchList) {
      sendStatus(response, 422, 'Invalid', 'sendInitialEvents: Forbidden: unless the WatchList feature gate is enabled')
      return
    }
    const from = Number(query.get('resourceVersion') ?? 0)
    const begun = !query.has('sendInitialEvents')
    if (begun && from < this.#oldest) {
      sendStatus(response, 410, 'Expired', `too old resource version: ${from} (${this.#oldest})`)
      return
    }
    if (from > this.version) {
      sendStatus(response, 504, 'Timeout', `Too large resource version: ${from}, current: ${this.version}`)
      return
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    if (begun) {
      for (const happening of this.#history.get(path) ?? []) {
        if (happening.stored.version > from) writeEvent(response, happening)
      }
    } else {
      for (const stored of this.#kind(path).values()) writeEvent(response, { type: 'ADDED', stored })
      writeBookmark(path, response, String(this.version), { 'k8s.io/initial-events-end': 'true' })
    }
    const watch = { url, response }
    this.watches.add(watch)
    response.on('close', () => this.watches.delete(watch))
  }

  #happen(path: string, happening: Happening): void {
    const history = this.#history.get(path) ?? []
    this.#history.set(path, history)
    history.push(happening)
    if (this.muted) return
    for (const { url, response } of this.watches) if (url.pathname === path) writeEvent(response, happening)
  }

  #kind(path: string): Map<string, Stored> {
    const kind = this.#kinds.get(path) ?? new Map<string, Stored>()
    this.#kinds.set(path, kind)
    return kind
  }
}

/** Answers with a `Status` object, as the API server does. */
export function sendStatus(response: ServerResponse, code: number, reason: string, message: string): true {
  const body = { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message }
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  return true
}

function writeEvent(response: ServerResponse, { type, stored }: Happening): void {
  response.write(`${JSON.stringify({ type, object: stored.object })}\n`)
}

function writeBookmark(path: string, response: ServerResponse, version: string, annotations?: object): void {
  const object = { kind: path, metadata: { resourceVersion: version, ...(annotations && { annotations }) } }
  response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
}

function keyOf({ metadata }: FakeObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`
}
