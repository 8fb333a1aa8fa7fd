import { connect, type TLSSocket } from 'node:tls'
import type { Log } from '../base/log.ts'
import { MessageError } from '../dns-message/message-error.ts'
import { read16 } from '../dns-message/query.ts'
import type { Reply } from '../dns-message/reply.ts'
import type { Upstream } from './upstream.ts'
import { type ExchangeOptions, readMatching } from './upstream-exchange.ts'

/** Milliseconds without a question in flight until a connection is closed (RFC 7858 section 3.4). */
const idleTime = 10_000

interface Connection {
  readonly socket: TLSSocket
  readonly waiting: Map<number, { readonly options: ExchangeOptions; readonly settle: (reply: Reply | Error) => void }>
  received: Buffer
  /** Questions of the time before the certificate was seen; then undefined. */
  unsent: Buffer[] | undefined
}

/**
 * DNS over TLS (RFC 7858): one connection per resolver, many questions on it, kept while it is used. The certificate must be of
 * the resolver's name, or of its address when no name is given (RFC 8310, strict).
 */
export class TlsConnections implements Disposable {
  readonly #connections = new Map<string, Connection>()
  readonly #log: Log
  readonly #ca: string | undefined

  /** `ca`: PEM of the authorities to trust; default: Node's. */
  constructor(options: { readonly log: Log; readonly ca?: string | undefined }) {
    this.#log = options.log
    this.#ca = options.ca
  }

  /** Rejects when aborted, when the connection cannot be made or ends, and when the certificate is not the resolver's. */
  exchange(request: Uint8Array, options: ExchangeOptions): Promise<Reply> {
    const { promise, resolve, reject } = Promise.withResolvers<Reply>()
    const { signal, upstream } = options
    let connection = this.#connections.get(upstream.key)
    // An id that waits already would get the other one's answer.
    if (!connection || connection.waiting.has(options.id)) connection = this.#connect(upstream)
    const { socket, waiting } = connection
    const onAbort = () => settle(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
    const settle = (reply: Reply | Error) => {
      signal.removeEventListener('abort', onAbort)
      waiting.delete(options.id)
      if (reply instanceof Error) reject(reply)
      else resolve(reply)
    }
    waiting.set(options.id, { options, settle })
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
    const length = Buffer.allocUnsafe(2)
    length.writeUInt16BE(request.length, 0)
    const framed = Buffer.concat([length, request])
    if (connection.unsent) connection.unsent.push(framed)
    else socket.write(framed)
    return promise
  }

  [Symbol.dispose](): void {
    for (const { socket } of this.#connections.values()) socket.destroy(new Error('the DNS server stops'))
    this.#connections.clear()
  }

  #connect(upstream: Upstream): Connection {
    const { address, port, key, tls } = upstream
    const socket = connect({
      host: address,
      port,
      // Node checks the certificate against the name, and against the address when there is none.
      ...(tls?.serverName === undefined ? {} : { servername: tls.serverName }),
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
    })
    const connection: Connection = { socket, waiting: new Map(), received: Buffer.alloc(0), unsent: [] }
    this.#connections.set(key, connection)
    socket.on('secureConnect', () => {
      socket.write(Buffer.concat(connection.unsent ?? []))
      connection.unsent = undefined
    })
    socket.setNoDelay()
    socket.setTimeout(idleTime, () => socket.destroy())
    socket.on('data', (chunk) => takeReplies(connection, chunk))
    let failure: Error | undefined
    socket.on('error', (error) => {
      failure = error
      this.#log.debug({ error, upstream: key }, 'A TLS connection to a resolver broke')
    })
    socket.on('close', () => {
      if (this.#connections.get(key) === connection) this.#connections.delete(key)
      const error = failure ?? new MessageError('connection ended before the reply', 0)
      for (const { settle } of connection.waiting.values()) settle(error)
    })
    return connection
  }
}

/** Cuts the stream into messages and gives each to who waits for it. What belongs to nobody is passed over. */
function takeReplies(connection: Connection, chunk: Buffer): void {
  connection.received = connection.received.length === 0 ? chunk : Buffer.concat([connection.received, chunk])
  while (connection.received.length >= 2) {
    const end = 2 + connection.received.readUInt16BE(0)
    if (connection.received.length < end) return
    const message = Buffer.from(connection.received.subarray(2, end))
    connection.received = connection.received.subarray(end)
    const waiting = connection.waiting.get(read16(message, 0))
    const reply = waiting && readMatching(message, waiting.options)
    if (reply) waiting.settle(reply)
  }
}
