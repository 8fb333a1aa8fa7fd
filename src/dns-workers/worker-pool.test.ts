import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { type Log, silentLog } from '../base/log.ts'
import { UdpSocket } from '../linux/udp-socket.ts'
import { parseIp } from '../net/ip-address.ts'
import { AnswerTable } from './answer-table.ts'
import { PassedQueries } from './passed-queries.ts'
import { type ServedSocket, socketWords, workerStates, workerWords, writeSockets } from './serve-datagrams.ts'
import { WorkerPool } from './worker-pool.ts'

/** A thread that serves as a real one does, and throws at its first start. */
const failsOnce = (serve: URL, passed: URL) =>
  new URL(
    `data:text/javascript,${encodeURIComponent(`
      import { workerData, parentPort } from 'node:worker_threads'
      import { serveDatagrams } from '${serve.href}'
      import { PassedQueries } from '${passed.href}'
      if (Atomics.add(new Int32Array(workerData.extras), 0, 1) === 0) throw new Error('the first one fails')
      serveDatagrams({
        sockets: new Int32Array(workerData.sockets),
        memory: workerData.memory,
        passed: new PassedQueries(workerData.passed),
        control: new Int32Array(workerData.control),
        call: () => parentPort.postMessage(undefined),
        counter: { add() {}, addDropped() {} },
      })`)}`,
  )

const failingOnce = failsOnce(
  new URL('./serve-datagrams.ts', import.meta.url),
  new URL('./passed-queries.ts', import.meta.url),
)

describe('serveDatagrams()', () => {
  // A thread in a system call is not interrupted, and a process that ends waits for its threads: it would wait for the next query.
  test.for([1, 2])('ends with its thread although no query comes, at %d sockets', async (count) => {
    using sockets = new DisposableStack()
    const served = Array.from({ length: count }, (): ServedSocket => {
      const { fd, packetInfo } = sockets.use(UdpSocket.open({ address: parseIp('127.0.0.1'), port: 0 }))
      return { fd, packetInfo, ipv6: false }
    })
    const words = new Int32Array(new SharedArrayBuffer(socketWords * 4))
    writeSockets(words, served)
    const control = new Int32Array(new SharedArrayBuffer(workerWords.end * 4))
    control[workerWords.state] = workerStates.serve
    const thread = new Worker(failingOnce, {
      workerData: {
        sockets: words.buffer,
        memory: new AnswerTable({ zone: '\x07cluster\x05local\0', seed: 1 }).memory,
        passed: new PassedQueries({ octets: 1024 }).memory,
        control: control.buffer,
        extras: Int32Array.of(1),
      },
    })
    await once(thread, 'message')
    // Until it waits in the kernel.
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(await thread.terminate()).toBe(1)
  })
})

describe('WorkerPool', () => {
  test('starts a thread that failed again, logs it, and what waited at its socket is answered', async () => {
    const errors: unknown[] = []
    const log: Log = { ...silentLog, error: (fields) => errors.push(fields) }
    const table = new AnswerTable({ zone: '\x07cluster\x05local\0', seed: 1 })
    const socket = UdpSocket.open({ address: parseIp('127.0.0.1'), port: 0 })
    const starts = new SharedArrayBuffer(4)
    const client = createSocket('udp4')
    const seen: string[] = []
    const reply = once(client, 'message')
    client.send(Buffer.from('a query of some kind'), socket.port, '127.0.0.1')
    await using pool = new WorkerPool({
      module: failingOnce,
      workers: 1,
      memory: table.memory,
      handle: (message, client) => {
        seen.push(`${client.address} ${message.toString()}`)
        client.send(Buffer.from('an answer'))
        return true
      },
      extras: () => starts,
      log,
    })
    pool.serve([[socket]])
    const [answer] = (await reply) as [Buffer]
    client.close()
    expect(answer.toString()).toBe('an answer')
    expect(seen).toEqual(['127.0.0.1 a query of some kind'])
    expect(pool.counters).toEqual({ restarts: 1, unsent: 0, faults: 0, shed: 0 })
    expect(errors).toMatchObject([{ worker: 0, restarts: 1, error: { message: 'the first one fails' } }])
  })

  test('answers what waits at its sockets before it closes them, and nothing is left', async () => {
    const table = new AnswerTable({ zone: '\x07cluster\x05local\0', seed: 1 })
    const socket = UdpSocket.open({ address: parseIp('127.0.0.1'), port: 0 })
    const client = createSocket('udp4')
    let answers = 0
    client.on('message', () => answers++)
    client.bind(0, '127.0.0.1')
    await once(client, 'listening')
    const pool = new WorkerPool({
      module: new URL('../dns/udp-thread.ts', import.meta.url),
      workers: 1,
      memory: table.memory,
      handle: (_message, client) => {
        setTimeout(() => client.send(Buffer.from('late')), 20)
        return true
      },
      extras: () => ({ counts: new SharedArrayBuffer(65_536), samples: undefined }),
      log: silentLog,
    })
    pool.serve([[socket]])
    for (let i = 0; i < 100; i++) client.send(Buffer.from('some twenty octets..'), socket.port, '127.0.0.1')
    await new Promise((resolve) => setTimeout(resolve, 20))
    await pool[Symbol.asyncDispose]()
    await new Promise((resolve) => setTimeout(resolve, 50))
    client.close()
    expect(answers).toBe(100)
  })
})
