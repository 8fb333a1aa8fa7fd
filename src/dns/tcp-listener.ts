import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { ListenError } from './listen-error.ts'
import { headerSize } from '../dns-message/query.ts'
import type { Listener, ListenerOptions } from './udp-listener.ts'

export interface TcpListenerOptions extends ListenerOptions {
  /** Connections at a time, more are closed at once; default 1024. */
  readonly maxConnections?: number
  /** Of these, those of one address; default a quarter, so that one client cannot keep out all others. */
  readonly maxPerClient?: number
  /** Milliseconds without a whole query until a connection is closed (RFC 7766 section 6.2.3); default 10000. */
  readonly idleTimeout?: number
  /** Whether other sockets of this user may be at the same address (SO_REUSEPORT), now or later; default false. */
  readonly reusePort?: boolean
  readonly clock?: Clock
}

/** Queries of one connection that are answered at a time; then it is not read until some are done. */
const maxPipelined = 128

/**
 * Listens on one address. RFC 7766: many queries per connection, answered as they get ready, in any order. Throws
 * {@link ListenError}.
 */
export async function listenTcp(options: TcpListenerOptions): Promise<Listener> {
  const { address, port, log } = options
  const sockets = new Set<Socket>()
  const maxConnections = options.maxConnections ?? 1024
  const maxPerClient = options.maxPerClient ?? Math.max(1, Math.ceil(maxConnections / 4))
  const perClient = new Map<string, number>()
  // Half open: a client may end its side and still wait for answers.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const client = socket.remoteAddress ?? ''
    const count = (perClient.get(client) ?? 0) + 1
    if (count > maxPerClient) {
      log.debug({ client }, 'Too many DNS connections of one client: one was closed')
      socket.destroy()
      return
    }
    perClient.set(client, count)
    sockets.add(socket)
    socket.on('close', () => {
      sockets.delete(socket)
      const left = (perClient.get(client) ?? 1) - 1
      if (left > 0) perClient.set(client, left)
      else perClient.delete(client)
    })
    serveConnection(socket, options)
  })
  server.maxConnections = maxConnections
  server.on('drop', (client) => log.debug({ client }, 'Too many DNS connections: one was closed'))
  server.listen({
    port,
    host: address,
    ipv6Only: ipFamilyOf(address) === 6,
    exclusive: true,
    reusePort: options.reusePort ?? false,
  })
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new ListenError({ transport: 'tcp', address, port }, error as Error)
  }
  server.on('error', (error) => log.warn({ error, address }, 'The DNS listener reported an error'))
  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound ? bound.port : port,
    async [Symbol.asyncDispose]() {
      const done = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await done
    },
  }
}

/** Reads queries from one connection and writes the responses. */
function serveConnection(socket: Socket, options: TcpListenerOptions): void {
  const { handle, log, clock = systemClock, idleTimeout = 10_000 } = options
  // Asked for now: a socket that was closed has none.
  const address = socket.remoteAddress ?? ''
  const reader = new FrameReader()
  let running = 0
  let ended = false
  let timer: Timer | undefined
  // Started again by whole queries and by responses only: a client that sends a byte now and then does not hold a place.
  const restartTimer = () => {
    timer?.cancel()
    timer = clock.after(idleTimeout, () => socket.destroy())
  }
  // A client that sends but does not read must not fill our memory with responses.
  const isBusy = () => running >= maxPipelined || socket.writableNeedDrain
  const takeQueries = () => {
    while (!socket.destroyed && !isBusy()) {
      const message = reader.next()
      if (message === undefined) break
      // No query is shorter than its header: whatever speaks here, it is not DNS.
      if (message.length < headerSize) socket.destroy()
      else takeQuery(message)
    }
    if (isBusy()) socket.pause()
    else socket.resume()
    if (ended && running === 0 && !socket.writableNeedDrain) socket.end()
  }
  const takeQuery = (message: Uint8Array) => {
    restartTimer()
    running++
    let later = false
    const send = (response: Buffer) => {
      running--
      if (socket.writable) socket.write(framed(response))
      restartTimer()
      // The loop of takeQueries goes on by itself when the answer was there at once.
      if (later) takeQueries()
    }
    const willAnswer = handle(message, { address, send })
    later = true
    if (!willAnswer) running--
  }
  socket.on('data', (chunk) => {
    reader.push(chunk)
    takeQueries()
  })
  socket.on('drain', takeQueries)
  socket.on('end', () => {
    ended = true
    takeQueries()
  })
  socket.on('close', () => timer?.cancel())
  socket.on('error', (error) => log.debug({ error }, 'A DNS connection broke'))
  restartTimer()
}

/** Cuts a byte stream into messages with a two-byte length before each (RFC 1035 section 4.2.2). */
class FrameReader {
  #received: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
  }

  /** The next whole message, as a copy: its answer may come much later than the next chunk. */
  next(): Buffer | undefined {
    if (this.#received.length < 2) return undefined
    const end = 2 + this.#received.readUInt16BE(0)
    if (this.#received.length < end) return undefined
    const message = Buffer.from(this.#received.subarray(2, end))
    this.#received = this.#received.subarray(end)
    return message
  }
}

function framed(response: Buffer): Buffer {
  const message = Buffer.allocUnsafe(response.length + 2)
  message.writeUInt16BE(response.length, 0)
  response.copy(message, 2)
  return message
}
