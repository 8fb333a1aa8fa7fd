import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { parentPort } from 'node:worker_threads'
import { CLONE_NEWNET, setns } from '../../src/linux/libc.ts'
import { parseIp } from '../../src/net/ip-address.ts'
import type { AgentCall, AgentReply, Failure, Greeting } from './agent-protocol.ts'
import { answerSctp, askSctp } from './sctp.ts'

/*
 * A worker thread that makes the sockets of all hosts of a lab. setns(2) is per thread, and Node makes a thread's sockets on that
 * thread, so the thread moves into a host's network namespace before each call. node:net and node:dgram make a socket
 * by the next turn of the event loop at the latest, so calls begin one turn apart; a socket stays in the namespace that it was made in.
 */
const port = parentPort
if (!port) throw new Error('test/lab/agent.ts runs as a worker thread')

interface Request {
  readonly id: number
  readonly netnsFd: number
  readonly call: AgentCall
}

const servers = new Map<number, Server | UdpSocket>()
const connections = new Map<number, Socket>()
const keptUdp = new Map<number, UdpSocket>()
const sctpListeners = new Map<number, Disposable>()
let nextHandle = 1
let beginning: Promise<unknown> = Promise.resolve()

port.on('message', ({ id, netnsFd, call }: Request) => {
  beginning = beginning
    .then(() => {
      setns(netnsFd, CLONE_NEWNET)
      answer(call).then(
        (result) => port.postMessage({ id, result } satisfies { id: number; result: AgentReply }),
        (error: unknown) => port.postMessage({ id, error: messageOf(error) }),
      )
    })
    .catch((error: unknown) => port.postMessage({ id, error: messageOf(error) }))
    .then(() => new Promise((resolve) => setImmediate(resolve)))
})
port.postMessage({ id: 0, result: {} })

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

async function answer(call: AgentCall): Promise<AgentReply> {
  switch (call.kind) {
    case 'listen-tcp':
      return await listenTcp(call)
    case 'listen-udp':
      return await listenUdp(call)
    case 'listen-sctp':
      return listenSctp(call)
    case 'ask-sctp':
      return await askSctp(call)
    case 'close':
      return await close(call)
    case 'connect-tcp':
      return await connectTcp(call)
    case 'ask-udp':
      return await askUdp(call)
    case 'echo':
      return await echo(call.handle, call.text, call.timeout)
    default:
      return call satisfies never
  }
}

/** Greets each connection with a line that says who answers and who is seen to ask, then echoes. */
function listenTcp(call: Extract<AgentCall, { kind: 'listen-tcp' }>): Promise<AgentReply> {
  const handle = nextHandle++
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.write(`${JSON.stringify(greeting(call.reply, socket.remoteAddress, socket.remotePort))}\n`)
    socket.pipe(socket)
  })
  servers.set(handle, server)
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // A long queue: storms of connections must not be refused by the listener itself.
    server.listen({ port: call.port, host: call.address ?? '::', exclusive: true, backlog: 4096 }, () => {
      const address = server.address()
      resolve({ handle, port: typeof address === 'object' ? address?.port : undefined })
    })
  })
}

function listenUdp(call: Extract<AgentCall, { kind: 'listen-udp' | 'listen-sctp' }>): Promise<AgentReply> {
  const handle = nextHandle++
  const address = call.address ?? '::'
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  servers.set(handle, socket)
  socket.on('message', (_message, source) => {
    socket.send(JSON.stringify(greeting(call.reply, source.address, source.port)), source.port, source.address)
  })
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind({ port: call.port, address, exclusive: true }, () => {
      // From now on an error is an ICMP answer to one of our replies.
      socket.off('error', reject).on('error', () => {})
      resolve({ handle, port: socket.address().port })
    })
  })
}

function listenSctp(call: Extract<AgentCall, { kind: 'listen-udp' | 'listen-sctp' }>): AgentReply {
  const handle = nextHandle++
  const at = { ip: parseIp(call.address ?? '::'), port: call.port }
  sctpListeners.set(
    handle,
    answerSctp(at, (from) => JSON.stringify(greeting(call.reply, from.ip, from.port))),
  )
  return { handle, port: call.port }
}

function close({ handle, reset = false }: Extract<AgentCall, { kind: 'close' }>): Promise<AgentReply> {
  const server = servers.get(handle)
  const connection = connections.get(handle)
  servers.delete(handle)
  connections.delete(handle)
  if (reset) connection?.resetAndDestroy()
  else connection?.destroy()
  keptUdp.get(handle)?.close()
  keptUdp.delete(handle)
  sctpListeners.get(handle)?.[Symbol.dispose]()
  sctpListeners.delete(handle)
  return new Promise((resolve) => {
    if (!server) return resolve({})
    server.close(() => resolve({}))
    // Connections that were accepted live on, as those of a pod do that is taken out of its Service.
    if ('listening' in server) resolve({})
  })
}

function connectTcp(call: Extract<AgentCall, { kind: 'connect-tcp' }>): Promise<AgentReply> {
  return new Promise((resolve, reject) => {
    const handle = nextHandle++
    const socket = connect({
      host: call.address,
      port: call.port,
      ...(call.sourceAddress !== undefined && { localAddress: call.sourceAddress }),
      ...(call.sourcePort !== undefined && { localPort: call.sourcePort }),
    })
    let received = ''
    const finish = (reply: AgentReply): void => {
      clearTimeout(timer)
      socket.removeAllListeners('data')
      if (reply.greeting && call.keep) connections.set(handle, socket)
      // RST rather than FIN: thousands of probes must not use up ports in TIME_WAIT.
      else socket.resetAndDestroy()
      resolve(reply)
    }
    const timer = setTimeout(() => finish({ failure: 'timeout' }), call.timeout)
    socket.setNoDelay(true)
    const fail = (error: NodeJS.ErrnoException): void => {
      const failure = failureOf(error)
      // Not the network's answer but a mistake of the caller: EADDRNOTAVAIL, EADDRINUSE, ...
      if (!failure) reject(error)
      finish(failure ? { failure } : {})
    }
    socket.on('error', fail)
    socket.on('close', () => finish({ failure: 'reset' }))
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString()
      const end = received.indexOf('\n')
      if (end < 0) return
      const ownAddress = socket.localAddress
      finish({ handle, ownAddress, greeting: JSON.parse(received.slice(0, end)) as Greeting })
    })
  })
}

function askUdp(call: Extract<AgentCall, { kind: 'ask-udp' }>): Promise<AgentReply> {
  return new Promise((resolve, reject) => {
    const kept = call.handle === undefined ? undefined : keptUdp.get(call.handle)
    const socket = kept ?? createSocket(call.address.includes(':') ? 'udp6' : 'udp4')
    const handle = call.handle ?? nextHandle++
    if (call.keep) keptUdp.set(handle, socket)
    let open = true
    const finish = (reply: AgentReply): void => {
      if (!open) return
      open = false
      clearTimeout(timer)
      socket.off('message', onMessage).off('error', onError)
      if (call.keep) socket.on('error', () => {})
      else socket.close()
      resolve({ ...reply, handle })
    }
    const timer = setTimeout(() => finish({ failure: 'timeout' }), call.timeout)
    const onError = (error: NodeJS.ErrnoException): void => {
      const failure = failureOf(error)
      // Not the network's answer but a mistake of the caller: EADDRNOTAVAIL, EADDRINUSE, ...
      if (!failure) reject(error)
      finish(failure ? { failure } : {})
    }
    const onMessage = (message: Buffer): void => {
      finish({ ownAddress: socket.address().address, greeting: JSON.parse(message.toString()) as Greeting })
    }
    socket.removeAllListeners('error').on('error', onError).on('message', onMessage)
    // Connected, so that an ICMP port unreachable comes back as an error.
    const ask = (): void => {
      socket.connect(call.port, call.address, (error?: Error) => {
        if (error) onError(error)
        else socket.send('?')
      })
    }
    if (kept) {
      if (isConnectedTo(socket, call)) socket.send('?')
      else {
        socket.disconnect()
        ask()
      }
      return
    }
    if (call.sourceAddress === undefined && call.sourcePort === undefined) return ask()
    socket.bind(
      {
        ...(call.sourcePort !== undefined && { port: call.sourcePort }),
        ...(call.sourceAddress !== undefined && { address: call.sourceAddress }),
      },
      ask,
    )
  })
}

function isConnectedTo(socket: UdpSocket, target: { readonly address: string; readonly port: number }): boolean {
  const remote = socket.remoteAddress()
  return remote.address === target.address && remote.port === target.port
}

/** Sends text over a kept connection; answers whether it came back in time. */
function echo(handle: number, text: string, timeout: number): Promise<AgentReply> {
  const socket = connections.get(handle)
  if (!socket || socket.destroyed) return Promise.resolve({ failure: 'reset' })
  return new Promise((resolve) => {
    let received = ''
    const finish = (reply: AgentReply): void => {
      clearTimeout(timer)
      socket.off('data', onData).off('close', onClose)
      resolve(reply)
    }
    const onData = (chunk: Buffer): void => {
      received += chunk.toString()
      if (received.endsWith(text)) finish({})
    }
    const onClose = (): void => finish({ failure: 'reset' })
    const timer = setTimeout(() => finish({ failure: 'timeout' }), timeout)
    socket.on('data', onData).on('close', onClose)
    socket.write(text)
  })
}

function greeting(reply: string, address: string | undefined, port: number | undefined): Greeting {
  return { reply, source: address ?? '', sourcePort: port ?? 0 }
}

function failureOf(error: NodeJS.ErrnoException): Failure | undefined {
  switch (error.code) {
    case 'ECONNREFUSED':
      return 'refused'
    case 'ECONNRESET':
    case 'EPIPE':
      return 'reset'
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EACCES':
      return 'unreachable'
    case 'ETIMEDOUT':
      return 'timeout'
    default:
      return undefined
  }
}
