import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { callDaemon, ControlError } from '../../src/cli/control-client.ts'
import type { StatusView } from '../../src/daemon/control-api.ts'
import type { IpFamily } from '../../src/net/ip-address.ts'
import { patience } from '../lab/patience.ts'
import type { Host } from '../lab/host.ts'
import type { Manifest } from './flow-case.ts'
import type { RunningProxy, RunProxy } from './run-proxy.ts'

/** The proxy did not do what was asked of it in time, or ended. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError'
}

/** How long a change may take until it is in the kernel, ms: far more than it does, for very busy machines. */
const syncTimeout = 120_000

export interface ProxyOptions {
  readonly run: RunProxy
  /** The content of the configuration file. */
  readonly config: Readonly<Record<string, unknown>>
  /** The families that the node has addresses of. */
  readonly families: readonly IpFamily[]
  /** Ends the proxy at once when aborted. */
  readonly signal?: AbortSignal | undefined
}

/**
 * `fairlead run` as a user runs it, on the node of a world: objects are manifests in a folder that it watches. Each
 * version of the objects has a Service without endpoints, at an address of its own: when connections to it are refused, that
 * version is in the kernel.
 */
export class ProxyProcess implements AsyncDisposable {
  readonly #node: Host
  readonly #options: ProxyOptions
  readonly #folder: string
  #proxy: RunningProxy | undefined
  #log = ''
  #version = 0

  constructor(node: Host, options: ProxyOptions) {
    this.#node = node
    this.#options = options
    this.#folder = mkdtempSync(join(tmpdir(), 'fairlead-conformance-'))
    mkdirSync(join(this.#folder, 'manifests'))
    options.signal?.addEventListener('abort', this.#abort)
  }

  /** Brings the objects to the kernel; starts the proxy if it does not run yet. Throws {@link ProxyError}. */
  async apply(objects: readonly Manifest[]): Promise<void> {
    const version = ++this.#version
    const list = { apiVersion: 'v1', kind: 'List', items: [...objects, this.#sentinel(version)] }
    // Renamed, so that all of it is read at once.
    const draft = join(this.#folder, 'objects.draft')
    writeFileSync(draft, JSON.stringify(list))
    renameSync(draft, join(this.#folder, 'manifests', 'objects.json'))
    if (!this.#proxy) this.#start()
    const deadline = Date.now() + patience(syncTimeout)
    await this.#until(deadline, `the rules of version ${version} of the objects`, () => this.#isProgrammed(version))
    // The sync goes on after its rules are there: it removes what conntrack remembers.
    await this.#until(deadline, 'the end of the sync', async () => {
      const status = await this.#status()
      return status?.ready === true && status.services?.settled === true
    })
  }

  /** The last lines of the log. */
  get log(): string {
    return this.#log.trimEnd().split('\n').slice(-30).join('\n')
  }

  readonly #abort = (): void => {
    this.#proxy?.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#abort)
    await this.#proxy?.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #start(): void {
    const file = join(this.#folder, 'config.yaml')
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(this.#options.config, undefined, 2))
    const options = {
      config: file,
      files: [join(this.#folder, 'manifests')],
      socket: this.#socket,
      stateDir: join(this.#folder, 'state'),
    }
    this.#proxy = this.#options.run(this.#node, options, (text) => (this.#log += text))
  }

  get #socket(): string {
    return join(this.#folder, 'control.sock')
  }

  async #status(): Promise<StatusView | undefined> {
    try {
      return await callDaemon<StatusView>(this.#socket, 'GET', '/status')
    } catch (error) {
      if (error instanceof ControlError) return undefined
      throw error
    }
  }

  #sentinel(version: number): Manifest {
    const clusterIPs = this.#sentinelAddresses(version)
    return {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: 'fairlead-conformance', name: 'sentinel' },
      spec: {
        clusterIP: clusterIPs[0],
        clusterIPs,
        ipFamilies: this.#options.families.map((family) => `IPv${family}`),
        ipFamilyPolicy: 'PreferDualStack',
        ports: [{ name: 'sentinel', protocol: 'UDP', port: 9 }],
      },
    }
  }

  #sentinelAddresses(version: number): string[] {
    return this.#options.families.map((family) => (family === 4 ? `198.18.0.${version}` : `2001:2::${version}`))
  }

  async #isProgrammed(version: number): Promise<boolean> {
    for (const address of this.#sentinelAddresses(version)) {
      const outcome = await this.#node.connectUdp(address, 9, { timeout: 100 })
      if (outcome !== 'refused') return false
    }
    return true
  }

  async #until(deadline: number, what: string, done: () => Promise<boolean>): Promise<void> {
    while (!(await done())) {
      if (this.#proxy?.hasEnded === true) throw new ProxyError(`fairlead ended: ${this.log}`)
      if (Date.now() > deadline)
        throw new ProxyError(`not within ${syncTimeout / 1000} s: ${what}; its log: ${this.log}`)
      await sleep(20)
    }
  }
}
