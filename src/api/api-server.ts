import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { randomUUID } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ApiError } from './api-error.ts'
import { createApiHandler, type Role } from './api-handler.ts'
import { createBuiltInObjects } from './built-in-objects.ts'
import type { ServerCertificate } from './certificate.ts'
import { guardConnections, type ConnectionLimits } from './guard-connections.ts'
import { openJournal } from './journal.ts'
import { KubeApi } from './kube-api.ts'
import { ObjectStore } from './object-store.ts'
import { ServiceClaims, type ClaimOptions } from './service-claims.ts'
import { WatchHub } from './watch-objects.ts'

/** How an API server is opened. */
export interface ApiServerOptions {
  /** The SQLite file of the objects; `:memory:` keeps nothing. */
  readonly file: string
  /** Where Services get their addresses and ports. */
  readonly claims: ClaimOptions
  readonly clock: Clock
  readonly log: Log
  /** Of the program. */
  readonly version: string
  /** @default 1000 */
  readonly maxWatchers?: number
  /** Who sends no whole request within this time is sent away, ms. @default 20000 */
  readonly patienceMs?: number
}

/** Of one listener. */
const limits: ConnectionLimits = { maxStrangers: 1000, maxConnections: 4000 }

/** Between the name of the file of the objects and a number: a copy of it that is being sent. */
const copySuffix = '.backup-'

/** An API server without its listeners. Dispose it when they are closed. */
export class ApiServer implements Disposable {
  readonly store: ObjectStore
  readonly api: KubeApi
  readonly hub: WatchHub
  readonly claims: ServiceClaims
  readonly #options: ApiServerOptions

  private constructor(store: ObjectStore, options: ApiServerOptions) {
    const { claims, clock, maxWatchers = 1000 } = options
    this.#options = options
    this.store = store
    this.claims = new ServiceClaims(claims)
    this.api = new KubeApi({ store, claims: this.claims, clock })
    this.hub = new WatchHub(store, { clock, maxWatchers })
  }

  /** Reads the objects, and makes the namespaces that are always there. */
  static async open(options: ApiServerOptions): Promise<ApiServer> {
    removeOldCopies(options.file)
    const store = new ObjectStore(openJournal(options.file))
    try {
      const server = new ApiServer(store, options)
      await createBuiltInObjects(server.api, server.claims.clusterCIDRs)
      return server
    } catch (error) {
      store[Symbol.dispose]()
      throw error
    }
  }

  /** A server that is to listen somewhere: with a certificate over TLS, without for a unix socket. */
  createListener(
    authenticate: (request: IncomingMessage) => Role | undefined,
    certificate?: ServerCertificate,
  ): Server {
    const { api, hub } = this
    const { clock, log, version, patienceMs = 20_000 } = this.#options
    const handler = createApiHandler({
      api,
      hub,
      authenticate(request) {
        const role = authenticate(request)
        if (role !== undefined) trust(request)
        return role
      },
      backup: () => this.backup(),
      version,
      clock,
      log,
    })
    const patience = {
      requestTimeout: patienceMs,
      headersTimeout: patienceMs,
      connectionsCheckingInterval: Math.min(5000, patienceMs / 4),
    }
    const server = certificate
      ? createTlsServer(
          {
            ...patience,
            cert: certificate.certificate,
            key: certificate.key,
            minVersion: 'TLSv1.2',
            handshakeTimeout: Math.min(10_000, patienceMs),
          },
          handler,
        )
      : createServer(patience, handler)
    const trust = guardConnections(server, limits)
    return server
  }

  /** Writes a copy of everything beside the objects, while the server goes on; returns its path. */
  async backup(): Promise<string> {
    const { file } = this.#options
    if (file === ':memory:')
      throw new ApiError('BadRequest', 'the objects are in memory only: there is nothing to copy')
    const copy = `${file}${copySuffix}${randomUUID()}`
    await this.store.backup(copy)
    return copy
  }

  [Symbol.dispose](): void {
    this.hub[Symbol.dispose]()
    this.store[Symbol.dispose]()
  }
}

/** Of a process that was killed while it sent one. */
function removeOldCopies(file: string): void {
  const folder = dirname(file)
  if (file === ':memory:' || !existsSync(folder)) return
  for (const name of readdirSync(folder))
    if (name.startsWith(`${basename(file)}${copySuffix}`)) rmSync(join(folder, name), { force: true })
}
