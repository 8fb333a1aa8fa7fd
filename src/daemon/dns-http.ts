import type { Log } from '../base/log.ts'
import type { CoreDnsMetrics } from './coredns-metrics.ts'
import { createHttpServer, type Routes } from './http-server.ts'
import { formatListen, type ListenAddress } from './listen-address.ts'
import { closeServer, listenAsGo } from './listen-tcp.ts'

/** A port of a DNS server that is not for DNS could not be had. The message is for the user. */
export class DnsHttpError extends Error {
  override readonly name = 'DnsHttpError'
}

export interface DnsHttpOptions {
  readonly metrics: CoreDnsMetrics
  /** What is waited for; empty: the server is ready. */
  readonly waitingFor: () => readonly string[]
  /** Whether another server of this user may have the same ports for a while, as CoreDNS lets it; default false. */
  readonly joins?: boolean
  readonly log: Log
}

/** CoreDNS's servers beside DNS. */
export type DnsHttpKind = 'metrics' | 'ready' | 'health'

/** Where CoreDNS's servers beside DNS listen, and what asks for it: the key or the line of a file, for messages. */
export interface DnsHttpAddress {
  readonly kind: DnsHttpKind
  readonly listen: ListenAddress
  readonly key: string
}

/** `/metrics`, `/ready` and `/health` as CoreDNS has them, on the ports that are wanted. Dispose it to close them. */
export class DnsHttp implements AsyncDisposable {
  readonly #options: DnsHttpOptions
  readonly #open = new Map<string, { readonly close: () => Promise<void> }>()
  #ending = false

  constructor(options: DnsHttpOptions) {
    this.#options = options
  }

  /** Listens there, and no longer anywhere else. Throws {@link DnsHttpError} and changes nothing when a new port is taken. */
  async configure(addresses: readonly DnsHttpAddress[]): Promise<void> {
    const wanted = new Map(addresses.map((address) => [`${address.kind} ${formatListen(address.listen)}`, address]))
    await using fresh = new AsyncDisposableStack()
    const opened = new Map<string, { close: () => Promise<void> }>()
    for (const [id, address] of wanted) {
      if (this.#open.has(id)) continue
      const server = createHttpServer(this.#routes(address.kind), (error) => {
        this.#options.log.error({ err: error }, `${address.key}: cannot answer`)
      })
      try {
        await listenAsGo(server, address.listen, { reusePort: this.#options.joins ?? false })
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        const why = code === 'EADDRINUSE' ? 'another program already listens there' : code
        throw new DnsHttpError(`${address.key}: cannot listen on ${formatListen(address.listen)}: ${why}`, {
          cause: error,
        })
      }
      fresh.defer(() => closeServer(server))
      opened.set(id, { close: () => closeServer(server) })
    }
    fresh.move()
    for (const [id, { close }] of this.#open) {
      if (wanted.has(id)) continue
      this.#open.delete(id)
      await close()
    }
    for (const [id, server] of opened) this.#open.set(id, server)
  }

  /** From now on not ready: whoever sends clients here shall stop, while they are still answered. */
  end(): void {
    this.#ending = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ close }) => close()))
    this.#open.clear()
  }

  #routes(kind: DnsHttpAddress['kind']): Routes {
    const { registry } = this.#options.metrics
    switch (kind) {
      case 'metrics':
        return { 'GET /metrics': async () => ({ text: await registry.metrics(), type: registry.contentType }) }
      case 'ready':
        return {
          'GET /ready': () => {
            if (this.#ending) return { status: 503, text: 'Shutting down' }
            const waiting = this.#options.waitingFor()
            return waiting.length === 0 ? { text: 'OK' } : { status: 503, text: waiting.join(',') }
          },
        }
      case 'health':
        return { 'GET /health': () => ({ text: 'OK' }) }
      default:
        return kind satisfies never
    }
  }
}
