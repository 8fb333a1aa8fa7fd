/**
 * `node bench/dns-faults.ts [SECONDS] [FAULT]`: names of the cluster, and of the world, while resolvers are dead, slow, lying, truncating, looping or
 * lossy. Prints one row per fault. Needs no root: everything is on 127.0.0.0/8.
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { parseName } from '../src/dns-message/name.ts'
import type { Behaviour, WorkerRole } from './dns-faults-worker.ts'
import { scriptBeside } from './script-beside.ts'

const [serverPort, upstreamPort] = [15_353, 15_454]
const seconds = Number(process.argv[2] ?? 4)
/** Questions a second: of the cluster, and of the world, each of those about another name. */
const [clusterRate, outsideRate] = [500, 100]

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
  readonly outsideMs: readonly number[]
  readonly lost: number
  readonly right: number
  readonly wrong: number
}

interface Tally {
  readonly ms: number[]
  asked: number
  right: number
  servfail: number
  wrong: number
}

console.log(
  ['fault', 'cluster p50', 'p99', 'lost', 'outside right', 'SERVFAIL', 'wrong', 'none', 'p50', 'p99'].map(pad).join(''),
)
for (const { name, resolvers } of faults.filter((fault) => fault.name.includes(process.argv[3] ?? ''))) {
  const workers = await Promise.all(
    resolvers.map((behaviour, i) =>
      start({ role: 'resolver', address: `127.0.0.${i + 2}`, port: upstreamPort, behaviour }),
    ),
  )
  const upstreams = resolvers.map((_, i) => `127.0.0.${i + 2}`)
  const server = await start({ role: 'server', upstreams, port: serverPort, upstreamPort })
  const [cluster, outside] = await measure()
  const [c, o] = [cluster, outside].map(({ ms }) => ms.toSorted((a, b) => a - b)) as [number[], number[]]
  const row = [
    name,
    at(c, 0.5),
    at(c, 0.99),
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
    outsideMs: o,
    lost: cluster.asked - cluster.right,
    right: (outside.right / outside.asked) * 100,
    wrong: outside.wrong,
  } satisfies FaultFigures)
  const ended = once(server, 'exit')
  server.postMessage('stop', [])
  await Promise.all([ended, ...workers.map((worker) => worker.terminate())])
}

/** Runs both loads at once; answers that are late come within the six seconds after. */
async function measure(): Promise<[Tally, Tally]> {
  const socket = createSocket('udp4')
  socket.bind(0)
  await once(socket, 'listening')
  await warmUp(socket)
  const waiting = new Map<number, { since: number; tally: Tally; wanted: string }>()
  const tallies: [Tally, Tally] = [tally(), tally()]
  socket.removeAllListeners('message')
  socket.on('message', (message) => {
    const id = message.readUInt16BE(0)
    const question = waiting.get(id)
    if (!question) return
    waiting.delete(id)
    question.tally.ms.push(performance.now() - question.since)
    if (((message[3] ?? 0) & 0xf) === 2) question.tally.servfail++
    else if (message.indexOf(Buffer.from(question.wanted, 'hex')) > 0) question.tally.right++
    else question.tally.wrong++
  })
  let id = 0
  const ask = (name: string, tally: Tally, wanted: string): void => {
    id = (id + 1) & 0xffff
    tally.asked++
    waiting.set(id, { since: performance.now(), tally, wanted })
    socket.send(query(name, id), serverPort, '127.0.0.1')
  }
  const start = performance.now()
  for (let now = start; now < start + seconds * 1000; now = performance.now()) {
    const due = (rate: number): number => ((now - start) / 1000) * rate
    while (tallies[0].asked < due(clusterRate)) ask('web.default.svc.cluster.local', tallies[0], '0a600707')
    while (tallies[1].asked < due(outsideRate)) ask(`host-${tallies[1].asked}.example.com`, tallies[1], 'c6336401')
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  for (let left = 60; left > 0 && waiting.size > 0; left--) await new Promise((resolve) => setTimeout(resolve, 100))
  socket.close()
  return tallies
}

/** The first questions of a process are slow, whatever resolvers do. */
async function warmUp(socket: Socket): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    socket.send(query('web.default.svc.cluster.local', i), serverPort, '127.0.0.1')
    if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await new Promise((resolve) => setTimeout(resolve, 200))
}

function tally(): Tally {
  return { ms: [], asked: 0, right: 0, servfail: 0, wrong: 0 }
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
