import {
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'
import type { Distribution, DnsCountsView } from '../dns/dns-counts.ts'
import type { Resolver } from '../dns/resolver.ts'
import { rcodeName } from '../dns/dns-counts.ts'
import { upstreamSecondBounds } from '../dns-forward/upstream-counts.ts'

/** One server block as CoreDNS's labels name it. */
export interface ServedBlock {
  /** `dns://:53` */
  readonly server: string
  /** `.` */
  readonly zone: string
  readonly counts: () => DnsCountsView
  readonly counters: () => Resolver['counters']
  readonly upstreams: () => Resolver['upstreams']
  readonly plugins: readonly string[]
  /** Names in hosts files and inline; undefined: there is no such plugin. */
  readonly hosts: (() => number) | undefined
}

export interface CoreDnsMetrics {
  readonly registry: Registry
  /** A change of EndpointSlices was brought to the names of a Service. */
  observeProgramming(kind: 'cluster_ip' | 'headless_with_selector' | 'headless_without_selector', seconds: number): void
  /** Changed Corefiles that were not taken over. */
  countFailedReload(): void
  /** What these blocks counted goes on counting when they are served no more: counters never go back within a process. */
  retire(left: readonly ServedBlock[]): void
}

type Labels = Readonly<Record<string, string>>
interface Sample {
  readonly labels: Labels
  readonly value: number
}

/** CoreDNS's metrics under its names, with its labels and buckets (1.14), of the blocks that are served at the moment of a scrape. */
export function createCoreDnsMetrics(version: string, blocks: () => readonly ServedBlock[]): CoreDnsMetrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const { retire, ...adders } = createAdders(registry, blocks)
  new Gauge({
    name: 'coredns_build_info',
    help: 'A metric with a constant 1 value labeled by version, revision, and goversion from which CoreDNS was built.',
    labelNames: ['version', 'revision', 'goversion'],
    registers,
  }).set({ version: `fairlead-${version}`, revision: '', goversion: `node-${process.version}` }, 1)
  dnsMetrics(adders)
  forwardMetrics(adders)
  cacheMetrics(adders)
  adders.gauge('hosts_entries', 'The combined number of entries in hosts and Corefile.', [], ({ hosts }) =>
    hosts ? [{ labels: {}, value: hosts() }] : [],
  )
  const programming = new Histogram({
    name: 'coredns_kubernetes_dns_programming_duration_seconds',
    help: 'Histogram of the time (in seconds) it took to program a dns instance.',
    labelNames: ['service_kind'],
    buckets: Array.from({ length: 20 }, (_, i) => 0.001 * 2 ** i),
    registers,
  })
  const failedReloads = new Counter({
    name: 'coredns_reload_failed_total',
    help: 'Counter of the number of failed reload attempts.',
    registers,
  })
  return {
    registry,
    observeProgramming: (kind, seconds) => programming.observe({ service_kind: kind }, seconds),
    countFailedReload: () => failedReloads.inc(),
    retire,
  }
}

/** Makes metrics that are read from blocks: those that are served now, and for what only grows those that were, too. */
function createAdders(
  registry: Registry,
  blocks: () => readonly ServedBlock[],
): Adders & Pick<CoreDnsMetrics, 'retire'> {
  const registers = [registry]
  const retirements: ((left: readonly ServedBlock[]) => void)[] = []
  return {
    retire(left) {
      for (const retire of retirements) retire(left)
    },
    counter(name, help, labelNames, read) {
      let past: readonly Sample[] = []
      retirements.push((left) => (past = sumByLabels([...past, ...left.flatMap(read)], addSamples)))
      new Counter({
        name: `coredns_${name}`,
        help,
        labelNames: [...labelNames],
        registers,
        collect() {
          this.reset()
          for (const { labels, value } of [...past, ...blocks().flatMap(read)]) this.inc(labels, value)
        },
      })
    },
    gauge(name, help, labelNames, read) {
      new Gauge({
        name: `coredns_${name}`,
        help,
        labelNames: [...labelNames],
        registers,
        collect() {
          this.reset()
          for (const { labels, value } of blocks().flatMap(read)) this.set(labels, value)
        },
      })
    },
    histogram(name, help, labelNames, read) {
      let past: readonly Observed[] = []
      const all = (more: readonly ServedBlock[]) => sumByLabels([...past, ...more.flatMap(read)], addObserved)
      retirements.push((left) => (past = all(left)))
      registry.registerMetric(new ReadHistogram({ name: `coredns_${name}`, help, labelNames }, () => all(blocks())))
    },
  }
}

/** Adds up those with the same labels. */
function sumByLabels<T extends { readonly labels: Labels }>(list: readonly T[], add: (one: T, other: T) => T): T[] {
  const sums = new Map<string, T>()
  for (const item of list) {
    const key = JSON.stringify(item.labels)
    const known = sums.get(key)
    sums.set(key, known ? add(known, item) : item)
  }
  return [...sums.values()]
}

function addSamples({ labels, value }: Sample, other: Sample): Sample {
  return { labels, value: value + other.value }
}

/** Both have the same bounds. */
function addObserved({ labels, distribution }: Observed, { distribution: other }: Observed): Observed {
  const counts = distribution.counts.map((count, i) => count + (other.counts[i] ?? 0))
  return { labels, distribution: { bounds: distribution.bounds, counts, sum: distribution.sum + other.sum } }
}

type AddMetric<T> = (
  name: string,
  help: string,
  labelNames: readonly string[],
  read: (block: ServedBlock) => T[],
) => void
interface Adders {
  readonly counter: AddMetric<Sample>
  readonly gauge: AddMetric<Sample>
  readonly histogram: AddMetric<Observed>
}

const view = ''

function dnsMetrics({ counter, gauge, histogram }: Adders): void {
  const of = ({ server, zone }: ServedBlock): Labels => ({ server, zone, view })
  const common = ['server', 'zone', 'view']
  counter(
    'dns_requests_total',
    'Counter of DNS requests made per zone, protocol and family.',
    [...common, 'proto', 'family', 'type'],
    (block) =>
      block.counts().requests.map(({ count, ...labels }) => ({ labels: { ...of(block), ...labels }, value: count })),
  )
  counter('dns_responses_total', 'Counter of response status codes.', [...common, 'rcode', 'plugin'], (block) =>
    block.counts().responses.map(({ count, ...labels }) => ({ labels: { ...of(block), ...labels }, value: count })),
  )
  counter('dns_do_requests_total', 'Counter of DNS requests with DO bit set per zone.', common, (block) => [
    { labels: of(block), value: block.counts().dnssecOk },
  ])
  histogram(
    'dns_request_duration_seconds',
    'Histogram of the time (in seconds) each request took per zone.',
    common,
    (block) => [{ labels: of(block), distribution: block.counts().durations }],
  )
  const sizes = 'per zone and protocol.'
  histogram('dns_request_size_bytes', `Size of the request in bytes ${sizes}`, [...common, 'proto'], (block) =>
    block.counts().requestSizes.map(({ proto, sizes }) => ({ labels: { ...of(block), proto }, distribution: sizes })),
  )
  histogram(
    'dns_response_size_bytes',
    `Size of the returned response in bytes ${sizes}`,
    [...common, 'proto'],
    (block) =>
      block
        .counts()
        .responseSizes.map(({ proto, sizes }) => ({ labels: { ...of(block), proto }, distribution: sizes })),
  )
  counter('panics_total', 'A metrics that counts the number of panics.', [], (block) => [
    { labels: {}, value: block.counts().errors },
  ])
  gauge(
    'plugin_enabled',
    'A metric that indicates whether a plugin is enabled on per server and zone basis.',
    [...common, 'name'],
    (block) => [...new Set(block.plugins)].map((name) => ({ labels: { ...of(block), name }, value: 1 })),
  )
}

function forwardMetrics({ counter, histogram }: Pick<Adders, 'counter' | 'histogram'>): void {
  const each = <T>(
    block: ServedBlock,
    read: (to: string, count: NonNullable<ReturnType<Resolver['upstreams']['get']>>) => T[],
  ) => [...block.upstreams()].flatMap(([to, count]) => read(to, count))
  const proxy = { proxy_name: 'forward' }
  const replies = (block: ServedBlock, labels: Labels): Observed[] =>
    each(block, (to, count) =>
      count.replies.map(({ rcode, counts, sum }) => ({
        labels: { ...labels, to, rcode: rcodeName(rcode) },
        distribution: { bounds: upstreamSecondBounds, counts, sum },
      })),
    )
  histogram(
    'proxy_request_duration_seconds',
    'Histogram of the time each request took.',
    ['proxy_name', 'to', 'rcode'],
    (block) => replies(block, proxy),
  )
  counter(
    'proxy_healthcheck_failures_total',
    'Counter of requests that a resolver did not answer: its health is known from use.',
    ['proxy_name', 'to'],
    (block) => each(block, (to, { failures }) => [{ labels: { ...proxy, to }, value: failures }]),
  )
  // The names before CoreDNS 1.11, which dashboards still have.
  histogram('forward_request_duration_seconds', 'Histogram of the time each request took.', ['to', 'rcode'], (block) =>
    replies(block, {}),
  )
  counter('forward_requests_total', 'Counter of requests made per upstream.', ['to'], (block) =>
    each(block, (to, { requests }) => [{ labels: { to }, value: requests }]),
  )
  counter('forward_responses_total', 'Counter of responses received per upstream.', ['to', 'rcode'], (block) =>
    each(block, (to, count) =>
      count.replies.map(({ rcode, counts }) => ({
        labels: { to, rcode: rcodeName(rcode) },
        value: counts.reduce((sum, count) => sum + count, 0),
      })),
    ),
  )
  counter(
    'forward_max_concurrent_rejects_total',
    'Counter of the number of queries rejected because the concurrent queries were at maximum.',
    [],
    (block) => [{ labels: {}, value: block.counters().rejected }],
  )
}

function cacheMetrics({ counter, gauge }: Pick<Adders, 'counter' | 'gauge'>): void {
  const of = ({ server, zone }: ServedBlock): Labels => ({ server, zones: zone, view })
  const common = ['server', 'zones', 'view']
  const cache = (block: ServedBlock) => block.counters().cache
  const one = (read: (cache: Resolver['counters']['cache']) => number) => (block: ServedBlock) => [
    { labels: of(block), value: read(cache(block)) },
  ]
  gauge('cache_entries', 'The number of elements in the cache.', [...common, 'type'], (block) => [
    { labels: { ...of(block), type: 'success' }, value: cache(block).answers },
    { labels: { ...of(block), type: 'denial' }, value: cache(block).denials },
  ])
  counter('cache_hits_total', 'The count of cache hits.', [...common, 'type'], (block) => [
    { labels: { ...of(block), type: 'success' }, value: cache(block).hits - cache(block).denialHits },
    { labels: { ...of(block), type: 'denial' }, value: cache(block).denialHits },
  ])
  counter(
    'cache_requests_total',
    'The count of cache requests.',
    common,
    one(({ hits, misses }) => hits + misses),
  )
  counter(
    'cache_misses_total',
    'The count of cache misses.',
    common,
    one(({ misses }) => misses),
  )
  counter(
    'cache_prefetch_total',
    'The number of times the cache has prefetched a cached item.',
    common,
    one(({ prefetches }) => prefetches),
  )
  counter(
    'cache_served_stale_total',
    'The number of requests served from stale cache entries.',
    common,
    one(({ stale }) => stale),
  )
  counter(
    'cache_evictions_total',
    'The count of cache evictions.',
    common,
    one(({ evictions }) => evictions),
  )
}

interface Observed {
  readonly labels: Labels
  readonly distribution: Distribution
}

/** A histogram whose numbers were counted elsewhere. */
class ReadHistogram extends Histogram {
  readonly #read: () => readonly Observed[]
  readonly #head: { readonly name: string; readonly help: string }

  constructor(
    head: { readonly name: string; readonly help: string; readonly labelNames: readonly string[] },
    read: () => readonly Observed[],
  ) {
    super({ ...head, labelNames: [...head.labelNames], registers: [] })
    this.#head = head
    this.#read = read
  }

  /** What a registry asks for first (prom-client 15); not in its types. */
  getForPromString(): Promise<MetricObjectWithValues<MetricValue<string>>> {
    return this.get()
  }

  override get(): Promise<MetricObjectWithValues<MetricValue<string>>> {
    const { name, help } = this.#head
    const values = this.#read().flatMap(({ labels, distribution }) => {
      let seen = 0
      const buckets = distribution.counts.map((count, i) => {
        seen += count
        return {
          labels: { ...labels, le: distribution.bounds[i] ?? '+Inf' },
          value: seen,
          metricName: `${name}_bucket`,
        }
      })
      return [
        ...buckets,
        { labels, value: distribution.sum, metricName: `${name}_sum` },
        { labels, value: seen, metricName: `${name}_count` },
      ]
    })
    const object = { name, help, type: 'histogram', values, aggregator: 'sum' }
    return Promise.resolve(object as unknown as MetricObjectWithValues<MetricValue<string>>)
  }
}
