import type { Registry } from 'prom-client'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { createHttpServer, type Routes } from './http-server.ts'
import type { KubeProxyParts } from './kube-proxy-configuration.ts'
import { formatListen, type ListenAddress } from './listen-address.ts'
import { PersistentServer } from './listen-tcp.ts'

/** What kube-proxy's servers answer from. */
export interface KubeProxyServersOptions {
  readonly registry: Registry
  /** `/healthz` and `/livez` of the health port. */
  readonly health: Routes
  /** The mode that is in the kernel. */
  readonly mode: () => string
  readonly log: Log
  readonly clock: Clock
}

/** kube-proxy's two servers: health (10256) and metrics (10249). They move when the configuration does. */
export class KubeProxyServers implements AsyncDisposable {
  readonly #options: KubeProxyServersOptions
  #parts: KubeProxyParts
  #health: PersistentServer | undefined
  #metrics: PersistentServer | undefined

  constructor(parts: KubeProxyParts, options: KubeProxyServersOptions) {
    this.#parts = parts
    this.#options = options
  }

  /** Opens both. With `bindAddressHardFail` rejects with the error of listen(2) when one cannot be had. */
  async start(): Promise<void> {
    await this.configure(this.#parts)
  }

  /** Takes over another configuration: a server whose address changed is closed and opened there. */
  async configure(parts: KubeProxyParts): Promise<void> {
    this.#parts = parts
    this.#health = await this.#move(this.#health, {
      what: 'healthzBindAddress',
      to: parts.healthz,
      routes: this.#options.health,
    })
    this.#metrics = await this.#move(this.#metrics, {
      what: 'metricsBindAddress',
      to: parts.metrics,
      routes: this.#metricsRoutes(),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#health?.[Symbol.asyncDispose](), this.#metrics?.[Symbol.asyncDispose]()])
  }

  async #move(
    server: PersistentServer | undefined,
    { what, to, routes }: { what: string; to: ListenAddress; routes: Routes },
  ): Promise<PersistentServer> {
    if (server && formatListen(server.address) === formatListen(to)) return server
    await server?.[Symbol.asyncDispose]()
    const { log, clock } = this.#options
    const http = createHttpServer(routes, (error) => log.error({ err: error }, `${what}: cannot answer`))
    const moved = new PersistentServer(http, { what, address: to, log, clock })
    await moved.start({ hardFail: this.#parts.bindAddressHardFail })
    return moved
  }

  #metricsRoutes(): Routes {
    const { registry, mode } = this.#options
    return {
      'GET /healthz': () => ({ text: 'ok' }),
      'GET /proxyMode': () => ({ text: mode() }),
      'GET /metrics': async () => ({ text: await registry.metrics(), type: registry.contentType }),
      // The file as it counts now, after a reload too.
      'GET /configz': () => ({ json: { 'kubeproxy.config.k8s.io': this.#parts.effective } }),
    }
  }
}
