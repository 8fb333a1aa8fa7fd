import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ApiServer, type ApiServerOptions } from '../api/api-server.ts'
import { openCredentials, writeKubeconfig } from '../api/credentials.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { parseNetwork, type Cidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { ControlPlaneError, type ApiConfig } from './api-config.ts'
import { ApiSource } from './api-source.ts'
import type { ApiView } from './control-api.ts'
import { listenOnSocket } from './control.ts'
import { formatListen } from './listen-address.ts'
import type { MemorySource } from '../sources/memory.ts'
import type { SnapshotStream } from '../sources/merge.ts'
import { NodeLifecycle } from './node-lifecycle.ts'
import type { NodeTokenControl } from './node-tokens.ts'
import { ForeignClaims } from './claim-foreign.ts'
import { EndpointsMirror } from './mirror-endpoints.ts'
import { OwnPods } from './own-pods.ts'
import { SlicePublisher } from './publish-slices.ts'
import { closeServer, listenTcp } from './listen-tcp.ts'

/** What the embedded API server is started with. */
export interface ControlPlaneOptions {
  /** Where the command line reaches it, unless `api.socket` says otherwise. */
  readonly socket: string
  readonly stateDir: string
  readonly nodeName: string
  /** Addresses by which other machines reach this one, for the certificate. */
  readonly addresses: readonly IpAddress[]
  readonly nodeTokens: NodeTokenControl
  /** Empty: that of Kubernetes' own default. */
  readonly serviceCIDRs: readonly Cidr[]
  /** Addresses that no Service is given. */
  readonly reserved: readonly IpAddress[]
  readonly version: string
  readonly clock: Clock
  readonly log: Log
}

/** The embedded API server with its listeners, and its objects as a source. Dispose it to stop. */
export class ControlPlane implements AsyncDisposable {
  readonly source: ApiSource
  readonly view: ApiView
  readonly #server: ApiServer
  readonly #log: Log
  readonly #stack: AsyncDisposableStack

  private constructor(parts: {
    source: ApiSource
    server: ApiServer
    log: Log
    view: ApiView
    stack: AsyncDisposableStack
  }) {
    this.source = parts.source
    this.#server = parts.server
    this.#log = parts.log
    this.view = parts.view
    this.#stack = parts.stack
  }

  /** Opens the objects below the state directory (`api/`), and listens. */
  static async open(config: ApiConfig, options: ControlPlaneOptions): Promise<ControlPlane> {
    await using stack = new AsyncDisposableStack()
    const folder = join(options.stateDir, 'api')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const { listen, names, loadBalancerCIDRs, socket = options.socket } = config
    const serviceCIDRs = options.serviceCIDRs.length > 0 ? options.serviceCIDRs : [parseNetwork('10.96.0.0/12')]
    const { clock, log, version, reserved } = options
    const claims = { serviceCIDRs, reserved, loadBalancerCIDRs }
    const server = stack.use(await openServer({ file: join(folder, 'objects.db'), claims, clock, log, version }))

    const local = server.createListener(() => 'admin')
    await listenOnSocket(local, socket)
    stack.defer(() => closeServer(local))

    const host = reachable(listen.host)
    const reached = [...names, ...options.addresses]
    const named = /^[a-z0-9.-]+$/.test(options.nodeName) ? [options.nodeName] : []
    const hosts = [...new Set(['127.0.0.1', '::1', 'localhost', host, ...reached, ...named])]
    const credentials = openCredentials(folder, { hosts, now: clock.now() })
    const remote = server.createListener((request) => credentials.authenticate(request), credentials.server)
    try {
      await listenTcp(remote, listen)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      const advice = 'name another address, or set api.enabled to false to do without an API'
      const message = `api.listen: cannot listen on ${formatListen(listen)}: ${code} (${advice})`
      throw new ControlPlaneError(message, { cause: error })
    }
    stack.defer(() => closeServer(remote))

    const kubeconfig = join(folder, 'kubeconfig')
    const url = `https://${formatListen({ host, port: listen.port })}`
    writeKubeconfig(kubeconfig, {
      url,
      authority: credentials.authority,
      token: credentials.tokens.admin,
    })
    options.nodeTokens.serve({ credentials, listen, hosts: reached })
    const view: ApiView = { url, kubeconfig, socket }
    log.info({ ...view, revision: server.store.revision }, 'the API server listens')
    const source = stack.use(new ApiSource(server.store, options))
    stack.use(new NodeLifecycle(server.api, { clock, log }))
    return new ControlPlane({ source, server, log, view, stack: stack.move() })
  }

  /** This machine's pods, with the labels that the API has of them. */
  ownPods(here: MemorySource): OwnPods {
    return this.#stack.use(new OwnPods(here, this.#server.store))
  }

  /** Mirrors Endpoints, keeps away from what other sources' Services have, and writes the EndpointSlices of the stream's snapshots back, as far as they are of Services of the API. */
  follow(stream: SnapshotStream): void {
    const { api, store, claims } = this.#server
    const publisher = this.#stack.use(new SlicePublisher(api, { log: this.#log }))
    const foreign = new ForeignClaims(store, claims)
    this.#stack.use(new EndpointsMirror(api, { log: this.#log }))
    this.#stack.defer(
      stream.subscribe((snapshot) => {
        foreign.update(snapshot)
        void publisher.update(snapshot)
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}

async function openServer(options: ApiServerOptions): Promise<ApiServer> {
  try {
    return await ApiServer.open(options)
  } catch (error) {
    const reason = (error as Error).message
    throw new ControlPlaneError(`api: cannot open the objects in ${options.file}: ${reason}`, { cause: error })
  }
}

/** An address that reaches a server that listens on all of them. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  return host === '::' ? '::1' : host
}
