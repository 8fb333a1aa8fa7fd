/** Threads of dns-faults.ts: the server under test, or the resolvers that it asks. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { silentLog } from '../src/base/log.ts'
import { encodeResponse } from '../src/dns-message/encode-response.ts'
import { parseRequest, type Query } from '../src/dns-message/query.ts'
import { addressSets, emptyAnswer } from '../src/dns-message/record-set.ts'
import { createDnsServer } from '../src/dns/server.ts'
import { snapshotOf } from '../src/dns/testing.ts'
import { plainUpstream } from '../src/dns-forward/upstream.ts'
import { parseIp } from '../src/net/ip-address.ts'

/** What a resolver does to its clients. `relay`: sends every question to this port of ours. */
export type Behaviour = 'healthy' | 'silent' | 'slow' | 'lying' | 'truncating' | 'lossy' | { readonly relay: number }

export type WorkerRole =
  | {
      readonly role: 'server'
      readonly upstreams: readonly string[]
      readonly port: number
      readonly upstreamPort: number
    }
  | { readonly role: 'resolver'; readonly address: string; readonly port: number; readonly behaviour: Behaviour }

const task = workerData as WorkerRole
if (task.role === 'server') await serve(task)
else await resolve(task)
parentPort?.postMessage('ready', [])

async function serve({ upstreams, port, upstreamPort }: WorkerRole & { role: 'server' }): Promise<void> {
  const server = createDnsServer({
    addresses: [parseIp('127.0.0.1')],
    port,
    upstreams: upstreams.map((address) => plainUpstream(parseIp(address), upstreamPort)),
    resolvConf: '/dev/null',
    log: silentLog,
  })
  // The sockets of its threads are the process's: they would outlive this thread.
  parentPort?.once('message', () => void server[Symbol.asyncDispose]().then(() => process.exit()))
  await server.listen()
  server.update(snapshotOf({ 'default/web': { ips: ['10.96.7.7'], ports: ['http/TCP/80'] } }), true)
}

async function resolve({ address, port, behaviour }: WorkerRole & { role: 'resolver' }): Promise<void> {
  const udp = createSocket('udp4')
  udp.on('message', (message, client) => {
    const send = (bytes: Buffer): void => udp.send(bytes, client.port, client.address)
    if (typeof behaviour === 'object') udp.send(message, behaviour.relay, '127.0.0.1')
    else if (behaviour === 'silent' || (behaviour === 'lossy' && Math.random() < 0.3)) return
    else if (behaviour === 'slow') setTimeout(() => send(answer(message, 'udp')), 300)
    else if (behaviour === 'truncating') send(truncated(message))
    else {
      if (behaviour === 'lying') for (const lie of lies(answer(message, 'udp'))) send(lie)
      send(answer(message, 'udp'))
    }
  })
  udp.bind(port, address)
  const tcp = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.on('data', (data) => {
      const response = answer(data.subarray(2), 'tcp')
      const length = Buffer.alloc(2)
      length.writeUInt16BE(response.length)
      socket.end(Buffer.concat([length, response]))
    })
  })
  tcp.listen(port, address)
  await Promise.all([once(udp, 'listening'), once(tcp, 'listening')])
}

function read(message: Buffer): Query {
  const request = parseRequest(message)
  if (request.kind !== 'query') throw new Error('the server sent no query')
  return request.query
}

function answer(message: Buffer, transport: 'udp' | 'tcp'): Buffer {
  const query = read(message)
  const sets = addressSets([parseIp('198.51.100.1')], { owner: query.question.name, ttl: 60 })
  return encodeResponse(
    query,
    { ...emptyAnswer(0), answer: sets },
    { transport, recursionAvailable: true, rotation: 0 },
  )
}

function truncated(message: Buffer): Buffer {
  const options = { transport: 'udp', recursionAvailable: true, rotation: 0 } as const
  const response = encodeResponse(read(message), emptyAnswer(0), options)
  response[2] = (response[2] ?? 0) | 0x02
  return response
}

/** Replies with another id, another address in lower case, and no reply at all. */
function lies(truth: Buffer): Buffer[] {
  const otherId = Buffer.from(truth)
  otherId[0] = (otherId[0] ?? 0) ^ 0xff
  const forged = Buffer.from(truth.toString('latin1').toLowerCase(), 'latin1')
  forged.set(truth.subarray(0, 12), 0)
  forged.set([6, 6, 6, 6], truth.indexOf(Buffer.from([198, 51, 100, 1])))
  return [otherId, Buffer.from('not DNS at all'), forged]
}
