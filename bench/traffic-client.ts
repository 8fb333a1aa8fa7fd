/**
 * The client of all modes, as one process, so that all meet the same compiled code. One task at a time comes over IPC, and blocks until it
 * is done.
 */
import { constants } from 'node:os'
import { BlockingSocket, socketAddress } from '../src/linux/blocking-socket.ts'
import { SyscallError } from '../src/linux/errno.ts'
import { openNetns, type Netns } from '../src/linux/netns.ts'
import type { TrafficReply, TrafficTask } from './traffic-task.ts'

const netnses = new Map<string, Netns>()
const byte = Buffer.from('x')
const answer = Buffer.alloc(64)

process.on('message', (task: TrafficTask) => process.send?.(run(task)))
process.on('disconnect', () => process.exit(0))

function run(task: TrafficTask): TrafficReply {
  const netns = netnses.get(task.netns) ?? openNetns(task.netns)
  netnses.set(task.netns, netns)
  const address = socketAddress(task.ip, task.port)
  return netns.enter(() => {
    switch (task.kind) {
      case 'connect':
        return connect(task, address)
      case 'round-trips':
        return roundTrips(task, address)
      default:
        return task.kind satisfies never
    }
  })
}

/** New connections, one after another: each from its own port, ended by RST. */
function connect({ protocol, count, timeoutMs, request }: TrafficTask, address: Uint8Array): TrafficReply {
  const connectNs: number[] = []
  const firstByteNs: number[] = []
  const failures: Record<string, number> = {}
  const began = process.hrtime.bigint()
  for (let i = 0; i < count; i++) {
    const socket = BlockingSocket.open(protocol, { timeoutMs })
    try {
      if (protocol === 'tcp') socket.resetOnClose()
      const start = process.hrtime.bigint()
      socket.connect(address)
      const connected = process.hrtime.bigint()
      if (protocol === 'udp') socket.send(byte)
      socket.receive(answer)
      const answered = process.hrtime.bigint()
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
  return { connectNs, firstByteNs, failures, elapsedNs: Number(process.hrtime.bigint() - began) }
}

/** Requests and answers on one connection. */
function roundTrips({ protocol, count, timeoutMs }: TrafficTask, address: Uint8Array): TrafficReply {
  const firstByteNs: number[] = []
  using socket = BlockingSocket.open(protocol, { timeoutMs })
  if (protocol === 'tcp') socket.resetOnClose()
  socket.connect(address)
  if (protocol === 'tcp') socket.receive(answer)
  const began = process.hrtime.bigint()
  for (let i = 0; i < count; i++) {
    const start = process.hrtime.bigint()
    socket.send(byte)
    socket.receive(answer)
    firstByteNs.push(Number(process.hrtime.bigint() - start))
  }
  return { connectNs: [], firstByteNs, failures: {}, elapsedNs: Number(process.hrtime.bigint() - began) }
}

function codeOf(error: unknown): string {
  if (!(error instanceof SyscallError)) throw error
  // What SO_SNDTIMEO and SO_RCVTIMEO say (socket(7)).
  return error.errno === constants.errno.EAGAIN || error.errno === constants.errno.EINPROGRESS ? 'timeout' : error.code
}
