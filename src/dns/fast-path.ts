import { availableParallelism } from 'node:os'
import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { NameKey } from '../dns-message/name.ts'
import type { DnsCounts } from './dns-counts.ts'
import type { SampleRing } from './query-samples.ts'
import type { Resolver } from './resolver.ts'
import { type Listener, type ListenerOptions, listenUdp } from './udp-listener.ts'
import type { UdpWorkers } from './udp-workers.ts'
import { ZoneTable } from './zone-table.ts'

/** What workers did besides answering. */
export interface WorkerCounters {
  /** Threads that answer. */
  readonly threads: number
  /** Threads that failed and were started again. */
  readonly restarts: number
  /** Answers that the kernel did not take. */
  readonly unsent: number
  /** Queries at which a worker itself failed; they were passed on. */
  readonly faults: number
  /** Queries that workers could not answer and that had no room to wait for who can: they were dropped. */
  readonly shed: number
}

export interface FastPathOptions {
  readonly resolver: Resolver
  /** Whether nobody else answers names of a zone. */
  readonly isAlone: (zone: NameKey) => boolean
  /** Default {@link defaultWorkers}. */
  readonly workers?: number
  /** Default false. */
  readonly joins?: boolean
  readonly clock?: Clock
  readonly log: Log
}

/** How often is asked whether the cluster is still heard, in milliseconds: those who speak EDNS are told when it is not. */
const lossInterval = 250

/** Workers of a machine that has other things to do, too: one, and another one for every eight CPUs. */
export function defaultWorkers(): number {
  return Math.min(1 + Math.floor(availableParallelism() / 8), 8)
}

/**
 * The UDP side of a server: workers answer what the cluster knows, and pass the rest on. Where native code cannot be loaded, and where
 * something stands before the cluster (rewriting, hosts entries), this thread answers all.
 */
export class FastPath implements AsyncDisposable {
  readonly #options: FastPathOptions
  readonly #count: number
  readonly #clock: Clock
  #table: ZoneTable | undefined
  #workers: UdpWorkers | undefined
  #started = false
  #timer: Timer | undefined

  constructor(options: FastPathOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    const wanted = options.workers ?? defaultWorkers()
    const { resolver, log } = options
    const { zone } = resolver
    const { stages, rewriter, search, passesOn } = resolver.options
    const isPlain =
      (stages ?? []).every((stage) => zone !== undefined && stage.touches?.(zone.name.key) === false) && !rewriter
    const mayAnswer = zone !== undefined && zone.name.wire.length > 1 && isPlain && options.isAlone(zone.name.key)
    this.#count = mayAnswer ? wanted : 0
    if (!zone || this.#count === 0) return
    // Now, and not when it listens: it has to know of each snapshot.
    this.#table = new ZoneTable({ zone, log })
    this.#table.passDenials(search !== undefined || passesOn !== undefined)
  }

  /** Whether workers can answer, as far as is known before they are opened. */
  get isPossible(): boolean {
    return this.#table !== undefined
  }

  get hasWorkers(): boolean {
    return this.#workers !== undefined
  }

  get counts(): readonly DnsCounts[] {
    return this.#workers?.counts ?? []
  }

  get samples(): readonly SampleRing[] {
    return this.#workers?.rings ?? []
  }

  get counters(): WorkerCounters {
    const none = { restarts: 0, unsent: 0, faults: 0, shed: 0 }
    return { threads: this.#workers?.counts.length ?? 0, ...(this.#workers?.counters ?? none) }
  }

  /** Listens on one address; workers begin with {@link start}, or end with {@link abandon}. Throws `ListenError`. */
  async listen(options: ListenerOptions): Promise<Listener> {
    const workers = await this.#open(options)
    if (!workers) return listenUdp(options)
    const port = workers.open(options.address, options.port)
    return {
      port,
      [Symbol.asyncDispose]: () => {
        if (!this.#started) workers.close(options.address)
        return Promise.resolve()
      },
    }
  }

  /** To be called when all addresses are listened on. */
  start(): void {
    this.#started = true
    this.#workers?.start()
    if (this.#workers && this.#options.resolver.options.lostFor) this.#watchLoss()
  }

  /** Ends the threads when it came to no {@link start}. */
  async abandon(): Promise<void> {
    if (this.#started) return
    await this.#workers?.[Symbol.asyncDispose]()
    this.#workers = undefined
  }

  /** Native code is loaded only here: without it there are no workers, and all else works. */
  async #open({ handle, log }: ListenerOptions): Promise<UdpWorkers | undefined> {
    const table = this.#table
    if (!table || this.#workers) return this.#workers
    try {
      const { UdpWorkers } = await import('./udp-workers.ts')
      this.#workers = new UdpWorkers({ workers: this.#count, joins: this.#options.joins ?? false, table, handle, log })
      await this.#workers.ready()
    } catch (error) {
      log.warn({ error }, 'DNS workers need native code that cannot be loaded here: the main thread answers')
      this.#table = undefined
    }
    return this.#workers
  }

  #watchLoss(): void {
    this.#table?.passEdns(this.#options.resolver.options.lostFor?.() !== undefined)
    this.#timer = this.#clock.after(lossInterval, () => this.#watchLoss())
  }

  /** Answers what waits in the workers' queues, then closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel()
    await this.#workers?.[Symbol.asyncDispose]()
  }
}
