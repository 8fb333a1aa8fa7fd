import { DatagramBatch, mostSockets } from '../linux/datagram-batch.ts'
import { socketAddressSize } from '../linux/udp-socket.ts'
import { AnswerFinder, verdicts } from './answer-finder.ts'
import type { AnswerMemory } from './answer-memory.ts'
import type { PassedQueries } from './passed-queries.ts'

/** A socket as a worker knows it. */
export interface ServedSocket {
  readonly fd: number
  readonly packetInfo: boolean
  readonly ipv6: boolean
}

/** Words of the memory by which a worker is told to end, and tells what it did besides answering. */
export const workerWords = {
  /** One of {@link workerStates}. */
  state: 0,
  /** Answers that the kernel did not take. */
  unsent: 1,
  /** Messages at which the worker itself failed; they were passed on. */
  faults: 2,
  end: 16,
} as const

/** What a worker is to do. */
export const workerStates = {
  /** Wait: there are no sockets yet. */
  wait: 0,
  serve: 1,
  /** Answer what waits, then end. */
  end: 2,
} as const

/** Words in which a worker finds its sockets: how many, then for each its descriptor and whether it has control data (1) and is of IPv6 (2). */
export const socketWords = 1 + 2 * mostSockets

/** Writes sockets for {@link serveDatagrams}, at most {@link mostSockets}. */
export function writeSockets(into: Int32Array, sockets: readonly ServedSocket[]): void {
  if (sockets.length > mostSockets)
    throw new Error(`a DNS worker has at most ${mostSockets} addresses, not ${sockets.length}`)
  for (const [i, { fd, packetInfo, ipv6 }] of sockets.entries()) {
    into[1 + i * 2] = fd
    into[2 + i * 2] = (packetInfo ? 1 : 0) | (ipv6 ? 2 : 0)
  }
  into[0] = sockets.length
}

function readSockets(from: Int32Array): ServedSocket[] {
  return Array.from({ length: from[0]! }, (_, i) => {
    const flags = from[2 + i * 2]!
    return { fd: from[1 + i * 2]!, packetInfo: (flags & 1) !== 0, ipv6: (flags & 2) !== 0 }
  })
}

/** One answered question. The same object each time. */
export interface AnsweredQuery {
  ipv6: boolean
  type: number
  requestSize: number
  dnssecOk: boolean
  rcode: number
  responseSize: number
  /** From its arrival in the worker until the answers of its batch were sent. */
  seconds: number
}

export interface ServeOptions {
  /** {@link writeSockets}; read when the state is no longer to wait. */
  readonly sockets: Int32Array
  readonly memory: AnswerMemory
  readonly passed: PassedQueries
  /** {@link workerWords} */
  readonly control: Int32Array
  /** Called when the thread is ready, and when {@link PassedQueries.write} says so. */
  readonly call: () => void
  readonly counter: {
    add(query: AnsweredQuery): void
    addDropped(): void
  }
  /** Told of each answered query while its question is still there; `name` is where its name stands in `bytes`. */
  readonly sampler?: {
    isWanted(): boolean
    take(query: AnsweredQuery, name: { bytes: Uint8Array; start: number; end: number; address: Uint8Array }): void
  }
  /** Datagrams at a time; default 64. */
  readonly batch?: number
}

/**
 * Of many queries, a thread that looks at its queue all the time finds few at each look, and the looks cost more than the answers: after a batch of so many
 * datagrams it sleeps for so many milliseconds, in which more come, as network cards do with their interrupts. Some 70,000 queries a second keep a worker at
 * it; at less it answers each query at once.
 */
const gathering = { from: 8, time: 0.1 } as const

/** How long a worker that is to end waits for datagrams that the kernel was just putting into its queue, in milliseconds. */
const lastWait = 3

/**
 * Answers the datagrams of some sockets, from when it is given them until it is told to end and nothing waits any more. It holds the thread all the
 * while: with one socket it waits in recvmmsg(2), with several in poll(2).
 */
export function serveDatagrams(options: ServeOptions): void {
  const { control } = options
  options.call()
  Atomics.wait(control, workerWords.state, workerStates.wait)
  const sockets = readSockets(options.sockets)
  const server = new BatchServer(sockets, options)
  const fds = sockets.map(({ fd }) => fd)
  const nothing = new Int32Array(new SharedArrayBuffer(4))
  let last = 0
  while (Atomics.load(control, workerWords.state) === workerStates.serve) {
    // After a full batch there is another one already.
    if (last >= gathering.from && last < server.capacity) Atomics.wait(nothing, 0, 0, gathering.time)
    if (sockets.length > 1) server.wait(fds)
    last = 0
    for (let i = 0; i < sockets.length; i++) last = Math.max(last, server.serve(i, sockets.length === 1))
  }
  for (let last = false; ;) {
    let served = 0
    for (let i = 0; i < sockets.length; i++) served += server.serve(i, false)
    if (served > 0) continue
    if (last) return
    Atomics.wait(nothing, 0, 0, lastWait)
    last = true
  }
}

class BatchServer {
  readonly #sockets: readonly ServedSocket[]
  readonly #options: ServeOptions
  readonly #batch: DatagramBatch
  readonly #finder: AnswerFinder
  /** Of each queued answer: what {@link ServeOptions.counter} is told. */
  readonly #types: Uint16Array
  readonly #rcodes: Uint8Array
  readonly #requestSizes: Uint16Array
  readonly #responseSizes: Uint16Array
  readonly #query: AnsweredQuery = {
    ipv6: false,
    type: 0,
    requestSize: 0,
    dnssecOk: false,
    rcode: 0,
    responseSize: 0,
    seconds: 0,
  }
  /** How each socket is read: made once, so that nothing is made per batch. */
  readonly #waiting: readonly { readonly wait: boolean; readonly packetInfo: boolean }[]
  readonly #looking: readonly { readonly wait: boolean; readonly packetInfo: boolean }[]
  #answered = 0

  constructor(sockets: readonly ServedSocket[], options: ServeOptions) {
    this.#sockets = sockets
    this.#options = options
    this.#waiting = sockets.map(({ packetInfo }) => ({ wait: true, packetInfo }))
    this.#looking = sockets.map(({ packetInfo }) => ({ wait: false, packetInfo }))
    this.#batch = new DatagramBatch(options.batch)
    this.#finder = new AnswerFinder(options.memory, this.#batch.bytes)
    const { capacity } = this.#batch
    this.#types = new Uint16Array(new ArrayBuffer(capacity * 2))
    this.#rcodes = new Uint8Array(new ArrayBuffer(capacity))
    this.#requestSizes = new Uint16Array(new ArrayBuffer(capacity * 2))
    this.#responseSizes = new Uint16Array(new ArrayBuffer(capacity * 2))
  }

  get capacity(): number {
    return this.#batch.capacity
  }

  wait(fds: readonly number[]): void {
    this.#batch.wait(fds)
  }

  /** Serves one batch of a socket and returns how many datagrams it had; `wait`: for the first one. */
  serve(index: number, wait: boolean): number {
    const socket = this.#sockets[index]!
    const batch = this.#batch
    const received = batch.receive(socket.fd, (wait ? this.#waiting : this.#looking)[index]!)
    if (received === 0) return 0
    const began = performance.now()
    this.#answered = 0
    this.#query.ipv6 = socket.ipv6
    for (let i = 0; i < received; i++) this.#take(i, index)
    const unsent = batch.send(socket.fd, received)
    if (unsent > 0) Atomics.add(this.#options.control, workerWords.unsent, unsent)
    this.#count((performance.now() - began) / 1000)
    return received
  }

  #take(i: number, socket: number): void {
    const batch = this.#batch
    const length = batch.length(i)
    let answer: number = verdicts.pass
    try {
      answer = batch.isCut(i) ? verdicts.pass : this.#finder.answer(batch.start(i), length)
    } catch {
      // The general path answers what this one cannot; the count is told to people by the thread that owns the log.
      Atomics.add(this.#options.control, workerWords.faults, 1)
    }
    if (answer > 0) this.#answer(i, length, answer)
    else if (answer === verdicts.drop) this.#options.counter.addDropped()
    else if (this.#options.passed.write(batch, i, { socket, length })) this.#options.call()
  }

  #answer(i: number, requestSize: number, responseSize: number): void {
    const finder = this.#finder
    const n = this.#answered++
    this.#batch.queue(i, responseSize)
    this.#types[n] = finder.type
    this.#rcodes[n] = finder.rcode | (finder.dnssecOk ? 0x80 : 0)
    this.#requestSizes[n] = requestSize
    this.#responseSizes[n] = responseSize
    if (this.#options.sampler?.isWanted()) this.#sample(i, n)
  }

  #sample(i: number, n: number): void {
    const { bytes, addresses } = this.#batch
    const from = i * socketAddressSize
    const { ipv6 } = this.#query
    this.#fill(n, 0)
    this.#options.sampler?.take(this.#query, {
      bytes,
      start: this.#batch.start(i) + 12,
      end: this.#finder.nameEnd,
      address: ipv6 ? addresses.slice(from + 8, from + 24) : addresses.slice(from + 4, from + 8),
    })
  }

  /** Counted when the answers are on their way, so that counting delays nobody. */
  #count(seconds: number): void {
    const { counter } = this.#options
    for (let n = 0; n < this.#answered; n++) {
      this.#fill(n, seconds)
      counter.add(this.#query)
    }
  }

  #fill(n: number, seconds: number): void {
    const query = this.#query
    const rcode = this.#rcodes[n]!
    query.type = this.#types[n]!
    query.requestSize = this.#requestSizes[n]!
    query.dnssecOk = (rcode & 0x80) !== 0
    query.rcode = rcode & 0x7f
    query.responseSize = this.#responseSizes[n]!
    query.seconds = seconds
  }
}
