/** The thread of dns-changes.ts that reads: it asks for one name over several sockets, one question after the other, and checks each answer. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { parseName } from '../src/dns-message/name.ts'
import { msSinceBoot } from './ms-since-boot.ts'

export interface ReaderTask {
  readonly port: number
  readonly sockets: number
}

export interface ReaderReport {
  /** Of each socket: when an answer had a generation, or a later one, for the first time (milliseconds since boot). */
  readonly firstSeen: readonly (readonly number[])[]
  readonly counts: { answers: number; mixed: number; older: number; wrong: number; lost: number }
}

const { port, sockets } = workerData as ReaderTask
/** Milliseconds after which a question counts as lost, and how often that is looked at. */
const [patience, looks] = [2000, 100]
const counts: ReaderReport['counts'] = { answers: 0, mixed: 0, older: 0, wrong: 0, lost: 0 }
const question = Buffer.concat([parseName('live.bench.svc.cluster.local').wire, Buffer.from([0, 1, 0, 1])])

/** One socket with one question at a time: the next one follows the answer. What it costs beside the question would be seen in the figures. */
class Reader {
  readonly firstSeen: number[] = []
  readonly #socket: Socket = createSocket('udp4')
  readonly #query = Buffer.concat([Buffer.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), question])
  #id = 0
  #asked = 0

  async open(): Promise<void> {
    this.#socket.connect(port, '127.0.0.1')
    await once(this.#socket, 'connect')
    this.#socket.on('message', (message: Buffer) => {
      check(message, { id: this.#id, firstSeen: this.firstSeen })
      this.ask()
    })
  }

  ask(): void {
    this.#id = (this.#id + 1) & 0xffff
    this.#asked = performance.now()
    this.#query.writeUInt16BE(this.#id, 0)
    this.#socket.send(this.#query)
  }

  askAgainWhenLost(): void {
    if (performance.now() < this.#asked + patience) return
    counts.lost++
    this.ask()
  }

  close(): void {
    this.#socket.close()
  }
}

const readers = Array.from({ length: sockets }, () => new Reader())
await Promise.all(readers.map((reader) => reader.open()))
const watch = setInterval(() => {
  for (const reader of readers) reader.askAgainWhenLost()
}, looks)
for (const reader of readers) reader.ask()
parentPort?.once('message', () => {
  clearInterval(watch)
  for (const reader of readers) reader.close()
  const report: ReaderReport = { firstSeen: readers.map(({ firstSeen }) => firstSeen), counts }
  parentPort?.postMessage(report, [])
})
parentPort?.postMessage('ready', [])

function check(message: Buffer, { id, firstSeen }: { readonly id: number; readonly firstSeen: number[] }): void {
  const now = msSinceBoot()
  counts.answers++
  const records = message.subarray(12 + question.length)
  const isRight =
    message.readUInt16BE(0) === id && (message[3] ?? 0) % 16 === 0 && message[7] === 2 && records.length === 32
  if (!isRight) {
    counts.wrong++
    return
  }
  const [one = 0, two = 0] = [12, 28].map((at) => ((records[at + 1] ?? 0) << 8) | (records[at + 2] ?? 0))
  if (one !== two || records[15] === records[31]) counts.mixed++
  else if (one < firstSeen.length - 1) counts.older++
  while (firstSeen.length <= one) firstSeen.push(now)
}
