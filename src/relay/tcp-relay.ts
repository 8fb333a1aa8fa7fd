import { once } from 'node:events'
import { createServer, Socket, type AddressInfo, type Server } from 'node:net'
import type { IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { BufferGuard } from './buffer-guard.ts'
import { originalDestination } from './original-destination.ts'
import type { Quota } from './quota.ts'
import type { Choose, Target } from './target.ts'

/** A connection that came in. */
export interface TcpClient extends Target {
  /** Where the client wanted to go, if the kernel redirected it here. Costs a system call. */
  originalDestination(): Target | undefined
}

export interface TcpRelayOptions {
  /** Port 0: any that is free. */
  readonly listen: { readonly ip: IpAddress; readonly port: number }
  readonly choose: Choose<TcpClient>
  /** Connections at a time, of all relays that share it. One more is closed at once. */
  readonly quota: Quota
  /** Bounds what all connections hold in memory together. @default none */
  readonly buffers?: BufferGuard
  /** How long a target may take to accept, in ms. @default 3000: one SYN may be lost */
  readonly connectTimeoutMs?: number
  /** Targets that are tried for one connection. @default 3 */
  readonly attempts?: number
  /** A connection on which nothing moves is closed after this, in ms. @default a day, as nf_conntrack_tcp_timeout_established of kube-proxy */
  readonly idleMs?: number
  /** The same when one side has said that it sends no more. @default an hour, as nf_conntrack_tcp_timeout_close_wait of kube-proxy */
  readonly halfClosedIdleMs?: number
}

const day = 86_400_000
/** Of each direction, in bytes: what waits in this process when one side is slower than the other. */
const bufferSize = 16_384

/**
 * Carries TCP connections to targets, byte for byte, both ways: a side that sends no more is heard so on the other
 * (half-close), a reset is passed on as one, and a slow reader slows the writer (backpressure).
 */
export class TcpRelay implements Disposable {
  readonly #server: Server
  readonly #options: TcpRelayOptions
  readonly #open = new Set<Socket>()
  #port = 0 as Port

  private constructor(options: TcpRelayOptions) {
    this.#options = options
    const settings = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true }
    this.#server = createServer({ ...settings, highWaterMark: bufferSize }, (client) => this.#accept(client))
  }

  /** Listens. Rejects with the error of listen(2). */
  static async open(options: TcpRelayOptions): Promise<TcpRelay> {
    const relay = new TcpRelay(options)
    const { ip, port } = options.listen
    relay.#server.listen({ host: ip, port, ipv6Only: true, backlog: 4096 })
    await once(relay.#server, 'listening')
    relay.#port = (relay.#server.address() as AddressInfo).port as Port
    // What a listening socket may still meet (EMFILE at accept) costs that connection, and is over.
    relay.#server.on('error', () => {})
    return relay
  }

  /** Where it listens, or did. */
  get port(): Port {
    return this.#port
  }

  /** Connections at this moment. */
  get connections(): number {
    return this.#open.size
  }

  /** Listens no more. With `abort`, connections are reset too; else they go on. */
  close(options: { readonly abort: boolean }): void {
    this.#server.close()
    if (options.abort) for (const client of this.#open) client.resetAndDestroy()
  }

  [Symbol.dispose](): void {
    this.close({ abort: true })
  }

  #accept(client: Socket): void {
    const { quota } = this.#options
    const { remoteAddress, remotePort } = client
    // Undefined: the client is gone already.
    if (remoteAddress === undefined || remotePort === undefined || !quota.take()) {
      client.resetAndDestroy()
      return
    }
    this.#open.add(client)
    client.on('close', () => {
      this.#open.delete(client)
      quota.give()
    })
    // Until there is a target to be told of it.
    client.on('error', () => {})
    const from: TcpClient = {
      ip: remoteAddress as IpAddress,
      port: remotePort as Port,
      originalDestination: () => originalDestination(client),
    }
    this.#connect(client, { from, failed: [] })
  }

  #connect(client: Socket, { from, failed }: { from: TcpClient; failed: readonly Target[] }): void {
    const { choose, connectTimeoutMs = 3000, attempts = 3 } = this.#options
    const target = failed.length < attempts ? choose(from, failed) : undefined
    if (!target || client.destroyed) {
      client.resetAndDestroy()
      return
    }
    const upstream = new Socket({ allowHalfOpen: true, ...highWaterMarks })
    const next = (): void => {
      upstream.destroy()
      this.#connect(client, { from, failed: [...failed, target] })
    }
    upstream.once('error', next)
    upstream.setTimeout(connectTimeoutMs, next)
    const giveUp = (): void => void upstream.destroy()
    client.once('close', giveUp)
    upstream.once('connect', () => {
      upstream.off('error', next)
      upstream.setTimeout(0)
      client.off('close', giveUp)
      this.#splice(client, upstream)
    })
    upstream.setNoDelay(true)
    upstream.setKeepAlive(true)
    upstream.connect(target.port, target.ip)
  }

  #splice(client: Socket, upstream: Socket): void {
    const { idleMs = day, halfClosedIdleMs = 3_600_000, buffers } = this.#options
    buffers?.watch(client, upstream)
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on('error', () => other.resetAndDestroy())
      // One that came to its end has ended the other's writing, which may still be under way.
      one.on('close', () => {
        if (!one.readableEnded) other.destroy()
      })
      one.once('end', () => client.setTimeout(halfClosedIdleMs))
      one.pipe(other)
    }
    client.setTimeout(idleMs, () => {
      client.destroy()
      upstream.destroy()
    })
  }
}

const highWaterMarks = { readableHighWaterMark: bufferSize, writableHighWaterMark: bufferSize }
