import { systemClock, type Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ApiClient } from '../kubernetes/api-client.ts'
import { ClusterAccess, type ClusterLocation } from '../kubernetes/cluster-access.ts'
import { Reflector } from '../kubernetes/reflector.ts'
import type { ReflectorStatus, ReflectorTimes } from '../kubernetes/reflector-types.ts'
import { emptySnapshot } from '../model/snapshot.ts'
import { editSnapshot } from './edit-snapshot.ts'
import { clusterResources, type ClusterView } from './kubernetes-resources.ts'
import { ProblemLog } from './problem-log.ts'
import { ResourceCache, type CacheChange } from './resource-cache.ts'
import type { Problem, Source, SourceState } from './source.ts'
import { StringPool } from './string-pool.ts'

/** How an API server is followed. */
export interface KubernetesOptions {
  readonly location: ClusterLocation
  readonly view: ClusterView
  /** Of the nodes, only this one is followed, */
  readonly nodeName: string
  /** unless this is true. @default false */
  readonly allNodes?: boolean
  /** Its EndpointSlices are all there is of its Services: none are made from pods of this machine. @default false */
  readonly makesSlices?: boolean
  /** Only Services with these labels are followed (views of names). */
  readonly serviceLabels?: string | undefined
  /** The environment: of credential plugins, and where a pod finds the API server. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** `fairlead/0.1.0` */
  readonly userAgent: string
  readonly log: Log
  /** @default systemClock */
  readonly clock?: Clock
  readonly times?: ReflectorTimes
}

/** Where one resource of the source stands. */
export interface ResourceStatus extends ReflectorStatus {
  readonly objects: number
}

/** Events until the pool of strings is emptied, so that it does not hold on to what is gone. */
const poolLife = 10_000

/**
 * Checks that the location can be read, then follows it. Throws AccessError for a kubeconfig that is missing or wrong; all else
 * (servers that are away, tokens that are not there yet) is tried again until it works.
 */
export async function followKubernetes(options: KubernetesOptions): Promise<KubernetesSource> {
  const clock = options.clock ?? systemClock
  const access = new ClusterAccess(options.location, { env: options.env, clock })
  const { server } = await access.check()
  return new KubernetesSource(`Kubernetes ${server.host}`, access, { ...options, clock })
}

/** The objects of an API server. Made by {@link followKubernetes}; dispose it to stop. */
export class KubernetesSource implements Source, Disposable {
  readonly name: string
  readonly makesSlices: boolean
  readonly #stop = new AbortController()
  readonly #followed: readonly { readonly cache: ResourceCache; readonly reflector: Reflector }[]
  readonly #log: Log
  readonly #problemLog: ProblemLog
  readonly #strings = new StringPool({ cut: false })
  readonly #listeners = new Set<(state: SourceState) => void>()
  #current: SourceState = { snapshot: emptySnapshot, problems: [], synced: false }
  #pooled = 0

  /** Use {@link followKubernetes}. */
  constructor(name: string, access: ClusterAccess, options: KubernetesOptions & { readonly clock: Clock }) {
    this.name = name
    this.makesSlices = options.makesSlices ?? false
    this.#log = options.log
    this.#problemLog = new ProblemLog(options.log)
    const client = new ApiClient(access, { userAgent: options.userAgent })
    this.#followed = clusterResources(options.view, options.nodeName, options).map((resource) => {
      const { intern } = this.#strings
      const cache = new ResourceCache(resource, { source: name, intern, onChange: (change) => this.#take(change) })
      const reflector = new Reflector({
        client,
        resource,
        sink: cache,
        clock: options.clock,
        log: options.log.child({ server: name }),
        ...(options.times && { times: options.times }),
        onStatus: () => this.#statusChanged(),
      })
      return { cache, reflector }
    })
    for (const { reflector } of this.#followed) void reflector.run(this.#stop.signal)
  }

  get current(): SourceState {
    return this.#current
  }

  subscribe(listener: (state: SourceState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  status(): readonly ResourceStatus[] {
    return this.#followed.map(({ cache, reflector }) => ({ ...reflector.status(), objects: cache.size }))
  }

  [Symbol.dispose](): void {
    this.#stop.abort()
    this.#listeners.clear()
  }

  #take({ objects, problems }: CacheChange): void {
    this.#pooled += objects.length
    if (this.#pooled >= poolLife) {
      this.#strings.clear()
      this.#pooled = 0
    }
    if (objects.length === 0 && !problems) return
    const snapshot = editSnapshot(this.#current.snapshot, objects)
    if (problems) this.#problemLog.update(this.#objectProblems())
    this.#publish({ ...this.#current, snapshot, ...(problems && { problems: this.#problems() }) })
  }

  #statusChanged(): void {
    const synced = this.#current.synced || this.#followed.every(({ reflector }) => reflector.status().synced)
    if (synced && !this.#current.synced) {
      const objects = Object.fromEntries(this.status().map(({ resource, objects }) => [resource, objects]))
      this.#log.info({ server: this.name, ...objects }, 'the first complete list of the cluster is here')
    }
    this.#publish({ ...this.#current, synced, problems: this.#problems() })
  }

  #problems(): readonly Problem[] {
    const away = this.#followed.flatMap(({ reflector }): Problem[] => {
      const { resource, error } = reflector.status()
      if (error === undefined) return []
      return [{ severity: 'error', file: this.name, object: resource, reason: `cannot be followed: ${error}` }]
    })
    return [...away, ...this.#objectProblems()]
  }

  #objectProblems(): readonly Problem[] {
    return this.#followed.flatMap(({ cache }) => [...cache.problems()])
  }

  #publish(state: SourceState): void {
    if (this.#stop.signal.aborted) return
    this.#current = state
    for (const listener of this.#listeners) listener(state)
  }
}
