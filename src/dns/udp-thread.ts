import { parentPort, workerData } from 'node:worker_threads'
import { PassedQueries } from '../dns-workers/passed-queries.ts'
import { type AnsweredQuery, serveDatagrams } from '../dns-workers/serve-datagrams.ts'
import type { WorkerRole } from '../dns-workers/worker-pool.ts'
import { answererPlace, DnsCounts, type Exchange } from './dns-counts.ts'
import { SampleRing } from './query-samples.ts'

/** What a DNS server gives each of its threads besides what a pool does. */
export interface UdpThreadExtras {
  /** The numbers of the thread's {@link DnsCounts}. */
  readonly counts: SharedArrayBuffer
  /** The memory of the thread's {@link SampleRing}; undefined: nobody wants samples. */
  readonly samples: SharedArrayBuffer | undefined
}

/* The thread of a worker: it does nothing else until it is told to end. */
const role = workerData as WorkerRole
const { counts: slots, samples } = role.extras as UdpThreadExtras
const counts = new DnsCounts(new Float64Array(slots))
const ring = samples && new SampleRing(samples)
const exchange: { -readonly [field in keyof Exchange]: Exchange[field] } = {
  tcp: false,
  ipv6: false,
  type: 0,
  requestSize: 0,
  dnssecOk: false,
  rcode: 0,
  answerer: answererPlace('kubernetes'),
  responseSize: 0,
  seconds: 0,
}

function exchangeOf(query: AnsweredQuery): Exchange {
  exchange.ipv6 = query.ipv6
  exchange.type = query.type
  exchange.requestSize = query.requestSize
  exchange.dnssecOk = query.dnssecOk
  exchange.rcode = query.rcode
  exchange.responseSize = query.responseSize
  exchange.seconds = query.seconds
  return exchange
}

serveDatagrams({
  sockets: new Int32Array(role.sockets),
  memory: role.memory,
  passed: new PassedQueries(role.passed),
  control: new Int32Array(role.control),
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  call: () => parentPort?.postMessage(undefined),
  counter: {
    add: (query) => counts.add(exchangeOf(query)),
    addDropped: () => counts.addDropped(),
  },
  ...(ring && {
    sampler: {
      isWanted: () => ring.isWanted(),
      take: (query, { bytes, start, end, address }) =>
        ring.write(bytes, { start, end }, { ...exchangeOf(query), address }),
    },
  }),
})
