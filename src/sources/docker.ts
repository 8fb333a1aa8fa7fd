import { isDeepStrictEqual } from 'node:util'
import { systemClock, type Clock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { isForUs } from '../docker/container-labels.ts'
import { describeContainers } from '../docker/container-objects.ts'
import { readContainer, readListed, type Container } from '../docker/container.ts'
import { EngineClient } from '../docker/engine-client.ts'
import { EngineError } from '../docker/engine-error.ts'
import type { EngineEvent } from '../docker/engine-event.ts'
import { Backoff, pause } from '../kubernetes/backoff.ts'
import { manifestId, type ManifestObject } from '../model/parse-manifest.ts'
import { emptySnapshot } from '../model/snapshot.ts'
import { editSnapshot, type ObjectChange } from './edit-snapshot.ts'
import { ProblemLog } from './problem-log.ts'
import type { FollowedResource, Problem, Source, SourceState } from './source.ts'

/** How a Docker engine is followed. */
export interface DockerOptions {
  /** Path of its unix socket. */
  readonly socket: string
  /** The node that its containers are on. */
  readonly nodeName: string
  readonly log: Log
  /** @default systemClock */
  readonly clock?: Clock
  /** Between two looks at all containers that no event asks for, ms. @default 60_000 */
  readonly lookInterval?: number
}

/** How many containers are asked for at a time. */
const atATime = 8
/** Time beyond its own that a container may take to stop, ms; one that is still there then is not stopping. */
const stopPatienceMs = 5000

/**
 * The labelled containers of a Docker engine as Pods and Services. Level-triggered: events only say which container to look
 * at again, one look after the other, so no order of events can leave what is wrong. After each connect, and every minute, all
 * are looked at; while the engine is away all stays as it is. Dispose it to stop.
 */
export class DockerSource implements Source, Disposable {
  readonly name: string
  readonly #options: DockerOptions
  readonly #clock: Clock
  readonly #engine: EngineClient
  readonly #stop = new AbortController()
  readonly #problemLog: ProblemLog
  readonly #listeners = new Set<(state: SourceState) => void>()
  readonly #containers = new Map<string, Container>()
  /** Containers that were told to stop, and what forgets that. */
  readonly #terminating = new Map<string, Timer>()
  #objects: ReadonlyMap<string, ManifestObject> = new Map()
  #current: SourceState = { snapshot: emptySnapshot, problems: [], synced: false }
  readonly #counts = { lists: 0, watches: 0, events: 0, failures: 0 }
  /** Those of the present connection. */
  #looks: Looks | undefined
  #connected = false
  #heard: number | undefined
  #error: string | undefined

  constructor(options: DockerOptions) {
    this.name = `Docker ${options.socket}`
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#engine = new EngineClient(options.socket)
    this.#problemLog = new ProblemLog(options.log)
    void this.#run()
  }

  get current(): SourceState {
    return this.#current
  }

  subscribe(listener: (state: SourceState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  status(): readonly FollowedResource[] {
    const ageMs = this.#heard === undefined ? undefined : this.#clock.monotonic() - this.#heard
    const { synced } = this.#current
    const objects = this.#containers.size
    const state = { connected: this.#connected, error: this.#error, auditFailures: 0 }
    return [{ resource: 'containers', synced, objects, ageMs, ...state, ...this.#counts }]
  }

  [Symbol.dispose](): void {
    this.#stop.abort()
    this.#engine[Symbol.dispose]()
    this.#listeners.clear()
    for (const timer of this.#terminating.values()) timer.cancel()
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    // It is on this machine, and names and Services wait for it.
    const backoff = new Backoff(this.#clock, { firstMs: 50, maxMs: 1000 })
    while (!signal.aborted) {
      let error: unknown
      try {
        await this.#follow()
        error = new EngineError('the event stream ended')
      } catch (caught) {
        error = caught
      }
      if (signal.aborted) return
      this.#noteLost(error)
      await pause(backoff.next(), { clock: this.#clock, signal })
    }
  }

  /** One connection: events first, then the list, so that nothing falls between them. */
  async #follow(): Promise<void> {
    using connection = new Connection(this.#stop.signal)
    const { signal } = connection
    const looks = new Looks(async (ids) => {
      if (ids === 'all') await this.#lookAtAll(signal)
      else await this.#lookAt(ids, signal)
      if (!signal.aborted) this.#publish()
    })
    this.#looks = looks
    // What happened in the second before is looked at in vain, and harms nobody.
    const since = new Date(this.#clock.now().getTime() - 1000)
    const stream = this.#engine.events({
      since,
      signal,
      onOpen: () => looks.add('all'),
      onEvent: (event) => looks.add(this.#take(event)),
    })
    let timer: Timer | undefined
    const lookLater = (): void => {
      timer = this.#clock.after(this.#options.lookInterval ?? 60_000, () => {
        looks.add('all')
        lookLater()
      })
    }
    lookLater()
    try {
      await Promise.race([stream, looks.failed])
    } finally {
      timer?.cancel()
      // Whichever lost the race ends with the connection.
      connection[Symbol.dispose]()
      await Promise.allSettled([stream])
    }
  }

  /** Notes what only the event tells, and returns whom to look at. */
  #take({ container: id, action, signal }: EngineEvent): string {
    this.#counts.events++
    this.#heard = this.#clock.monotonic()
    const container = this.#containers.get(id)
    if (action === 'kill' && container && signal === container.stopSignal) {
      this.#terminating.get(id)?.cancel()
      const patience = container.stopTimeout * 1000 + stopPatienceMs
      const timer = this.#clock.after(patience, () => {
        this.#terminating.delete(id)
        this.#looks?.add(id)
      })
      this.#terminating.set(id, timer)
    } else if (action === 'die' || action === 'start') this.#forgetStopping(id)
    return id
  }

  #forgetStopping(id: string): void {
    this.#terminating.get(id)?.cancel()
    this.#terminating.delete(id)
  }

  async #lookAtAll(signal: AbortSignal): Promise<void> {
    const listed = (await this.#engine.listContainers(signal)).map(readListed).filter(({ labels }) => isForUs(labels))
    const present = new Set(listed.map(({ id }) => id))
    for (const id of this.#containers.keys()) if (!present.has(id)) this.#containers.delete(id)
    await this.#lookAt(present, signal)
    this.#counts.lists++
    this.#heard = this.#clock.monotonic()
    if (!this.#connected) this.#noteConnected()
  }

  async #lookAt(ids: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const waiting = [...ids]
    const look = async (): Promise<void> => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        const found = await this.#engine.inspectContainer(id, signal)
        const container = found === undefined ? undefined : readContainer(found)
        if (container && isForUs(container.labels)) this.#containers.set(id, container)
        else this.#containers.delete(id)
        if (container?.state !== 'running') this.#forgetStopping(id)
      }
    }
    await Promise.all(Array.from({ length: Math.min(atATime, waiting.length) }, look))
  }

  #noteConnected(): void {
    this.#connected = true
    this.#counts.watches++
    const again = this.#error !== undefined
    this.#error = undefined
    const fields = { source: this.name, containers: this.#containers.size }
    this.#options.log.info(fields, again ? 'Docker is followed again' : 'Docker is followed')
  }

  /** Said once, however often it is tried again. */
  #noteLost(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error)
    const isNew = this.#connected || this.#error === undefined
    this.#counts.failures++
    this.#connected = false
    this.#error = reason
    if (!isNew) return
    this.#options.log.warn({ source: this.name, err: error }, `Docker cannot be followed: ${reason}; what it had stays`)
    this.#give({ ...this.#current, problems: this.#problems([]) })
  }

  #publish(): void {
    const seen = [...this.#containers].map(([id, container]) => ({ container, terminating: this.#terminating.has(id) }))
    const { objects, problems } = describeContainers(seen, this.#options)
    const before = this.#objects
    // What is as it was keeps its identity: nobody after us has to look at it.
    const after = new Map(
      objects.map((object) => {
        const id = manifestId(object)
        const old = before.get(id)
        return [id, old && isDeepStrictEqual(old, object) ? old : object]
      }),
    )
    const changes = [...new Set([...before.keys(), ...after.keys()])].map((id): ObjectChange => ({
      before: before.get(id),
      after: after.get(id),
    }))
    this.#objects = after
    const own = problems.map(({ container, path, reason }): Problem => {
      return { severity: 'error', file: this.name, object: `container ${container}`, path, reason }
    })
    this.#problemLog.update(own)
    this.#give({ snapshot: editSnapshot(this.#current.snapshot, changes), problems: this.#problems(own), synced: true })
  }

  #problems(own: readonly Problem[]): readonly Problem[] {
    if (this.#error === undefined) return own
    const reason = `cannot be followed: ${this.#error}`
    return [{ severity: 'error', file: this.name, object: 'containers', reason }, ...own]
  }

  #give(state: SourceState): void {
    if (this.#stop.signal.aborted) return
    this.#current = state
    for (const listener of this.#listeners) listener(state)
  }
}

/** What ends with one connection: its own signal, and whoever waits for it. */
class Connection implements Disposable {
  readonly #controller = new AbortController()
  readonly #outer: AbortSignal
  readonly #end = (): void => this.#controller.abort()

  constructor(outer: AbortSignal) {
    this.#outer = outer
    outer.addEventListener('abort', this.#end, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  [Symbol.dispose](): void {
    this.#outer.removeEventListener('abort', this.#end)
    this.#end()
  }
}

/** What is to be looked at, one look at a time; what is asked for meanwhile is one more look. */
class Looks {
  /** Rejects when a look fails; there is none after that. */
  readonly failed: Promise<never>
  readonly #look: (what: 'all' | ReadonlySet<string>) => Promise<void>
  readonly #fail: (error: unknown) => void
  readonly #ids = new Set<string>()
  #all = false
  #looking = false

  constructor(look: (what: 'all' | ReadonlySet<string>) => Promise<void>) {
    this.#look = look
    const { promise, reject } = Promise.withResolvers<never>()
    this.failed = promise
    this.#fail = reject
  }

  add(what: string): void {
    if (what === 'all') this.#all = true
    else this.#ids.add(what)
    if (!this.#looking) void this.#go()
  }

  async #go(): Promise<void> {
    this.#looking = true
    try {
      while (this.#all || this.#ids.size > 0) {
        const what = this.#all ? 'all' : new Set(this.#ids)
        this.#all = false
        this.#ids.clear()
        await this.#look(what)
      }
      this.#looking = false
    } catch (error) {
      this.#fail(error)
    }
  }
}
