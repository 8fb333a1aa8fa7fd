import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'

/** How many connections a listener keeps. */
export interface ConnectionLimits {
  /** Of clients that have not said yet who they are: the oldest is closed for a new one, so that nobody can shut others out. */
  readonly maxStrangers: number
  /** All together; further ones are closed at once. */
  readonly maxConnections: number
}

/**
 * Watches over the connections of a listener, from accept(2) on: those within a TLS handshake are no HTTP connections yet, and
 * Node's own `closeAllConnections()` misses them. Afterwards that method closes all of them. Returns what tells that the client of
 * a request is known.
 */
export function guardConnections(server: Server, limits: ConnectionLimits): (request: IncomingMessage) => void {
  server.maxConnections = limits.maxConnections
  const sockets = new Set<Socket>()
  const strangers = new Map<Socket | string, Socket>()
  server.on('connection', (socket: Socket) => {
    const key = keyOf(socket)
    sockets.add(socket)
    strangers.set(key, socket)
    socket.on('close', () => {
      sockets.delete(socket)
      if (strangers.get(key) === socket) strangers.delete(key)
    })
    if (strangers.size <= limits.maxStrangers) return
    const [oldest] = strangers.values()
    oldest?.destroy()
  })
  const closeHttp = server.closeAllConnections.bind(server)
  server.closeAllConnections = () => {
    closeHttp()
    for (const socket of sockets) socket.destroy()
  }
  return ({ socket }) => void strangers.delete(keyOf(socket))
}

/** A connection over TLS has two sockets, which have its addresses in common; one over a unix socket has none. */
function keyOf(socket: Socket): Socket | string {
  return socket.remotePort === undefined ? socket : `${socket.remoteAddress} ${socket.remotePort}`
}
