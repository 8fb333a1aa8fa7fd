/**
 * `node bench/dns-faults.ts [SECONDS] [FAULT]`: names of the cluster, and of the world, while resolvers are dead, slow, lying, truncating, looping or
 * lossy. Beside the server whose resolvers fail stands one whose resolvers are well, and both are asked the same at the same time: what the machine does besides
 * hits both. Prints one row per fault. Needs no root: everything is on 127.0.0.0/8.
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { parseName } from '../src/dns-message/name.ts'
import type { Behaviour, WorkerRole } from './dns-faults-worker.ts'
import { scriptBeside } from './script-beside.ts'
import { median, quantile } from './statistics.ts'

const [serverPort, wellPort, upstreamPort] = [15_353, 15_352, 15_454]
const seconds = Number(process.argv[2] ?? 9)
/** Rounds whose p99s are compared one by one: on a busy machine a single p99 says who had to wait for a CPU. */
const rounds = 9
/** Questions a second to each server: of the cluster, and of the world, each of those about another name. */
const [clusterRate, outsideRate] = [1000, 100]

const faults: readonly { readonly name: string; readonly resolvers: readonly Behaviour[] }[] = [
  { name: 'none', resolvers: ['healthy', 'healthy'] },
  { name: 'first one dead', resolvers: ['silent', 'healthy'] },
  { name: 'all dead', resolvers: ['silent', 'silent'] },
  { name: 'slow (300 ms)', resolvers: ['slow', 'slow'] },
  { name: 'lying', resolvers: ['lying', 'lying'] },
  { name: 'truncating', resolvers: ['truncating', 'truncating'] },
  { name: 'first one asks us back', resolvers: [{ relay: serverPort }, 'healthy'] },
  { name: '30 % loss', resolvers: ['lossy', 'lossy'] },
]

/** What a fault did: sent to a process that started this one. Times in ms, sorted; shares in percent. */
export interface FaultFigures {
  readonly fault: string
  readonly clusterMs: readonly number[]
  /** Of the server whose resolvers were well meanwhile. */
  readonly wellMs: readonly number[]
  /** The p99 of the cluster in times of that server's: median of the rounds. */
  readonly times: number
  readonly outsideMs: readonly number[]
  readonly lost: number
  readonly right: number
  readonly wrong: number
}

/** A server that is asked, and how that went: questions of the cluster, and of the world. */
interface Asked {
  readonly port: number
  readonly cluster: Tally
  readonly outside: Tally
}

interface Tally {
  /** By round. */
  readonly ms: number[][]
  asked: number
  right: number
  servfail: number
  wrong: number
}

console.log(
  [
    'fault',
    'cluster p50',
    'p99',
    'p99 without',
    'times',
    'lost',
    'outside right',
    'SERVFAIL',
    'wrong',
    'none',
    'p50',
    'p99',
  ]
    .map(pad)
    .join(''),
)
const well = await startAll({ first: 2, port: wellPort, resolvers: ['healthy', 'healthy'] })
for (const { name, resolvers } of faults.filter((fault) => fault.name.includes(process.argv[3] ?? ''))) {
  const failing = await startAll({ first: 4, port: serverPort, resolvers })
  const asked: [Asked, Asked] = [newTally(serverPort), newTally(wellPort)]
  await measure(asked)
  const [{ cluster, outside }, beside] = asked
  const times = median(cluster.ms.map((ms, i) => quantile(ms, 0.99) / quantile(beside.cluster.ms[i] ?? [], 0.99)))
  const sorted = [cluster, outside, beside.cluster].map(({ ms }) => ms.flat().toSorted((a, b) => a - b))
  const [c, o, w] = sorted as [number[], number[], number[]]
  const row = [
    name,
    at(c, 0.5),
    at(c, 0.99),
    at(w, 0.99),
    times.toFixed(2),
    cluster.asked - cluster.right,
    `${((outside.right / outside.asked) * 100).toFixed(1)} %`,
    outside.servfail,
    outside.wrong,
    outside.asked - outside.right - outside.servfail - outside.wrong,
    at(o, 0.5),
    at(o, 0.99),
  ]
  console.log(row.map(pad).join(''))
  process.send?.({
    fault: name,
    clusterMs: c,
    wellMs: w,
    times,
    outsideMs: o,
    lost: cluster.asked - cluster.right,
    right: (outside.right / outside.asked) * 100,
    wrong: outside.wrong,
  } satisfies FaultFigures)
  await endAll(failing)
}
await endAll(well)

interface Running {
  readonly server: Worker
  readonly resolvers: readonly Worker[]
}

/** A server at `port`, and its resolvers from 127.0.0.`first` on. */
async function startAll({
  first,
  port,
  resolvers: behaviours,
}: {
  readonly first: number
  readonly port: number
  readonly resolvers: readonly Behaviour[]
}): Promise<Running> {
  const upstreams = behaviours.map((_, i) => `127.0.0.${first + i}`)
  const resolvers = await Promise.all(
    behaviours.map((behaviour, i) =>
      start({ role: 'resolver', address: `127.0.0.${first + i}`, port: upstreamPort, behaviour }),
    ),
  )
  return { server: await start({ role: 'server', upstreams, port, upstreamPort }), resolvers }
}

async function endAll({ server, resolvers }: Running): Promise<void> {
  const ended = once(server, 'exit')
  server.postMessage('stop', [])
  await Promise.all([ended, ...resolvers.map((worker) => worker.terminate())])
}

/** Asks all servers both kinds of questions, in turn; answers that are late come within the six seconds after. */
async function measure(servers: readonly Asked[]): Promise<void> {
  const socket = createSocket('udp4')
  socket.bind(0)
  await once(socket, 'listening')
  for (const { port } of servers) await warmUp(socket, port)
  const waiting = new Map<number, { since: number; tally: Tally; wanted: string }>()
  socket.removeAllListeners('message')
  socket.on('message', (message) => {
    const id = message.readUInt16BE(0)
    const question = waiting.get(id)
    if (!question) return
    waiting.delete(id)
    const { since, tally } = question
    const round = Math.min(Math.floor(((since - start) / (seconds * 1000)) * rounds), rounds - 1)
    tally.ms[round]?.push(performance.now() - since)
    if (((message[3] ?? 0) & 0xf) === 2) tally.servfail++
    else if (message.indexOf(Buffer.from(question.wanted, 'hex')) > 0) tally.right++
    else tally.wrong++
  })
  let id = 0
  const ask = (port: number, { name, tally, wanted }: { name: string; tally: Tally; wanted: string }): void => {
    id = (id + 1) & 0xffff
    tally.asked++
    waiting.set(id, { since: performance.now(), tally, wanted })
    socket.send(query(name, id), port, '127.0.0.1')
  }
  let turn = 0
  const start = performance.now()
  for (let now = start; now < start + seconds * 1000; now = performance.now()) {
    const due = (rate: number): number => ((now - start) / 1000) * rate
    // A client that was held up catches up in small bursts: its own socket holds some 200 answers.
    for (let isLate = true, left = 16; isLate && left > 0; left--) {
      isLate = false
      // Who is asked first waits less: they take turns.
      for (const { port, cluster, outside } of turn++ % 2 === 0 ? servers : servers.toReversed()) {
        if (cluster.asked < due(clusterRate)) {
          ask(port, { name: 'web.default.svc.cluster.local', tally: cluster, wanted: '0a600707' })
          isLate = true
        }
        if (outside.asked < due(outsideRate))
          ask(port, { name: `host-${outside.asked}.example.com`, tally: outside, wanted: 'c6336401' })
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  for (let left = 60; left > 0 && waiting.size > 0; left--) await new Promise((resolve) => setTimeout(resolve, 100))
  socket.close()
}

/** The first questions of a process are slow, whatever resolvers do. */
async function warmUp(socket: Socket, port: number): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    socket.send(query('web.default.svc.cluster.local', i), port, '127.0.0.1')
    if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await new Promise((resolve) => setTimeout(resolve, 200))
}

function newTally(port: number): Asked {
  const tally = (): Tally => ({
    ms: Array.from({ length: rounds }, () => []),
    asked: 0,
    right: 0,
    servfail: 0,
    wrong: 0,
  })
  return { port, cluster: tally(), outside: tally() }
}

function query(name: string, id: number): Buffer {
  const header = Buffer.from([id >>> 8, id & 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([header, parseName(name).wire, Buffer.from([0, 1, 0, 1])])
}

async function start(workerData: WorkerRole): Promise<Worker> {
  const worker = new Worker(scriptBeside(import.meta.url, 'dns-faults-worker'), { workerData })
  await once(worker, 'message')
  return worker
}

function at(sorted: readonly number[], share: number): string {
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  return value === undefined ? '-' : `${value.toFixed(2)} ms`
}

function pad(cell: string | number, index: number): string {
  return index === 0 ? String(cell).padEnd(24) : String(cell).padStart(14)
}
