import { fork, type ChildProcess } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { parseName } from '../src/dns-message/name.ts'
import { scriptBeside } from './script-beside.ts'

export interface RestartOptions {
  readonly port: number
  /** Questions in all; each is sent once. */
  readonly queries: number
  readonly restarts: number
  /** How the old server is ended when the new one listens. */
  readonly signal: 'SIGTERM' | 'SIGKILL'
}

export interface RestartResult {
  readonly asked: number
  readonly answered: number
  readonly lost: number
  readonly restarts: number
  readonly perSecond: number
  /** The longest time that an answer took, milliseconds. */
  readonly slowest: number
}

const clients = 16
/** Questions of a client that wait at a time. */
const window = 4
const waitMs = 2000

/**
 * Asks all the time while servers take each other's place: the new one joins the sockets of the old one, then the old one ends. No question is
 * asked twice: one without an answer after two seconds is lost.
 */
export async function restartUnderLoad(options: RestartOptions): Promise<RestartResult> {
  const { port, queries, restarts, signal } = options
  let server = await startServer(port)
  const began = performance.now()
  const load = new Load(port, queries)
  try {
    const done = load.run()
    for (let i = 1; i <= restarts; i++) {
      await load.reached((queries * i) / (restarts + 1))
      const next = await startServer(port)
      const old = server
      server = next
      const exited = once(old, 'exit')
      old.kill(signal)
      await exited
    }
    await done
  } finally {
    server.kill('SIGKILL')
  }
  const perSecond = load.asked / ((performance.now() - began) / 1000)
  return {
    asked: load.asked,
    answered: load.answered,
    lost: load.asked - load.answered,
    restarts,
    perSecond,
    slowest: load.slowest,
  }
}

async function startServer(port: number): Promise<ChildProcess> {
  const child = fork(scriptBeside(import.meta.url, 'dns-server'), ['fairlead', String(port), '10', '1', '2', 'joins'])
  const first = await Promise.race([
    once(child, 'message').then(() => 'ready'),
    once(child, 'exit').then(() => 'ended'),
  ])
  if (first === 'ended') throw new Error('the DNS server ended before it listened')
  return child
}

class Load {
  asked = 0
  answered = 0
  slowest = 0
  readonly #queries: number
  readonly #port: number
  #waiting: { at: number; resolve: () => void } | undefined

  constructor(port: number, queries: number) {
    this.#port = port
    this.#queries = queries
  }

  /** Resolves when so many questions were asked. */
  async reached(at: number): Promise<void> {
    if (this.asked < at) await new Promise<void>((resolve) => (this.#waiting = { at, resolve }))
  }

  async run(): Promise<void> {
    await Promise.all(Array.from({ length: clients }, () => this.#client()))
  }

  async #client(): Promise<void> {
    const socket = createSocket({ type: 'udp4', lookup: (host, _options, callback) => callback(null, host, 4) })
    // Asked for before: with a lookup that answers at once, bind() emits the event before it returns.
    const listening = once(socket, 'listening')
    socket.bind(0, '127.0.0.1')
    await listening
    const waiting = new Map<number, () => void>()
    socket.on('message', (message) => {
      const resolve = waiting.get(message.readUInt16BE(0))
      if (!resolve || (message[3] ?? 0) % 16 !== 0 || message[7] !== 1) return
      this.answered++
      resolve()
    })
    await Promise.all(Array.from({ length: window }, (_, lane) => this.#lane(socket, { lane, waiting })))
    socket.close()
  }

  async #lane(socket: Socket, { lane, waiting }: { lane: number; waiting: Map<number, () => void> }): Promise<void> {
    for (let id = lane; this.asked < this.#queries; id = (id + window) & 0xffff) {
      this.asked++
      if (this.#waiting && this.asked >= this.#waiting.at) this.#waiting.resolve()
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs)
        const began = performance.now()
        waiting.set(id, () => {
          this.slowest = Math.max(this.slowest, performance.now() - began)
          clearTimeout(timer)
          resolve()
        })
        socket.send(queryOf(id), this.#port, '127.0.0.1')
      })
      waiting.delete(id)
    }
  }
}

const question = Buffer.concat([parseName('svc-7.bench.svc.cluster.local').wire, Buffer.from([0, 1, 0, 1])])

function queryOf(id: number): Buffer {
  return Buffer.concat([Buffer.from([id >> 8, id & 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), question])
}
