import { constants } from 'node:os'
import { SyscallError } from '../../src/linux/errno.ts'
import { SctpSocket, type SctpPeer } from '../../src/linux/sctp-socket.ts'
import { parseIp } from '../../src/net/ip-address.ts'
import type { AgentCall, AgentReply, Failure, Greeting } from './agent-protocol.ts'

/* Node's event loop does not watch SCTP sockets: those of a lab are looked at every few milliseconds. */
const lookEveryMs = 5

/** Answers each message with what `greet` says of its sender. */
export function answerSctp(at: SctpPeer, greet: (from: SctpPeer) => string): Disposable {
  const socket = SctpSocket.listen(at)
  const timer = setInterval(() => {
    for (let message = socket.receive(); message; message = socket.receive()) {
      // An association that has ended says so by an empty message.
      if (message.text !== '') socket.send(greet(message.from), message.from)
    }
  }, lookEveryMs)
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
      socket[Symbol.dispose]()
    },
  }
}

/** Makes an association, asks, and waits for the answer. */
export async function askSctp(call: Extract<AgentCall, { kind: 'ask-sctp' }>): Promise<AgentReply> {
  const to = { ip: parseIp(call.address), port: call.port }
  const { sourceAddress, sourcePort = 0 } = call
  const source = sourceAddress === undefined ? undefined : { ip: parseIp(sourceAddress), port: sourcePort }
  const deadline = Date.now() + call.timeout
  try {
    using socket = SctpSocket.connect(to, { ...(source && { source }) })
    const own = sourceAddress ?? socket.own.ip
    let asked = false
    while (Date.now() < deadline) {
      const failure = failures.get(socket.takeError())
      if (failure) return { failure }
      asked ||= tryTo(() => socket.send('?', to))
      const answer = asked ? socket.receive() : undefined
      if (answer) return { greeting: JSON.parse(answer.text) as Greeting, ownAddress: own }
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
    }
    return { failure: 'timeout' }
  } catch (error) {
    const failure = error instanceof SyscallError ? failures.get(error.errno) : undefined
    if (failure) return { failure }
    throw error
  }
}

/** False while the socket is not ready for it. */
function tryTo(work: () => void): boolean {
  try {
    work()
    return true
  } catch (error) {
    if (error instanceof SyscallError && error.errno === constants.errno.EAGAIN) return false
    throw error
  }
}

const { ECONNREFUSED, ECONNRESET, EPIPE, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT } = constants.errno

const failures: ReadonlyMap<number, Failure> = new Map<number, Failure>([
  [ECONNREFUSED, 'refused'],
  [ECONNRESET, 'reset'],
  [EPIPE, 'reset'],
  [EHOSTUNREACH, 'unreachable'],
  [ENETUNREACH, 'unreachable'],
  [ETIMEDOUT, 'timeout'],
])
