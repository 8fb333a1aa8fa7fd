import type { Log } from '../base/log.ts'
import { UdpSocket } from '../linux/udp-socket.ts'
import { MessageError } from '../dns-message/message-error.ts'
import { type Question, readQuestion } from '../dns-message/query.ts'
import { WorkerPool } from '../dns-workers/worker-pool.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { DnsCounts, dnsCountSlots } from './dns-counts.ts'
import { ListenError } from './listen-error.ts'
import { SampleRing } from './query-samples.ts'
import type { MessageHandler } from './udp-listener.ts'
import type { UdpThreadExtras } from './udp-thread.ts'
import type { ZoneTable } from './zone-table.ts'

/** Samples that wait to be read, per worker. */
const samples = 4096

export interface UdpWorkersOptions {
  readonly workers: number
  /** Whether others of this user may be at the same addresses already. */
  readonly joins: boolean
  readonly table: ZoneTable
  /** Answers what workers cannot. */
  readonly handle: MessageHandler
  readonly log: Log
}

/**
 * UDP sockets that threads read and answer from finished answers. When the threads are {@link ready}, sockets are opened one address after the other, and
 * answered from {@link start} on: the kernel gives them queries from the moment they are open, also of those who asked the server that ours
 * takes the place of. Disposing answers what waits, and closes all.
 */
export class UdpWorkers implements AsyncDisposable {
  readonly counts: readonly DnsCounts[]
  readonly rings: readonly SampleRing[]
  readonly #options: UdpWorkersOptions
  readonly #sockets: UdpSocket[][]
  readonly #pool: WorkerPool

  constructor(options: UdpWorkersOptions) {
    this.#options = options
    const numbers = Array.from({ length: options.workers }, (_, i) => i)
    this.#sockets = numbers.map(() => [])
    this.counts = numbers.map(() => new DnsCounts(new Float64Array(new SharedArrayBuffer(dnsCountSlots * 8))))
    this.rings = numbers.map(() => new SampleRing({ samples }))
    this.#pool = this.#startThreads()
  }

  /** Resolves when the threads run. */
  async ready(): Promise<void> {
    await this.#pool.ready()
  }

  /** Opens a socket per worker, all on the same port, which is returned. Throws {@link ListenError}. */
  open(address: IpAddress, port: number): number {
    let chosen = port
    const opened: UdpSocket[] = []
    try {
      // A second server that was started by mistake would get half of the queries.
      if (!this.#options.joins && port !== 0) UdpSocket.open({ address, port, reusePort: false })[Symbol.dispose]()
      for (const _ of this.#sockets) {
        const socket = UdpSocket.open({ address, port: chosen })
        opened.push(socket)
        chosen = socket.port
      }
    } catch (error) {
      for (const socket of opened) socket[Symbol.dispose]()
      throw new ListenError({ transport: 'udp', address, port: chosen }, error as Error)
    }
    for (const [i, socket] of opened.entries()) this.#sockets[i]?.push(socket)
    return chosen
  }

  /** Closes the sockets of an address, before {@link start}. */
  close(address: IpAddress): void {
    for (const [i, sockets] of this.#sockets.entries()) {
      for (const socket of sockets) if (socket.address === address) socket[Symbol.dispose]()
      this.#sockets[i] = sockets.filter((socket) => socket.address !== address)
    }
  }

  /** Begins to answer. */
  start(): void {
    this.#pool.serve(this.#sockets)
  }

  #startThreads(): WorkerPool {
    const { workers, table, handle, log } = this.#options
    // Compiled packages have the thread beside this file, too, as JavaScript.
    const module = new URL(import.meta.url.endsWith('.ts') ? './udp-thread.ts' : './udp-thread.js', import.meta.url)
    return new WorkerPool({
      module,
      workers,
      memory: table.table.memory,
      handle: (message, client) => {
        learnFrom(message, table)
        return handle(message, client)
      },
      extras: (worker): UdpThreadExtras => ({
        counts: this.counts[worker]?.slots.buffer as SharedArrayBuffer,
        samples: this.rings[worker]?.memory,
      }),
      log,
    })
  }

  get counters(): WorkerPool['counters'] {
    return this.#pool.counters
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]()
  }
}

/** A query about a Service whose answers are not finished: the next one finds them. */
function learnFrom(message: Uint8Array, table: ZoneTable): void {
  const question = askedQuestion(message)
  if (question) table.learn(question.name.key, question.type)
}

function askedQuestion(message: Uint8Array): Question | undefined {
  try {
    return readQuestion(message).question
  } catch (error) {
    // The general path says to the client what is wrong with it.
    if (error instanceof MessageError) return undefined
    throw error
  }
}
