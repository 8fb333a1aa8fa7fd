import { setTimeout as sleep } from 'node:timers/promises'
import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import { SharedMap } from '../base/shared-map.ts'
import type { Log } from '../base/log.ts'
import { ListenError } from '../dns/listen-error.ts'
import type { Corefile, CorefileBlock } from '../dns-corefile/corefile.ts'
import { CorefileError } from '../dns-corefile/corefile-error.ts'
import { AccessError } from '../kubernetes/api-error.ts'
import type { ClusterLocation } from '../kubernetes/cluster-access.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { ParseError } from '../net/parse-error.ts'
import type { KubernetesSource } from '../sources/kubernetes.ts'
import type { ClusterView } from '../sources/kubernetes-resources.ts'
import type { SourceView } from './control-api.ts'
import { type CoreDnsMetrics, createCoreDnsMetrics, type ServedBlock } from './coredns-metrics.ts'
import { httpAddress, readMachineAddresses } from './corefile-addresses.ts'
import { CorefileServers } from './corefile-servers.ts'
import { DnsHttp, type DnsHttpAddress, DnsHttpError } from './dns-http.ts'
import { createKubernetesMetrics } from './kubernetes-metrics.ts'
import { loadCorefile } from './load-corefile.ts'
import { createSourceSilence } from './source-silence.ts'
import { viewSource } from './view-source.ts'

export interface ServeCorefileOptions {
  readonly file: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly version: string
  readonly log: Log
  readonly clock?: Clock
}

/** What keeps a Corefile from being served, said for its user. */
export class ServeError extends Error {
  override readonly name = 'ServeError'
}

/** A running server in CoreDNS's place. */
export interface CorefileService {
  /** Reads the file now, whether it changed or not (CoreDNS: SIGUSR1). What is wrong with it is logged, and the old one goes on. */
  reload(): Promise<void>
  /** Ends after the `lameduck` time of the Corefile, in which clients are still answered. */
  close(): Promise<void>
}

/** Serves a Corefile in CoreDNS's place, and does nothing else. Throws {@link ServeError}. */
export async function serveCorefile(options: ServeCorefileOptions): Promise<CorefileService> {
  const service = new Service(options)
  try {
    await service.start()
  } catch (error) {
    await service.stop()
    throw isMendable(error) ? new ServeError((error as Error).message, { cause: error }) : error
  }
  return service
}

/** Errors whose messages are for people. */
function isMendable(error: unknown): boolean {
  const kinds = [CorefileError, ListenError, DnsHttpError, AccessError, ParseError, ServeError]
  // A file that is not there, or is not to be read (EACCES), or is a folder (EISDIR).
  return kinds.some((kind) => error instanceof kind) || (error as NodeJS.ErrnoException).errno !== undefined
}

/** Neither the new Corefile nor the one before could be served. */
class NotServingError extends Error {
  override readonly name = 'NotServingError'
}

/** What is followed of which cluster; equal texts are the same. */
interface ClusterChoice {
  readonly location: ClusterLocation
  readonly view: ClusterView
  readonly labels: string | undefined
}

/** A cluster that is followed. */
interface FollowedCluster {
  readonly choice: ClusterChoice
  readonly source: KubernetesSource
}

/** Milliseconds that another cluster may take until its objects are here, before its Corefile counts: as long as CoreDNS waits at its start. */
const syncPatience = 5000

class Service implements CorefileService {
  readonly #options: ServeCorefileOptions
  readonly #clock: Clock
  readonly #log: Log
  readonly #metrics: CoreDnsMetrics
  readonly #http: DnsHttp
  #loaded: { readonly corefile: Corefile; readonly text: string } | undefined
  #servers: CorefileServers | undefined
  /** Answers what it was still asked. */
  #leaving: CorefileServers | undefined
  #cluster: FollowedCluster | undefined
  #snapshot: Snapshot = emptySnapshot
  #timer: Timer | undefined
  /** The reload that runs, and the one that comes after it. */
  #running: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined
  #closed = false

  constructor(options: ServeCorefileOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#log = options.log
    this.#metrics = createCoreDnsMetrics(options.version, (): readonly ServedBlock[] => [
      ...(this.#servers?.blocks ?? []),
      ...(this.#leaving?.blocks ?? []),
    ])
    createKubernetesMetrics(this.#metrics.registry, () => this.#view().flatMap(({ resources }) => resources))
    this.#http = new DnsHttp({
      metrics: this.#metrics,
      waitingFor: () => this.#waitingFor(),
      joins: true,
      log: options.log,
    })
  }

  async start(): Promise<void> {
    const loaded = this.#load()
    await this.#takeOver(loaded)
  }

  /** One after the other. Who asks while one waits for its turn, means that one: it has not read the file yet. */
  reload(): Promise<void> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined
      this.#running = this.#closed ? Promise.resolve() : this.#reloadNow()
      return this.#running
    })
    return this.#next
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    this.#http.end()
    const lameduckMs = Math.max(0, ...this.#blocks().map(({ health }) => health?.lameduckMs ?? 0))
    if (lameduckMs > 0) {
      this.#log.info({ lameduckMs }, 'Not ready any more; queries are still answered for a while')
      await sleep(lameduckMs)
    }
    await this.stop()
  }

  async stop(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    await this.#running
    await this.#servers?.[Symbol.asyncDispose]()
    this.#cluster?.source[Symbol.dispose]()
    await this.#http[Symbol.asyncDispose]()
  }

  #blocks(): readonly CorefileBlock[] {
    return this.#loaded?.corefile.blocks ?? []
  }

  #load(): { readonly corefile: Corefile; readonly text: string } {
    const { file, env } = this.#options
    const corefile = loadCorefile(file, env)
    return { corefile, text: corefile.text }
  }

  async #reloadNow(): Promise<void> {
    const { file } = this.#options
    try {
      const loaded = this.#load()
      await this.#takeOver(loaded)
      this.#log.info({ file }, 'The changed Corefile was taken over')
    } catch (error) {
      this.#metrics.countFailedReload()
      // Whoever watches this process starts it again; whatever else is wrong with a file is no reason to stop answering.
      if (error instanceof NotServingError) throw error
      this.#log.error(
        { err: error, file },
        `The Corefile is not taken over, the one before goes on: ${(error as Error).message}`,
      )
    }
  }

  /** All or nothing: what is new is opened before what is old is closed, or else what was old is opened again. */
  async #takeOver(loaded: { readonly corefile: Corefile; readonly text: string }): Promise<void> {
    const { corefile } = loaded
    const servers = this.#createServers(corefile)
    const before = this.#servers
    const share = before?.canShare === true && servers.canShare
    let cluster: FollowedCluster | undefined
    let gone = false
    try {
      cluster = await this.#clusterOf(corefile)
      await this.#http.configure(httpAddresses(corefile, this.#options.file))
      if (before && !share) {
        gone = true
        await before[Symbol.asyncDispose]()
      }
      await listenWith(servers, cluster?.source)
    } catch (error) {
      await servers[Symbol.asyncDispose]()
      if (cluster !== this.#cluster) cluster?.source[Symbol.dispose]()
      if (before && this.#loaded) await this.#restore(this.#loaded.corefile, { gone })
      throw error
    }
    const left = this.#cluster
    this.#leaving = before
    this.#servers = servers
    this.#cluster = cluster
    this.#loaded = loaded
    if (cluster) this.#update(cluster.source.current.snapshot, cluster.source.current.synced)
    if (share) await before?.[Symbol.asyncDispose]()
    this.#metrics.retire(before?.blocks ?? [])
    this.#leaving = undefined
    if (left !== cluster) left?.source[Symbol.dispose]()
    for (const note of corefile.notes) this.#log.info({}, note)
    this.#scheduleLook()
  }

  /** All as before. `gone`: its servers had to go, so that others could be tried. */
  async #restore(corefile: Corefile, { gone }: { readonly gone: boolean }): Promise<void> {
    try {
      await this.#http.configure(httpAddresses(corefile, this.#options.file))
      if (!gone) return
      const servers = this.#createServers(corefile)
      await listenWith(servers, this.#cluster?.source)
      this.#metrics.retire(this.#servers?.blocks ?? [])
      this.#servers = servers
    } catch (error) {
      const { file } = this.#options
      throw new NotServingError(`${file} cannot be served, and what was served before cannot either`, { cause: error })
    }
  }

  #createServers(corefile: Corefile): CorefileServers {
    return new CorefileServers(corefile, {
      file: this.#options.file,
      machine: readMachineAddresses(),
      lostFor: createSourceSilence(() => this.#view(), this.#clock),
      version: this.#options.version,
      log: this.#log,
    })
  }

  /** The cluster that is followed already, or the one that a Corefile wants instead, which may have been heard of by then. */
  async #clusterOf(corefile: Corefile): Promise<FollowedCluster | undefined> {
    const { file, env, version, log } = this.#options
    const choice = clusterChoice(corefile, file)
    if (!choice) return undefined
    const before = this.#cluster
    if (before && JSON.stringify(choice) === JSON.stringify(before.choice)) return before
    const { followKubernetes } = await import('../sources/kubernetes.ts')
    const follow = followKubernetes({
      location: choice.location,
      view: choice.view,
      serviceLabels: choice.labels,
      nodeName: '',
      env,
      userAgent: `fairlead/${version}`,
      log: log.child({ part: 'sources' }),
    })
    const source = await follow.catch((error: unknown): never => {
      if (!(error instanceof AccessError)) throw error
      const { line = 1 } = corefile.blocks.find(({ kubernetes }) => kubernetes) ?? {}
      throw new CorefileError({ file, line }, `kubernetes: ${error.message}`, { cause: error })
    })
    source.subscribe(({ snapshot, synced }) => {
      if (this.#cluster?.source === source) this.#update(snapshot, synced)
    })
    if (before) await untilSynced(source, this.#clock)
    return { choice, source }
  }

  #update(snapshot: Snapshot, synced: boolean): void {
    const before = this.#snapshot
    this.#snapshot = snapshot
    const began = this.#clock.monotonic()
    this.#servers?.update(snapshot, synced)
    const seconds = (this.#clock.monotonic() - began) / 1000
    for (const key of SharedMap.changedKeys(before.slices, snapshot.slices)) {
      const service = snapshot.services.get(key)
      if (!service) continue
      const headless = service.selector ? 'headless_with_selector' : 'headless_without_selector'
      this.#metrics.observeProgramming(service.headless ? headless : 'cluster_ip', seconds)
    }
  }

  #view(): readonly SourceView[] {
    return this.#cluster ? [viewSource(this.#cluster.source)] : []
  }

  #waitingFor(): readonly string[] {
    if (!this.#servers) return ['dns']
    return this.#cluster && !this.#cluster.source.current.synced ? ['kubernetes'] : []
  }

  /** As CoreDNS: every so often, not on each event, so that a ConfigMap has settled on all nodes. */
  #scheduleLook(): void {
    const reload = this.#blocks().find(({ reload }) => reload)?.reload
    this.#timer?.cancel()
    if (!reload || this.#closed) return
    const jitter = Math.random() * Math.min(reload.jitterMs, reload.intervalMs / 2)
    this.#timer = this.#clock.after(reload.intervalMs + jitter, () => void this.#look())
  }

  async #look(): Promise<void> {
    try {
      if (this.#load().text !== this.#loaded?.text) await this.reload()
    } catch (error) {
      // A broken file is tried again at each look, and says so each time, as in CoreDNS.
      if (isMendable(error)) await this.reload()
      else throw error
    } finally {
      this.#scheduleLook()
    }
  }
}

/** Opens the sockets, with the newest that is known at every moment. */
async function listenWith(servers: CorefileServers, source: KubernetesSource | undefined): Promise<void> {
  if (!source) return await servers.listen()
  const { snapshot, synced } = source.current
  servers.update(snapshot, synced)
  const unsubscribe = source.subscribe((state) => servers.update(state.snapshot, state.synced))
  try {
    await servers.listen()
  } finally {
    unsubscribe()
  }
}

/** Resolves when there are complete lists, and after a while anyway: unknown names are SERVFAIL until then. */
async function untilSynced(source: KubernetesSource, clock: Clock): Promise<void> {
  if (source.current.synced) return
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const timer = clock.after(syncPatience, () => resolve(undefined))
  const unsubscribe = source.subscribe(({ synced }) => void (synced && resolve(undefined)))
  await promise
  timer.cancel()
  unsubscribe()
}

/** Throws {@link ServeError} when blocks want different clusters. */
function clusterChoice({ blocks }: Corefile, file: string): ClusterChoice | undefined {
  const choices = blocks.flatMap((block): { line: number; choice: Omit<ClusterChoice, 'view'>; pods: boolean }[] => {
    const { kubernetes, line } = block
    if (!kubernetes) return []
    const { kubeconfig, labels } = kubernetes
    const location: ClusterLocation = kubeconfig
      ? {
          kind: 'kubeconfig',
          path: kubeconfig.path,
          ...(kubeconfig.context !== undefined && { context: kubeconfig.context }),
        }
      : { kind: 'in-cluster' }
    return [{ line, choice: { location, labels }, pods: kubernetes.pods === 'verified' || block.searchPaths }]
  })
  const [first] = choices
  if (!first) return undefined
  const other = choices.find(({ choice }) => JSON.stringify(choice) !== JSON.stringify(first.choice))
  if (other)
    throw new ServeError(
      `${file}:${other.line}: kubernetes has another kubeconfig or other labels than in line ${first.line} (expected one cluster for all server blocks)`,
    )
  return { ...first.choice, view: choices.some(({ pods }) => pods) ? 'names-and-pods' : 'names' }
}

function httpAddresses({ blocks }: Corefile, file: string): DnsHttpAddress[] {
  return blocks.flatMap(({ line, prometheus, ready, health }): DnsHttpAddress[] => {
    const at = `${file}, server block of line ${line}`
    return [
      ...(prometheus ? [{ kind: 'metrics' as const, listen: httpAddress(prometheus), key: `${at}: prometheus` }] : []),
      ...(ready ? [{ kind: 'ready' as const, listen: httpAddress(ready), key: `${at}: ready` }] : []),
      ...(health ? [{ kind: 'health' as const, listen: httpAddress(health.listen), key: `${at}: health` }] : []),
    ]
  })
}
