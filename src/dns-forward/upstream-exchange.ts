import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { ipFamilyOf } from '../net/ip-address.ts'
import { MessageError } from '../dns-message/message-error.ts'
import type { Question } from '../dns-message/query.ts'
import { parseReply, type Reply } from '../dns-message/reply.ts'
import type { Upstream } from './upstream.ts'

export interface ExchangeOptions {
  readonly upstream: Upstream
  readonly question: Question
  readonly id: number
  readonly signal: AbortSignal
}

/**
 * Sends a request over UDP from a socket of its own and waits for the reply that belongs to it. RFC 5452: the source
 * port is random (a new socket, chosen by the kernel), the socket is connected so that only the asked server is heard,
 * and a message with another id or question is ignored: the wait goes on. Rejects when aborted, and at once when the
 * server's host refuses.
 */
export function exchangeUdp(request: Uint8Array, options: ExchangeOptions): Promise<Reply> {
  const { upstream, signal } = options
  const family = ipFamilyOf(upstream.address)
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const socket = createSocket({ type: family === 4 ? 'udp4' : 'udp6', lookup: asItIs })
  const onAbort = () => finish(() => reject(abortReason(signal)))
  let finished = false
  const finish = (settle: () => void) => {
    if (finished) return
    finished = true
    signal.removeEventListener('abort', onAbort)
    socket.close()
    settle()
  }
  socket.on('error', (error) => finish(() => reject(error)))
  socket.on('message', (message) => {
    const reply = readMatching(message, options)
    if (reply) finish(() => resolve(reply))
  })
  if (signal.aborted) onAbort()
  else {
    signal.addEventListener('abort', onAbort, { once: true })
    // Node hands an error of connect(2) to this callback, although its types do not say so.
    socket.connect(upstream.port, upstream.address, (error?: Error) => {
      if (error) finish(() => reject(error))
      else if (!finished) socket.send(request, (error) => error && finish(() => reject(error)))
    })
  }
  return promise
}

/** Sends a request over a TCP connection of its own. Rejects when aborted or when the connection ends without the reply. */
export function exchangeTcp(request: Uint8Array, options: ExchangeOptions): Promise<Reply> {
  const { upstream, signal } = options
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const socket = connect({ host: upstream.address, port: upstream.port, signal })
  let received = Buffer.alloc(0)
  socket.on('error', reject)
  socket.on('close', () => reject(new MessageError('connection ended before the reply', received.length)))
  socket.on('connect', () => {
    const length = Buffer.allocUnsafe(2)
    length.writeUInt16BE(request.length, 0)
    socket.write(Buffer.concat([length, request]))
  })
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk])
    if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return
    const reply = readMatching(received.subarray(2, 2 + received.readUInt16BE(0)), options)
    if (reply) resolve(reply)
    else reject(new MessageError('reply does not belong to the question', 0))
    socket.destroy()
  })
  return promise
}

/** The reply that the message is, if it is one to this question. */
export function readMatching(message: Uint8Array, { id, question }: ExchangeOptions): Reply | undefined {
  try {
    const reply = parseReply(message)
    if (reply.id !== id) return undefined
    // RFC 6891 section 7: who does not know EDNS may answer FORMERR with a header only.
    if (!reply.question) return reply
    const { name, type, class: questionClass } = reply.question
    const same = name.key === question.name.key && type === question.type && questionClass === question.class
    return same ? reply : undefined
  } catch (error) {
    // Anybody can send garbage; the true reply may still come.
    if (error instanceof MessageError) return undefined
    throw error
  }
}

/** Addresses need no lookup; Node would make a thread pool request of each. */
function asItIs(
  address: string,
  _options: unknown,
  callback: (error: NodeJS.ErrnoException | null, address: string, family: number) => void,
): void {
  callback(null, address, address.includes(':') ? 6 : 4)
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error('aborted', { cause: signal.reason })
}
