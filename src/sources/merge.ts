import { SharedMap } from '../base/shared-map.ts'
import type { Log } from '../base/log.ts'
import type { EndpointSlice } from '../model/endpoint-slice.ts'
import type { ObjectKey } from '../model/object-key.ts'
import type { Service } from '../model/service.ts'
import { emptySnapshot, sameSnapshot, type Snapshot } from '../model/snapshot.ts'
import { Allocator, missingAllocation, refusedNodePorts, type AllocatorOptions } from './allocate.ts'
import { EndpointSliceController } from './endpoint-slice-controller.ts'
import { ProblemLog } from './problem-log.ts'
import type { Problem, Source } from './source.ts'

/** The newest whole snapshot, over time. */
export interface SnapshotStream {
  /** Empty until {@link synced}. */
  readonly current: Snapshot
  /** True once every source gave its first complete list. Nothing may be programmed before. */
  readonly synced: boolean
  /** Names of the sources that have given no complete list yet. */
  readonly waitingFor: readonly string[]
  /** Everything that is wrong in what the sources were given. */
  readonly problems: readonly Problem[]
  /** Calls `listener` with each new snapshot, the present one included, from the moment of {@link synced}. Returns what ends that. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void
}

export interface MergeOptions {
  readonly sources: readonly Source[]
  readonly log: Log
  /** How to give addresses and node ports to Services without. Absent: they stay without, as kube-proxy sees them. */
  readonly allocate?: AllocatorOptions
}

/**
 * Makes one stream of snapshots of several sources: the first source that has an object counts, Services are given their
 * addresses, and Services with a selector their EndpointSlices from the pods present. EndpointSlices that a source gives
 * for such a Service count instead. The cost of an update follows what changed. Dispose it to stop listening.
 */
export function mergeSources(options: MergeOptions): MergedSources {
  return new MergedSources(options)
}

type Kind = 'services' | 'pods' | 'nodes' | 'namespaces' | 'networks' | 'serviceCIDRs'
const kinds = {
  services: 'Service',
  pods: 'Pod',
  nodes: 'Node',
  namespaces: 'Namespace',
  networks: 'Network',
  serviceCIDRs: 'ServiceCIDR',
} as const satisfies Record<Kind, string>

/** Made by {@link mergeSources}. */
export class MergedSources implements SnapshotStream, Disposable {
  readonly #sources: readonly Source[]
  readonly #seen: Snapshot[]
  readonly #allocator: Allocator | undefined
  readonly #controller = new EndpointSliceController()
  readonly #log: Log
  readonly #problemLog: ProblemLog
  readonly #conflicts = new Map<string, Problem>()
  /** By Service. */
  readonly #sliceConflicts = new Map<ObjectKey, readonly Problem[]>()
  readonly #unallocated = new Map<ObjectKey, Problem>()
  readonly #listeners = new Set<(snapshot: Snapshot) => void>()
  readonly #unsubscribe: (() => void)[]
  /** The objects as the sources give them. */
  #given: Snapshot = emptySnapshot
  /** Services whose EndpointSlices are made here. */
  #selecting: SharedMap<Service> = SharedMap.empty()
  #current: Snapshot = emptySnapshot
  #synced = false

  constructor(options: MergeOptions) {
    this.#sources = options.sources
    this.#seen = options.sources.map(() => emptySnapshot)
    this.#log = options.log
    this.#problemLog = new ProblemLog(options.log)
    this.#allocator = options.allocate ? new Allocator(options.allocate) : undefined
    this.#unsubscribe = options.sources.map((source) => source.subscribe(() => this.#update()))
    this.#update()
  }

  get current(): Snapshot {
    return this.#current
  }

  get synced(): boolean {
    return this.#synced
  }

  get waitingFor(): readonly string[] {
    return this.#sources.filter((source) => !source.current.synced).map(({ name }) => name)
  }

  get problems(): readonly Problem[] {
    const ofSources = this.#sources.flatMap((source) => source.current.problems)
    return [...ofSources, ...this.#ownProblems()]
  }

  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener)
    if (this.#synced) listener(this.#current)
    return () => this.#listeners.delete(listener)
  }

  [Symbol.dispose](): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#listeners.clear()
  }

  #update(): void {
    if (!this.#sources.every((source) => source.current.synced)) return
    const before = this.#given
    this.#combine()
    const services = this.#allocate(before.services, this.#given.services)
    const { pods, nodes, namespaces, networks, serviceCIDRs } = this.#given
    const made = this.#controller.slices
    this.#selecting = replaceKeys(this.#selecting, SharedMap.changedKeys(this.#current.services, services), (key) =>
      this.#sourceOf(key)?.makesSlices === true ? undefined : services.get(key),
    )
    const slices = this.#controller.update(this.#selecting, pods, nodes)
    const stale = SharedMap.changedKeys(before.slices, this.#given.slices)
    for (const key of SharedMap.changedKeys(made, slices)) stale.add(key)
    const snapshot: Snapshot = {
      services,
      slices: replaceKeys(this.#current.slices, stale, (key) => this.#given.slices.get(key) ?? slices.get(key)),
      pods,
      nodes,
      namespaces,
      networks,
      serviceCIDRs,
    }
    this.#problemLog.update([...this.#ownProblems()])
    const first = !this.#synced
    this.#synced = true
    if (!first && sameSnapshot(snapshot, this.#current)) return
    this.#current = snapshot
    for (const listener of this.#listeners) listener(snapshot)
  }

  #sourceOf(service: ObjectKey): Source | undefined {
    return this.#sources.find((source) => source.current.snapshot.services.has(service))
  }

  /** Brings what the sources give up to date, looking only at what changed in each. */
  #combine(): void {
    const now = this.#sources.map((source) => source.current.snapshot)
    const staleOf = (kind: Kind | 'slices'): Set<string> => {
      const stale = new Set<string>()
      for (const [index, snapshot] of now.entries()) {
        const seen = this.#seen[index] ?? emptySnapshot
        for (const key of SharedMap.changedKeys<unknown>(seen[kind], snapshot[kind])) stale.add(key)
      }
      return stale
    }
    const firstOf = <V>(kind: Kind, key: string, mapOf: (snapshot: Snapshot) => SharedMap<V>): V | undefined => {
      const owners = this.#sources.filter((_, index) => mapOf(now[index] ?? emptySnapshot).has(key))
      this.#noteConflict(`${kinds[kind]} ${key}`, owners)
      return now.map((snapshot) => mapOf(snapshot).get(key)).find((value) => value !== undefined)
    }
    const given = this.#given
    this.#given = {
      services: replaceKeys(given.services, staleOf('services'), (key) => firstOf('services', key, (s) => s.services)),
      pods: replaceKeys(given.pods, staleOf('pods'), (key) => firstOf('pods', key, (s) => s.pods)),
      nodes: replaceKeys(given.nodes, staleOf('nodes'), (key) => firstOf('nodes', key, (s) => s.nodes)),
      namespaces: replaceKeys(given.namespaces, staleOf('namespaces'), (key) =>
        firstOf('namespaces', key, (s) => s.namespaces),
      ),
      networks: replaceKeys(given.networks, staleOf('networks'), (key) => firstOf('networks', key, (s) => s.networks)),
      serviceCIDRs: replaceKeys(given.serviceCIDRs, staleOf('serviceCIDRs'), (key) =>
        firstOf('serviceCIDRs', key, (s) => s.serviceCIDRs),
      ),
      // Slices of one Service may come from several sources; together they are its endpoints.
      slices: replaceKeys(given.slices, staleOf('slices'), (key) => this.#slicesOf(key, now)),
    }
    for (const [index, snapshot] of now.entries()) this.#seen[index] = snapshot
  }

  /** All slices of a Service, each from the first source that has it. */
  #slicesOf(key: ObjectKey, now: readonly Snapshot[]): readonly EndpointSlice[] | undefined {
    const lists = now.map((snapshot) => snapshot.slices.get(key) ?? [])
    const [first, ...others] = lists.filter((list) => list.length > 0)
    this.#sliceConflicts.delete(key)
    // The list itself, so that it keeps its identity.
    if (!first || others.length === 0) return first
    const owners = new Map<string, Source>()
    const conflicts: Problem[] = []
    const slices = lists.flatMap((list, index) =>
      list.filter((slice) => {
        const source = this.#sources[index]
        const owner = owners.get(slice.name)
        if (owner && source) conflicts.push(conflict(`EndpointSlice ${slice.namespace}/${slice.name}`, owner, source))
        else if (source) owners.set(slice.name, source)
        return owner === undefined
      }),
    )
    if (conflicts.length > 0) this.#sliceConflicts.set(key, conflicts)
    return slices
  }

  #noteConflict(object: string, owners: readonly Source[]): void {
    const [winner, loser] = owners
    if (!winner || !loser) this.#conflicts.delete(object)
    else this.#conflicts.set(object, conflict(object, winner, loser))
  }

  #allocate(before: SharedMap<Service>, after: SharedMap<Service>): SharedMap<Service> {
    if (!this.#allocator) return after
    const changed = SharedMap.changedKeys(before, after)
    const { services, moved } = this.#allocator.update([...changed].map((key) => [key, after.get(key)]))
    for (const key of moved)
      this.#log.warn({ service: key }, 'moved a Service: another chose its address or port by hand')
    for (const [key, service] of services) {
      const asked = after.get(key)
      const reason = service && (missingAllocation(service) ?? (asked && refusedNodePorts(asked, service)))
      if (reason === undefined) this.#unallocated.delete(key)
      else this.#unallocated.set(key, { severity: 'error', file: 'allocator', object: `Service ${key}`, reason })
    }
    return replaceKeys(this.#current.services, new Set(services.keys()), (key) => services.get(key))
  }

  #ownProblems(): Problem[] {
    return [...this.#conflicts.values(), ...[...this.#sliceConflicts.values()].flat(), ...this.#unallocated.values()]
  }
}

function conflict(object: string, winner: Source, loser: Source): Problem {
  return { severity: 'error', file: loser.name, object, reason: `is already defined by ${winner.name}, which counts` }
}

function replaceKeys<V>(map: SharedMap<V>, keys: Set<string>, valueOf: (key: string) => V | undefined): SharedMap<V> {
  const set: [string, V][] = []
  const deleted: string[] = []
  for (const key of keys) {
    const value = valueOf(key)
    if (value === undefined) deleted.push(key)
    else set.push([key, value])
  }
  return map.with(set, deleted)
}
