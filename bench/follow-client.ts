import { SharedMap } from '../src/base/shared-map.ts'
import { silentLog } from '../src/base/log.ts'
import { followKubernetes } from '../src/sources/kubernetes.ts'

/** What the following process says of itself. */
export interface FollowFigures {
  /** From the start until the first complete snapshot, ms. */
  readonly firstSnapshotMs: number
  /** CPU time of that, ms: what other processes do to the machine is not in it. */
  readonly cpuMs: number
  /** The longest that the event loop was held meanwhile, ms. */
  readonly longestStretchMs: number
  /** RSS and heap after garbage collection, over what the process had before, bytes; RSS at its highest. */
  readonly rss: number
  readonly peakRss: number
  readonly heap: number
  readonly services: number
  readonly endpoints: number
}

const [kubeconfig = ''] = process.argv.slice(2)
global.gc?.()
const before = process.memoryUsage()
let peakRss = 0
let longest = 0
let last = performance.now()
const ticks = setInterval(() => {
  const now = performance.now()
  longest = Math.max(longest, now - last - 1)
  last = now
  peakRss = Math.max(peakRss, process.memoryUsage.rss() - before.rss)
}, 1)
const cpuBefore = process.cpuUsage()
const began = performance.now()
const source = await followKubernetes({
  location: { kind: 'kubeconfig', path: kubeconfig },
  view: 'proxy',
  nodeName: 'node-1',
  env: {},
  userAgent: 'fairlead/bench',
  log: silentLog,
})
await new Promise<void>((resolve) => source.subscribe(({ synced }) => synced && resolve()))
const firstSnapshotMs = performance.now() - began
const cpu = process.cpuUsage(cpuBefore)
await new Promise((resolve) => setTimeout(resolve, 50))
clearInterval(ticks)
global.gc?.()
const after = process.memoryUsage()
let endpoints = 0
for (const slices of source.current.snapshot.slices.values()) {
  for (const slice of slices) endpoints += slice.endpoints.length
}
const figures: FollowFigures = {
  firstSnapshotMs,
  cpuMs: (cpu.user + cpu.system) / 1000,
  longestStretchMs: longest,
  rss: after.rss - before.rss,
  peakRss: Math.max(peakRss, after.rss - before.rss),
  heap: after.heapUsed - before.heapUsed,
  services: source.current.snapshot.services.size,
  endpoints,
}
const arrived: Record<string, number> = {}
let seen = source.current.snapshot.slices
source.subscribe(({ snapshot }) => {
  const now = performance.timeOrigin + performance.now()
  for (const key of SharedMap.changedKeys(seen, snapshot.slices)) arrived[key] = now
  seen = snapshot.slices
})
process.on('message', (message) => {
  if (message === 'arrived') process.send?.({ arrived })
  else process.exit(0)
})
process.send?.({ figures })
