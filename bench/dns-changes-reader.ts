/** The thread of dns-changes.ts that reads: it asks for one name over several sockets, one question after the other, and checks each answer. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { parseName } from '../src/dns-message/name.ts'

export interface ReaderTask {
  readonly port: number
  readonly sockets: number
}

export interface ReaderReport {
  /** Of each socket: when an answer had a generation, or a later one, for the first time (milliseconds since 1970). */
  readonly firstSeen: readonly (readonly number[])[]
  readonly counts: { answers: number; mixed: number; older: number; wrong: number; lost: number }
}

const { port, sockets } = workerData as ReaderTask
const counts: ReaderReport['counts'] = { answers: 0, mixed: 0, older: 0, wrong: 0, lost: 0 }
const question = Buffer.concat([parseName('live.bench.svc.cluster.local').wire, Buffer.from([0, 1, 0, 1])])
const query = Buffer.concat([Buffer.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), question])
const stop = new AbortController()
parentPort?.once('message', () => stop.abort())

const readers = await Promise.all(Array.from({ length: sockets }, openReader))
parentPort?.postMessage('ready', [])
while (!stop.signal.aborted) await Promise.all(readers.map((reader) => reader.ask()))
for (const { socket } of readers) socket.close()
const report: ReaderReport = { firstSeen: readers.map(({ firstSeen }) => firstSeen), counts }
parentPort?.postMessage(report, [])

async function openReader(): Promise<{ socket: Socket; firstSeen: number[]; ask(): Promise<void> }> {
  const socket = createSocket('udp4')
  socket.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const firstSeen: number[] = []
  let id = 0
  const ask = async (): Promise<void> => {
    id = (id + 1) & 0xffff
    query.writeUInt16BE(id, 0)
    socket.send(Buffer.from(query))
    try {
      const [message] = (await once(socket, 'message', { signal: AbortSignal.timeout(2000) })) as [Buffer]
      check(message, { id, firstSeen })
    } catch {
      counts.lost++
    }
  }
  return { socket, firstSeen, ask }
}

function check(message: Buffer, { id, firstSeen }: { readonly id: number; readonly firstSeen: number[] }): void {
  const now = performance.timeOrigin + performance.now()
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
