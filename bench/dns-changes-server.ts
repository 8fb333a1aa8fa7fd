/** The process of dns-changes.ts that serves and changes: it has the flags of the daemon and has given back what its start took, as the daemon has. */
import { once } from 'node:events'
import { silentLog } from '../src/base/log.ts'
import { settleMemory } from '../src/daemon/settle-memory.ts'
import { createDnsServer } from '../src/dns/server.ts'
import { snapshotOf } from '../src/dns/testing.ts'
import type { Snapshot } from '../src/model/snapshot.ts'
import { parseIp } from '../src/net/ip-address.ts'
import { msSinceBoot } from './ms-since-boot.ts'
import { clusterIpOf } from './dns-names.ts'

/** What the process is sent first: what it is to do; anything else that follows means "begin". */
export interface ChangesTask {
  readonly services: number
  readonly workers: number
  readonly seconds: number
  readonly perSecond: number
}

export interface ChangesReport {
  readonly changes: number
  /** By generation of the Service that is read: when its change was given to the server, milliseconds since boot. */
  readonly updated: readonly number[]
}

/** Every so many changes is of the Service that is read. */
const liveEvery = 4

process.once('disconnect', () => process.exit())
const [task] = (await once(process, 'message')) as [ChangesTask]
const { services, workers, seconds, perSecond } = task
let snapshot = manyServices()
const server = createDnsServer({
  addresses: [parseIp('127.0.0.1')],
  port: 0,
  workers,
  upstreams: [],
  resolvConf: '/dev/null',
  log: silentLog,
})
server.update(snapshot, true)
await server.listen()
settleMemory(silentLog)
process.send?.(server.endpoints[0]?.udpPort)
await once(process, 'message')
const report = await change()
await new Promise((resolve) => setTimeout(resolve, 100))
process.send?.(report)
await once(process, 'message')
await server[Symbol.asyncDispose]()
process.exit()

async function change(): Promise<ChangesReport> {
  const updated = [msSinceBoot()]
  const began = performance.now()
  let changes = 0
  while (performance.now() < began + seconds * 1000) {
    const due = ((performance.now() - began) / 1000) * perSecond
    for (; changes < due; changes++) {
      const isLive = changes % liveEvery === 0
      const key = isLive ? 'bench/live' : `bench/svc-${(changes * 7919) % services}`
      snapshot = withEndpoints(key, addressesOf(isLive ? updated.length : changes))
      if (isLive) updated.push(msSinceBoot())
      server.update(snapshot, true)
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  return { changes, updated }
}

/** Two addresses that say which generation they are of; of two generations, none is the same. */
function addressesOf(generation: number): string[] {
  return [1, 2].map((last) => `10.${generation >> 8}.${generation & 255}.${last}`)
}

function manyServices(): Snapshot {
  const specs = Array.from(
    { length: services },
    (_, i) => [`bench/svc-${i}`, { ips: [clusterIpOf(i)], ports: ['http/TCP/80'] }] as const,
  )
  return snapshotOf({ ...Object.fromEntries(specs), 'bench/live': { endpoints: addressesOf(0) } })
}

function withEndpoints(key: string, addresses: readonly string[]): Snapshot {
  const slices = snapshotOf({ [key]: { endpoints: addresses } }).slices.get(key) ?? []
  return { ...snapshot, slices: snapshot.slices.with([[key, slices]]) }
}
