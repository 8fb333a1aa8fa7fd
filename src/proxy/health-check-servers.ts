import { createServer, type Server, type ServerResponse } from 'node:http'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { ObjectKey } from '../model/object-key.ts'
import { ipFamilies, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { HealthCheck, ServiceFrontends } from './frontends.ts'

/** What {@link HealthCheckServers} are made of. */
export interface HealthCheckOptions {
  readonly log: Log
  readonly clock: Clock
  /** Whether this daemon brings Services to the kernel in time. */
  readonly isHealthy: () => boolean
  /** Where node ports answer in a family: `all`, or these addresses of the node. Asked at each update. */
  readonly addresses: (family: IpFamily) => 'all' | readonly IpAddress[]
}

/** A server that is wanted or there. */
interface Listener {
  readonly service: ObjectKey
  readonly family: IpFamily
  readonly host: string
  readonly port: number
}

/** A port that somebody else has is tried again after this long, ms. */
const retryMs = 5000

/**
 * The servers that load balancers ask which nodes have endpoints (`healthCheckNodePort` of Services with
 * externalTrafficPolicy Local), as kube-proxy has them (pkg/proxy/healthcheck/service_health.go): on every address of the
 * node ports, at every path, 200 while this node has a ready endpoint, else 503.
 */
export class HealthCheckServers implements AsyncDisposable {
  readonly #options: HealthCheckOptions
  readonly #services = new Map<ObjectKey, ServiceFrontends & { readonly health: HealthCheck }>()
  readonly #running = new Map<string, { readonly listener: Listener; readonly server: Server }>()
  /** Why each wanted listener is not there; said once. */
  readonly #failed = new Map<string, string>()
  #known: SharedMap<ServiceFrontends> = SharedMap.empty()
  #retry: Timer | undefined

  constructor(options: HealthCheckOptions) {
    this.#options = options
  }

  /** Listeners that are wanted and cannot be had, each as one line. */
  get problems(): readonly string[] {
    return [...this.#failed.values()]
  }

  /** Opens and closes servers as the Services have them now. Costs what changed. */
  update(services: SharedMap<ServiceFrontends>): void {
    for (const key of SharedMap.changedKeys(this.#known, services)) {
      const service = services.get(key)
      if (service?.health) this.#services.set(key, { ...service, health: service.health })
      else this.#services.delete(key)
    }
    this.#known = services
    if (this.#services.size > 0 || this.#running.size > 0) this.#reconcile()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#retry?.cancel()
    this.#services.clear()
    const servers = [...this.#running.values()].map(({ server }) => server)
    this.#running.clear()
    await Promise.all(servers.map((server) => closeServer(server)))
  }

  #reconcile(): void {
    this.#retry?.cancel()
    this.#retry = undefined
    const wanted = this.#wanted()
    for (const [name, { listener, server }] of this.#running) {
      if (wanted.get(name)?.service === listener.service) continue
      this.#running.delete(name)
      void closeServer(server)
    }
    for (const name of this.#failed.keys()) if (!wanted.has(name)) this.#failed.delete(name)
    for (const [name, listener] of wanted) if (!this.#running.has(name)) this.#open(name, listener)
  }

  /** By address and port. Of two Services with one port the first by name has it. */
  #wanted(): ReadonlyMap<string, Listener> {
    const wanted = new Map<string, Listener>()
    for (const [service, { frontends, health }] of [...this.#services].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      for (const family of ipFamilies) {
        if (!frontends.some((frontend) => frontend.family === family)) continue
        const addresses = this.#options.addresses(family)
        for (const host of addresses === 'all' ? [family === 4 ? '0.0.0.0' : '::'] : addresses) {
          const name = `${host} port ${health.nodePort}`
          if (!wanted.has(name)) wanted.set(name, { service, family, host, port: health.nodePort })
        }
      }
    }
    return wanted
  }

  #open(name: string, listener: Listener): void {
    const { service, host, port, family } = listener
    const server = createServer({ requestTimeout: 10_000 }, (_, response) => this.#answer(listener, response))
    this.#running.set(name, { listener, server })
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#running.get(name)?.server !== server) return
      this.#running.delete(name)
      const reason = `${service}: spec.healthCheckNodePort: cannot listen on ${name}: ${error.code ?? error.message}`
      if (this.#failed.get(name) !== reason) this.#options.log.warn({ service, host, port, err: error }, reason)
      this.#failed.set(name, reason)
      this.#retry ??= this.#options.clock.after(retryMs, () => this.#reconcile())
    })
    server.listen({ host, port, ipv6Only: family === 6 }, () => {
      this.#failed.delete(name)
      this.#options.log.debug({ service, host, port }, 'answers health checks')
    })
  }

  #answer({ service, family }: Listener, response: ServerResponse): void {
    const count = this.#services.get(service)?.health.localEndpoints[family] ?? 0
    const serviceProxyHealthy = this.#options.isHealthy()
    const [namespace, name] = service.split('/')
    response.writeHead(count > 0 && serviceProxyHealthy ? 200 : 503, {
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': String(count),
    })
    const body = { service: { namespace, name }, localEndpoints: count, serviceProxyHealthy }
    response.end(JSON.stringify(body, undefined, '\t'))
  }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
