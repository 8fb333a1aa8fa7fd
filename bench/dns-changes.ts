import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { silentLog } from '../src/base/log.ts'
import { createDnsServer } from '../src/dns/server.ts'
import { snapshotOf } from '../src/dns/testing.ts'
import type { Snapshot } from '../src/model/snapshot.ts'
import { parseIp } from '../src/net/ip-address.ts'
import type { ReaderReport, ReaderTask } from './dns-changes-reader.ts'
import { quantile } from './statistics.ts'

export interface ChangesOptions {
  readonly services: number
  readonly workers: number
  readonly seconds: number
  /** Endpoint changes a second; every fourth is of the Service that is read. */
  readonly perSecond: number
}

export interface ChangesResult {
  readonly changes: number
  /** Answers that were read, and of these: those of two states at once, those that went back in time, those that said anything else. */
  readonly answers: number
  readonly mixed: number
  readonly older: number
  readonly wrong: number
  readonly lost: number
  /** From the call of `update` until an answer of each of the reader's sockets had the change, milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** How many sockets read, each with its own port: all workers are read. */
const sockets = 8

/** Endpoints of Services change all the time while a thread reads the answers; nothing of it may ever be wrong. */
export async function measureChanges(options: ChangesOptions): Promise<ChangesResult> {
  const { services, workers, seconds, perSecond } = options
  let snapshot = manyServices(services)
  await using server = createDnsServer({
    addresses: [parseIp('127.0.0.1')],
    port: 0,
    workers,
    upstreams: [],
    resolvConf: '/dev/null',
    log: silentLog,
  })
  server.update(snapshot, true)
  await server.listen()
  const task: ReaderTask = { port: server.endpoints[0]?.udpPort ?? 0, sockets }
  const reader = new Worker(new URL('./dns-changes-reader.ts', import.meta.url), { workerData: task })
  await once(reader, 'message')
  const updated: number[] = [performance.timeOrigin + performance.now()]
  const began = performance.now()
  let changes = 0
  while (performance.now() < began + seconds * 1000) {
    const due = ((performance.now() - began) / 1000) * perSecond
    for (; changes < due; changes++) {
      const isLive = changes % 4 === 0
      const key = isLive ? 'bench/live' : `bench/svc-${(changes * 7919) % services}`
      const generation = isLive ? updated.length : changes
      snapshot = withEndpoints(snapshot, key, addressesOf(generation))
      if (isLive) updated.push(performance.timeOrigin + performance.now())
      server.update(snapshot, true)
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await new Promise((resolve) => setTimeout(resolve, 100))
  reader.postMessage('stop', [])
  const [report] = (await once(reader, 'message')) as [ReaderReport]
  await reader.terminate()
  const delays = report.firstSeen
    .flatMap((times) => times.map((time, generation) => time - (updated[generation] ?? 0)).slice(1))
    .toSorted((a, b) => a - b)
  return { ...report.counts, changes, p50: quantile(delays, 0.5), p99: quantile(delays, 0.99), max: delays.at(-1) ?? 0 }
}

/** Two addresses that say which generation they are of; of two generations, none is the same. */
function addressesOf(generation: number): string[] {
  return [1, 2].map((last) => `10.${generation >> 8}.${generation & 255}.${last}`)
}

function manyServices(count: number): Snapshot {
  const specs = Array.from(
    { length: count },
    (_, i) =>
      [
        `bench/svc-${i}`,
        { ips: [`10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`], ports: ['http/TCP/80'] },
      ] as const,
  )
  return snapshotOf({ ...Object.fromEntries(specs), 'bench/live': { endpoints: addressesOf(0) } })
}

function withEndpoints(snapshot: Snapshot, key: string, addresses: readonly string[]): Snapshot {
  const slices = snapshotOf({ [key]: { endpoints: addresses } }).slices.get(key) ?? []
  return { ...snapshot, slices: snapshot.slices.with([[key, slices]]) }
}
