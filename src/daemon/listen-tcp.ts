import type { Server } from 'node:http'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { formatListen, type ListenAddress } from './listen-address.ts'

/** Makes a server listen; rejects with the error of listen(2). `reusePort`: beside other sockets of this user that say the same. */
export function listenTcp(
  server: Server,
  { host, port }: ListenAddress,
  { reusePort = false }: { readonly reusePort?: boolean } = {},
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, reusePort }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** The same as kube-proxy does: 0.0.0.0 means all addresses of both families (Go's net.Listen), where there are both. */
export async function listenAsGo(
  server: Server,
  address: ListenAddress,
  options: { readonly reusePort?: boolean } = {},
): Promise<void> {
  if (address.host !== '0.0.0.0') return listenTcp(server, address, options)
  try {
    await listenTcp(server, { ...address, host: '::' }, options)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL') throw error
    await listenTcp(server, address, options)
  }
}

/** A server whose port somebody else has is tried again after this long, ms: as long as kube-proxy waits. */
const retryMs = 5000

/** A server that is tried again until it listens. Dispose it to close it. */
export class PersistentServer implements AsyncDisposable {
  readonly address: ListenAddress
  readonly #server: Server
  readonly #what: string
  readonly #log: Log
  readonly #clock: Clock
  #retry: Timer | undefined
  #closed = false

  /** `what` names it in messages, like `healthzBindAddress`. */
  constructor(server: Server, options: { what: string; address: ListenAddress; log: Log; clock: Clock }) {
    this.#server = server
    this.address = options.address
    this.#what = options.what
    this.#log = options.log
    this.#clock = options.clock
  }

  /** Listens, or tries again later; with `hardFail` rejects instead. */
  async start(options: { readonly hardFail: boolean }): Promise<void> {
    try {
      await listenAsGo(this.#server, this.address)
      if (this.#closed) await closeServer(this.#server)
      else this.#log.info({ address: formatListen(this.address) }, `${this.#what}: listening`)
    } catch (error) {
      if (options.hardFail) throw error
      const { code } = error as NodeJS.ErrnoException
      const where = formatListen(this.address)
      this.#log.error(
        { err: error, retryInMs: retryMs },
        `${this.#what}: cannot listen on ${where}: ${code}; trying again`,
      )
      if (!this.#closed) this.#retry = this.#clock.after(retryMs, () => void this.start(options))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#retry?.cancel()
    await closeServer(this.#server)
  }
}

/** Closes a server and its connections. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
