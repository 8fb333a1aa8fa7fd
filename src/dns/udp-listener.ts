import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { Log } from '../base/log.ts'
import { type IpAddress, ipFamilyOf } from '../net/ip-address.ts'
import { ListenError } from './listen-error.ts'

/** Who sent a message. */
export interface Client {
  /** As the socket says it: canonical, a link-local one with its zone. */
  readonly address: string
  send(response: Buffer): void
}

/** Takes a message and answers with the client's `send`, at most once, now or later. False: it will not be answered. */
export type MessageHandler = (message: Uint8Array, client: Client) => boolean

export interface ListenerOptions {
  readonly address: IpAddress
  /** 0: chosen by the kernel. */
  readonly port: number
  readonly handle: MessageHandler
  readonly log: Log
}

/** A listening socket. */
export interface Listener extends AsyncDisposable {
  readonly port: number
}

/**
 * Listens on one address. One socket each: Node cannot choose the source address of a datagram (IP_PKTINFO), and a
 * client takes a reply only from the address that it asked. Throws {@link ListenError}.
 */
export async function listenUdp({ address, port, handle, log }: ListenerOptions): Promise<Listener> {
  const family = ipFamilyOf(address)
  const socket = createSocket({
    type: family === 4 ? 'udp4' : 'udp6',
    ipv6Only: family === 6,
    lookup: (host, _options, callback) => callback(null, host, family),
  })
  // Asked for before: with a lookup that answers at once, bind() emits the event before it returns.
  const listening = once(socket, 'listening')
  socket.bind({ port, address, exclusive: true })
  try {
    await listening
  } catch (error) {
    throw new ListenError({ transport: 'udp', address, port }, error as Error)
  }
  socket.on('error', (error) => log.warn({ error, address }, 'The DNS socket reported an error'))
  socket.on('message', (message, client) => {
    handle(message, { address: client.address, send: (response) => sendTo(socket, response, { client, log }) })
  })
  return {
    port: socket.address().port,
    async [Symbol.asyncDispose]() {
      await closed((done) => socket.close(done))
    },
  }
}

function sendTo(
  socket: Socket,
  response: Buffer,
  { client, log }: { readonly client: { readonly address: string; readonly port: number }; readonly log: Log },
): void {
  try {
    socket.send(response, client.port, client.address, (error) => {
      // The client is gone or unreachable: it will ask again, if it still wants to know.
      if (error) log.debug({ error, client }, 'A DNS response could not be sent')
    })
  } catch (error) {
    // An answer from upstream that came after the socket was closed, or a client that claims port 0.
    log.debug({ error, client }, 'A DNS response could not be sent')
  }
}

function closed(close: (done: () => void) => void): Promise<void> {
  return new Promise((resolve) => close(resolve))
}
