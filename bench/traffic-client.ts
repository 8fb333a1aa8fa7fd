/**
 * The client of all modes, as one process, so that all meet the same compiled code. One task at a time comes over IPC, and blocks until it
 * is done.
 */
import { constants } from 'node:os'
import { BlockingSocket, socketAddress } from '../src/linux/blocking-socket.ts'
import { SyscallError } from '../src/linux/errno.ts'
import { openNetns } from '../src/linux/netns.ts'
import type { TrafficReply, TrafficTask } from './traffic-task.ts'

const byte = Buffer.from('x')
const clock = new Int32Array(new SharedArrayBuffer(4))
const answer = Buffer.alloc(64)

process.on('message', (task: TrafficTask) => process.send?.(run(task)))
process.on('disconnect', () => process.exit(0))

function run(task: TrafficTask): TrafficReply {
  // Not kept: a path through a descriptor leads elsewhere when its number is used again.
  using netns = openNetns(task.netns)
  const address = socketAddress(task.ip, task.port)
  return netns.enter(() => {
    switch (task.kind) {
      case 'connect':
        return connect(task, address)
      case 'round-trips':
        return roundTrips(task, address)
      case 'until':
        return until(task, address)
      case 'stream':
        return stream(task, address)
      default:
        return task.kind satisfies never
    }
  })
}

/** New connections, one after another: each from its own port, ended by RST. */
function connect({ protocol, count, timeoutMs, request, sources }: TrafficTask, address: Uint8Array): TrafficReply {
  const connectNs: number[] = []
  const firstByteNs: number[] = []
  const answers: string[] = []
  const failures: Record<string, number> = {}
  const began = process.hrtime.bigint()
  for (let i = 0; i < count; i++) {
    const socket = BlockingSocket.open(protocol, { timeoutMs })
    try {
      if (protocol === 'tcp') socket.resetOnClose()
      if (sources !== undefined) socket.bind(socketAddress(sources.replace(/0$/, String(i + 1)), 0))
      const start = process.hrtime.bigint()
      socket.connect(address)
      const connected = process.hrtime.bigint()
      if (protocol === 'udp') socket.send(byte)
      socket.receive(answer)
      const answered = process.hrtime.bigint()
      if (protocol === 'tcp') answers.push([...answer.subarray(0, 4)].join('.'))
      if (request) {
        socket.send(byte)
        socket.receive(answer)
      }
      connectNs.push(Number(connected - start))
      firstByteNs.push(Number(answered - start))
    } catch (error) {
      const code = codeOf(error)
      failures[code] = (failures[code] ?? 0) + 1
    } finally {
      socket[Symbol.dispose]()
    }
  }
  return { connectNs, firstByteNs, failures, answers, elapsedNs: Number(process.hrtime.bigint() - began) }
}

/** Requests and answers on one connection, until one fails. */
function roundTrips({ protocol, count, timeoutMs }: TrafficTask, address: Uint8Array): TrafficReply {
  const firstByteNs: number[] = []
  const failures: Record<string, number> = {}
  using socket = BlockingSocket.open(protocol, { timeoutMs })
  if (protocol === 'tcp') socket.resetOnClose()
  const began = process.hrtime.bigint()
  try {
    socket.connect(address)
    if (protocol === 'tcp') socket.receive(answer)
    for (let i = 0; i < count; i++) {
      const start = process.hrtime.bigint()
      socket.send(byte)
      socket.receive(answer)
      firstByteNs.push(Number(process.hrtime.bigint() - start))
    }
  } catch (error) {
    // What comes late would be taken for the next answer.
    failures[codeOf(error)] = 1
  }
  return { connectNs: [], firstByteNs, failures, elapsedNs: Number(process.hrtime.bigint() - began) }
}

/** New connections until somebody in particular answers. */
function until(task: TrafficTask, address: Uint8Array): TrafficReply {
  const { answer: wanted, forMs = 10_000, pauseMs = 0 } = task
  const began = process.hrtime.bigint()
  const failures: Record<string, number> = {}
  const passed = (): number => Number(process.hrtime.bigint() - began)
  while (passed() < forMs * 1e6) {
    const at = process.hrtime.bigint()
    const one = connect({ ...task, count: 1, request: false }, address)
    for (const [code, count] of Object.entries(one.failures)) failures[code] = (failures[code] ?? 0) + count
    if (one.answers?.[0] === wanted)
      return { connectNs: [], firstByteNs: [], failures, elapsedNs: passed(), foundAtNs: String(at) }
    pause(pauseMs)
  }
  return { connectNs: [], firstByteNs: [], failures, elapsedNs: passed() }
}

/** New connections for a while: how slow they were, and what failed. */
function stream(task: TrafficTask, address: Uint8Array): TrafficReply {
  const { forMs = 1000, pauseMs = 0 } = task
  const began = process.hrtime.bigint()
  const passedMs = (): number => Number(process.hrtime.bigint() - began) / 1e6
  const slowestMs: number[] = []
  const firstByteNs: number[] = []
  const failures: Record<string, number> = {}
  for (let now = 0; now < forMs; now = passedMs()) {
    const one = connect({ ...task, count: 1, request: false }, address)
    const tookMs = one.firstByteNs[0] === undefined ? one.elapsedNs / 1e6 : one.firstByteNs[0] / 1e6
    const tenth = Math.floor(now / 100)
    slowestMs[tenth] = Math.max(slowestMs[tenth] ?? 0, tookMs)
    firstByteNs.push(...one.firstByteNs)
    for (const [code, count] of Object.entries(one.failures)) failures[code] = (failures[code] ?? 0) + count
    pause(pauseMs)
  }
  // A tenth in which no connection began was all waiting: that of the one before.
  for (let i = 1; i < slowestMs.length; i++) slowestMs[i] ??= slowestMs[i - 1] ?? 0
  return { connectNs: [], firstByteNs, failures, elapsedNs: passedMs() * 1e6, slowestMs }
}

function pause(ms: number): void {
  if (ms > 0) Atomics.wait(clock, 0, 0, ms)
}

function codeOf(error: unknown): string {
  if (!(error instanceof SyscallError)) throw error
  // What SO_SNDTIMEO and SO_RCVTIMEO say (socket(7)).
  return error.errno === constants.errno.EAGAIN || error.errno === constants.errno.EINPROGRESS ? 'timeout' : error.code
}
