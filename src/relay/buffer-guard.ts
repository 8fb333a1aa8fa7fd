import type { Socket } from 'node:net'

/** A connection: the client's socket and the target's. */
interface Pair {
  readonly client: Socket
  readonly upstream: Socket
  /** Bytes that both had taken at the last look. */
  delivered: number
}

/** What one connection may hold when its reader has stopped, in bytes: libuv reads 64 KiB at a time, and streams keep two. */
const mostOfOne = 300_000
const interval = 1000

/**
 * Bounds the memory of relayed connections together. Each holds little, but ten thousand whose readers have stopped hold
 * gigabytes: once a second, when all of them hold more than the limit, those that hold most and take nothing are reset.
 */
export class BufferGuard {
  readonly limit: number
  readonly #pairs = new Set<Pair>()
  #timer: NodeJS.Timeout | undefined

  /** In bytes. */
  constructor(limit: number) {
    this.limit = limit
  }

  /** Counts a connection in, until its client's socket is closed. */
  watch(client: Socket, upstream: Socket): void {
    const pair = { client, upstream, delivered: -1 }
    this.#pairs.add(pair)
    client.on('close', () => this.#pairs.delete(pair))
    // Fewer cannot come to that much.
    if (this.#pairs.size * mostOfOne <= this.limit) return
    this.#timer ??= setInterval(() => this.#look(), interval).unref()
  }

  #look(): void {
    if (this.#pairs.size * mostOfOne <= this.limit) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    let total = 0
    const stalled: { readonly pair: Pair; readonly held: number }[] = []
    for (const pair of this.#pairs) {
      const held = heldBy(pair.client) + heldBy(pair.upstream)
      const delivered = deliveredTo(pair.client) + deliveredTo(pair.upstream)
      total += held
      if (held > 0 && delivered === pair.delivered) stalled.push({ pair, held })
      pair.delivered = delivered
    }
    if (total <= this.limit) return
    for (const { pair, held } of stalled.sort((a, b) => b.held - a.held)) {
      if (total <= this.limit) break
      total -= held
      pair.client.resetAndDestroy()
      pair.upstream.resetAndDestroy()
    }
  }
}

function heldBy(socket: Socket): number {
  return socket.readableLength + socket.writableLength
}

function deliveredTo(socket: Socket): number {
  return socket.bytesWritten - socket.writableLength
}
