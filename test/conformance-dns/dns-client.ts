import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { IpAddress } from '../../src/net/ip-address.ts'
import type { CaseQuery } from './dns-case.ts'

export interface ServerAddress {
  readonly address: IpAddress
  readonly port: number
}

/** Milliseconds. */
const patience = 12_000
const silence = 1000

/**
 * Asks once and waits; never asks again. `sent` is the message as it went out. `reply` is undefined when none came in time,
 * or when the connection ended without one.
 */
export async function ask(
  query: CaseQuery,
  server: ServerAddress,
): Promise<{ sent: Buffer; reply: Buffer | undefined }> {
  const sent = Buffer.from(query.message)
  if (!query.raw) sent.writeUInt16BE(randomInt(0x1_0000), 0)
  const wait = query.expect === 'silence' ? silence : patience
  const exchange = query.transport === 'udp' ? askUdp : askTcp
  return { sent, reply: await exchange(sent, { server, client: query.client, wait }) }
}

interface Exchange {
  readonly server: ServerAddress
  readonly client: IpAddress | undefined
  readonly wait: number
}

/** The socket is connected: a reply from another address than the asked one is not heard. */
async function askUdp(message: Buffer, { server, client, wait }: Exchange): Promise<Buffer | undefined> {
  const socket = createSocket(server.address.includes(':') ? 'udp6' : 'udp4')
  try {
    const bound = once(socket, 'listening')
    socket.bind({ port: 0, ...(client === undefined ? {} : { address: client }) })
    await bound
    const connected = once(socket, 'connect')
    socket.connect(server.port, server.address)
    await connected
    const reply = once(socket, 'message', { signal: AbortSignal.timeout(wait) })
    socket.send(message)
    const [bytes] = (await reply) as [Buffer]
    return bytes
  } catch (error) {
    if (isTimeout(error)) return undefined
    throw error
  } finally {
    socket.close()
  }
}

async function askTcp(message: Buffer, { server, client, wait }: Exchange): Promise<Buffer | undefined> {
  const local = client === undefined ? {} : { localAddress: client }
  const socket = connect({ host: server.address, port: server.port, ...local })
  const timer = setTimeout(() => socket.destroy(), wait)
  let received = Buffer.alloc(0)
  try {
    const length = Buffer.alloc(2)
    length.writeUInt16BE(message.length)
    socket.write(Buffer.concat([length, message]))
    for await (const chunk of socket) {
      received = Buffer.concat([received, chunk as Buffer])
      if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0))
        return received.subarray(2, 2 + received.readUInt16BE(0))
    }
    return undefined
  } catch (error) {
    // Destroyed by the timer, or closed by the server: no answer either way.
    if ((error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE') return undefined
    throw error
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError')
}
