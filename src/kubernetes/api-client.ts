import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import { ApiError } from './api-error.ts'
import type { ClusterAccess, RequestAccess } from './cluster-access.ts'

/** One GET. */
export interface ApiRequest {
  /** `/api/v1/services` */
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** @default application/json */
  readonly accept?: string
}

/** One write, and its answer is read to the end. */
export interface ApiWrite {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: { readonly type: string; readonly value: unknown }
  readonly signal: AbortSignal
}

/** Until an answer begins, ms. */
const headerTimeoutMs = 30_000
/** Of an error's body, more is not read. */
const errorLimit = 64 * 1024

/**
 * Asks an API server. Each list and watch has its own connection and its own credentials: there are a few per minute, and one that
 * hangs or whose certificate was replaced stands in nobody's way. Writes share a few connections. Dispose it to close them.
 */
export class ApiClient implements Disposable {
  readonly #access: ClusterAccess
  readonly #writers = new Agent({ keepAlive: true, maxSockets: 4 })
  readonly #userAgent: string

  constructor(access: ClusterAccess, options: { readonly userAgent: string }) {
    this.#access = access
    this.#userAgent = options.userAgent
  }

  /** The body of a successful answer. Throws {@link ApiError}, AccessError, or the error of the connection. */
  async get(request: ApiRequest): Promise<IncomingMessage> {
    const first = await this.#send(request, await this.#access.read())
    if (first.statusCode !== 401) return await succeed(first)
    first.destroy()
    this.#access.refused()
    return await succeed(await this.#send(request, await this.#access.read()))
  }

  /** The object that answers a write. Throws {@link ApiError}, AccessError, or the error of the connection. */
  async write(write: ApiWrite): Promise<unknown> {
    const request = { query: {}, ...write }
    const first = await this.#sendAgain(request, await this.#access.read())
    if (first.statusCode !== 401) return JSON.parse(await readText(await succeed(first)))
    first.resume()
    this.#access.refused()
    return JSON.parse(await readText(await succeed(await this.#send(request, await this.#access.read()))))
  }

  [Symbol.dispose](): void {
    this.#writers.destroy()
  }

  /** A connection that lay idle may have been closed by the server in this moment: nothing was lost but the connection. */
  async #sendAgain(request: Sent, access: RequestAccess): Promise<IncomingMessage> {
    try {
      return await this.#send(request, access)
    } catch (error) {
      if (!(error instanceof ReusedConnectionError)) throw error
      return await this.#send(request, access)
    }
  }

  async #send(request: Sent, access: RequestAccess): Promise<IncomingMessage> {
    const { server, authorization, tls } = access
    const { method = 'GET', body } = request
    const text = body && JSON.stringify(body.value)
    const url = new URL(server.pathname.replace(/\/$/, '') + request.path, server)
    for (const [name, value] of Object.entries(request.query)) url.searchParams.set(name, value)
    const options: RequestOptions = {
      agent: request.method !== undefined && url.protocol === 'https:' ? this.#writers : false,
      method,
      signal: request.signal,
      headers: {
        ...(text !== undefined &&
          body && { 'content-type': body.type, 'content-length': String(Buffer.byteLength(text)) }),
        accept: request.accept ?? 'application/json',
        'user-agent': this.#userAgent,
        ...(authorization !== undefined && { authorization }),
      },
    }
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = url.protocol === 'https:' ? httpsRequest(url, { ...options, ...tls }) : httpRequest(url, options)
      const timer = setTimeout(() => {
        sent.destroy(new Error(`no answer from ${server.host} in ${headerTimeoutMs / 1000} s`))
      }, headerTimeoutMs)
      // A dead peer is noticed by the kernel even where nothing is to be said for minutes.
      sent.on('socket', (socket) => socket.setKeepAlive(true, 15_000))
      sent.on('response', (response) => {
        clearTimeout(timer)
        resolve(response)
      })
      sent.on('error', (error) => {
        clearTimeout(timer)
        const isReset = (error as NodeJS.ErrnoException).code === 'ECONNRESET' && sent.reusedSocket
        reject(isReset ? new ReusedConnectionError(error.message, { cause: error }) : error)
      })
      sent.end(text)
    })
  }
}

type Sent = ApiRequest & Partial<Pick<ApiWrite, 'method' | 'body'>>

/** The server closed a connection that was kept from an earlier write. */
class ReusedConnectionError extends Error {
  override readonly name = 'ReusedConnectionError'
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** Redirects are not followed: the token would go along. */
async function succeed(response: IncomingMessage): Promise<IncomingMessage> {
  const status = response.statusCode ?? 0
  if (status === 200 || status === 201) return response
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    length += chunk.length
    if (length > errorLimit) break
  }
  const text = Buffer.concat(chunks).toString()
  const wait = Number(response.headers['retry-after'])
  throw ApiError.fromStatus(parseOrUndefined(text), {
    status,
    text: text.slice(0, 200).trim() || (response.statusMessage ?? ''),
    retryAfterMs: Number.isFinite(wait) && wait > 0 ? wait * 1000 : undefined,
  })
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Proxies in between answer with HTML.
    return undefined
  }
}
