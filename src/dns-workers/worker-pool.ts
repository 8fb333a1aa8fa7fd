import { Worker } from 'node:worker_threads'
import { type Clock, systemClock, type Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { socketAddressText, type UdpSocket } from '../linux/udp-socket.ts'
import type { AnswerMemory } from './answer-memory.ts'
import { PassedQueries, type PassedQuery } from './passed-queries.ts'
import { socketWords, workerStates, workerWords, writeSockets } from './serve-datagrams.ts'

/** What a worker's thread is given. */
export interface WorkerRole {
  /** For {@link serveDatagrams}. */
  readonly sockets: SharedArrayBuffer
  readonly memory: AnswerMemory
  readonly passed: SharedArrayBuffer
  readonly control: SharedArrayBuffer
  /** What {@link WorkerPoolOptions.extras} gave for this worker. */
  readonly extras: unknown
}

export interface WorkerPoolOptions {
  /** The module that runs {@link serveDatagrams} with its {@link WorkerRole}. */
  readonly module: URL
  readonly workers: number
  readonly memory: AnswerMemory
  /** Answers what workers pass on; `send` is called at most once, false means never. */
  readonly handle: (message: Buffer, client: { readonly address: string; send(response: Buffer): void }) => boolean
  /** Anything else that the module wants to be told, by the number of the worker. */
  readonly extras?: (worker: number) => unknown
  readonly log: Log
  readonly clock?: Clock
}

/** Octets of queries that may wait for the general path, per worker. */
const passedOctets = 1 << 20
/** Passed queries that are handled in one turn of the event loop. */
const turn = 64
/** Milliseconds until a worker that ended by itself is started again: at first, and at most. */
const [firstDelay, longestDelay] = [10, 10_000]
/** A worker that lived so many milliseconds is not one that fails at once. */
const settled = 10_000
/** How long is waited for threads to run, in milliseconds. */
const startTime = 5000
/** How long a pool that closes waits for its workers, and then for answers of the general path, in milliseconds. */
const drainTime = 1500

/**
 * Threads that answer the datagrams of some sockets; one that fails is started again, and its socket waits meanwhile. A thread takes a while to start: sockets
 * that are opened when all are {@link ready} keep no query waiting.
 */
export class WorkerPool implements AsyncDisposable {
  readonly #workers: readonly PoolWorker[]

  constructor(options: WorkerPoolOptions) {
    this.#workers = Array.from({ length: options.workers }, (_, number) => new PoolWorker(number, options))
  }

  /** Gives each worker its sockets, which are the pool's from now on. Once. */
  serve(sockets: readonly (readonly UdpSocket[])[]): void {
    for (const [i, worker] of this.#workers.entries()) worker.serve(sockets[i] ?? [])
  }

  get counters(): {
    readonly restarts: number
    readonly unsent: number
    readonly faults: number
    readonly shed: number
  } {
    const sum = { restarts: 0, unsent: 0, faults: 0, shed: 0 }
    for (const { counters } of this.#workers) {
      sum.restarts += counters.restarts
      sum.unsent += counters.unsent
      sum.faults += counters.faults
      sum.shed += counters.shed
    }
    return sum
  }

  /** Resolves when all threads run; one that does not is tried again, but not waited for. */
  async ready(): Promise<void> {
    const late = new AbortController()
    await Promise.race([Promise.all(this.#workers.map(({ ready }) => ready)), delay(startTime, late.signal)])
    late.abort()
  }

  /** Takes no more queries than those that wait, answers these, and closes the sockets. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()))
  }
}

class PoolWorker {
  readonly #number: number
  #sockets: readonly UdpSocket[] = []
  readonly #socketWords = new Int32Array(new SharedArrayBuffer(socketWords * 4))
  readonly #options: WorkerPoolOptions
  readonly #clock: Clock
  readonly #passed = new PassedQueries({ octets: passedOctets })
  readonly #control = new Int32Array(new SharedArrayBuffer(workerWords.end * 4))
  #thread: Worker | undefined
  #exited: Promise<void> = Promise.resolve()
  readonly #ready = Promise.withResolvers<void>()
  #timer: Timer | undefined
  #delay = firstDelay
  #restarts = 0
  /** Passed queries that wait for their answer. */
  #waiting = 0
  #closing = false
  #draining = false
  #loggedFaults = 0

  constructor(number: number, options: WorkerPoolOptions) {
    this.#number = number
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#start()
  }

  /** Resolves when its thread runs for the first time. */
  get ready(): Promise<void> {
    return this.#ready.promise
  }

  serve(sockets: readonly UdpSocket[]): void {
    const served = sockets.map(({ fd, packetInfo, address }) => ({ fd, packetInfo, ipv6: ipFamilyOf(address) === 6 }))
    writeSockets(this.#socketWords, served)
    this.#sockets = sockets
    this.#tell(workerStates.serve)
  }

  #tell(state: number): void {
    Atomics.store(this.#control, workerWords.state, state)
    Atomics.notify(this.#control, workerWords.state)
  }

  get counters() {
    return {
      restarts: this.#restarts,
      unsent: Atomics.load(this.#control, workerWords.unsent),
      faults: Atomics.load(this.#control, workerWords.faults),
      shed: this.#passed.shed,
    }
  }

  #start(): void {
    const { module, memory, extras } = this.#options
    const role: WorkerRole = {
      sockets: this.#socketWords.buffer,
      memory,
      passed: this.#passed.memory,
      control: this.#control.buffer,
      extras: extras?.(this.#number),
    }
    const began = this.#clock.monotonic()
    // The thread makes next to no garbage: it needs no young generation of tens of megabytes.
    const thread = new Worker(module, {
      workerData: role,
      name: `dns-${this.#number}`,
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    })
    let failure: unknown
    thread.on('message', () => {
      // The first message only says that it runs.
      this.#ready.resolve()
      this.#drain()
    })
    thread.on('error', (error) => (failure = error))
    this.#thread = thread
    this.#exited = new Promise((resolve) => {
      thread.on('exit', (code) => {
        resolve()
        if (!this.#closing) this.#restart(failure ?? new Error(`exit code ${code}`), began)
      })
    })
  }

  #restart(error: unknown, began: number): void {
    const lived = this.#clock.monotonic() - began
    this.#delay = lived > settled ? firstDelay : Math.min(this.#delay * 2, longestDelay)
    this.#restarts++
    this.#options.log.error(
      { error, worker: this.#number, restarts: this.#restarts, delay: this.#delay },
      'A DNS worker failed; its queries wait until it is started again',
    )
    this.#timer = this.#clock.after(this.#delay, () => {
      if (!this.#closing) this.#start()
    })
  }

  /** Hands what was passed on to the general path, a few in each turn of the event loop. */
  #drain(): void {
    this.#passed.heard()
    this.#logFaults()
    if (!this.#draining) this.#takeTurn()
  }

  #takeTurn(): void {
    for (let left = turn; left > 0; left--) {
      const query = this.#passed.read()
      if (!query) {
        this.#draining = false
        return
      }
      this.#handle(query)
    }
    this.#draining = true
    setImmediate(() => this.#takeTurn())
  }

  #handle({ message, peer, socket }: PassedQuery): void {
    const { handle, log } = this.#options
    let sent = false
    const address = socketAddressText(peer.address)
    const send = (response: Buffer): void => {
      if (!sent) this.#waiting--
      sent = true
      try {
        this.#sockets[socket]?.send(response, peer)
      } catch (error) {
        // The client is gone or unreachable: it will ask again, if it still wants to know.
        log.debug({ error, client: address }, 'A DNS response could not be sent')
      }
    }
    this.#waiting++
    const willAnswer = handle(message, { address, send })
    if (!willAnswer && !sent) this.#waiting--
  }

  #logFaults(): void {
    const faults = Atomics.load(this.#control, workerWords.faults)
    if (faults === this.#loggedFaults) return
    if (this.#loggedFaults === 0)
      this.#options.log.error({ worker: this.#number }, 'A DNS worker cannot read a query; the general path answers it')
    this.#loggedFaults = faults
  }

  async close(): Promise<void> {
    this.#closing = true
    this.#timer?.cancel()
    const { log } = this.#options
    for (const socket of this.#sockets) {
      try {
        socket.leaveGroup()
      } catch (error) {
        log.debug({ error, address: socket.address }, 'A DNS socket could not leave its group before it is closed')
      }
    }
    this.#tell(workerStates.end)
    for (const socket of this.#sockets) socket.endWaiting()
    const late = new AbortController()
    await Promise.race([this.#exited, delay(drainTime, late.signal)])
    late.abort()
    await this.#thread?.terminate()
    this.#drain()
    for (let waited = 0; (this.#waiting > 0 || this.#draining) && waited < drainTime; waited += 10) await delay(10)
    for (const socket of this.#sockets) socket[Symbol.dispose]()
  }
}

function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => clearTimeout(timer))
  })
}
