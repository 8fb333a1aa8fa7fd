import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ServiceConnections } from '../proxy/service-connections.ts'
import type { SyncLoop } from '../proxy/sync-loop.ts'
import type { StatusView, SyncView } from './control-api.ts'
import { createDockerMetrics } from './docker-metrics.ts'
import { createKubernetesMetrics } from './kubernetes-metrics.ts'
import { createNodeMetrics } from './node-metrics.ts'
import { createKubeProxyMetrics, type KubeProxyMetrics } from './kube-proxy-metrics.ts'

/** The daemon's metrics. Every name stands in docs/metrics.md (a test compares). */
export interface Metrics {
  readonly registry: Registry
  /** Called after each successful sync of the Services. */
  observeSync(sync: SyncView): void
  /** The same under kube-proxy's names. */
  readonly kubeProxy: KubeProxyMetrics
}

/** Creates the metrics; values that the status and the `parts` have are read from them at scrape time. */
export function createMetrics(
  status: () => StatusView,
  parts: {
    readonly loop?: Pick<SyncLoop, 'status'> | undefined
    readonly connections?: ServiceConnections | undefined
  },
): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const gauge = (name: string, help: string, read: (view: StatusView) => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read(status()) ?? 0)
      },
    })
  }
  new Gauge({
    name: 'fairlead_build_info',
    help: 'Version of the daemon; always 1.',
    labelNames: ['version'],
    registers,
    collect() {
      this.set({ version: status().version }, 1)
    },
  })
  gauge('fairlead_ready', '1 once the first complete state is in the kernel.', (view) => Number(view.ready))
  gauge('fairlead_sources_synced', '1 once every source delivered its first complete list.', (view) =>
    Number(view.sources.synced),
  )
  gauge('fairlead_source_problems', 'Manifests that cannot be used.', (view) => view.sources.problems.length)
  gauge('fairlead_service_problems', 'Conflicts between Services.', (view) => view.services?.problems.length)
  gauge('fairlead_services', 'Services programmed.', (view) => view.services?.services)
  gauge('fairlead_endpoints', 'Endpoints of programmed Services.', (view) => view.services?.endpoints)
  gauge('fairlead_pods', 'Pods of this machine.', (view) => view.network?.pods)

  createKubernetesMetrics(registry, () => status().sources.list.flatMap(({ resources }) => resources))
  createDockerMetrics(registry, status)
  createNodeMetrics(registry, status)

  // Counted where they happen, and only read here: a failure must show while it lasts, not after the next success.
  const counter = (name: string, help: string, read: (view: StatusView) => number | undefined): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read(status()) ?? 0)
      },
    })
  }
  counter('fairlead_dns_queries_total', 'DNS queries answered.', (view) => view.dns?.queries)
  counter('fairlead_dns_forwarded_total', 'DNS queries forwarded.', (view) => view.dns?.forwarded)
  counter('fairlead_dns_forward_failures_total', 'Forwarded DNS queries that no resolver answered.', (view) => {
    return view.dns?.forwardFailures
  })
  counter('fairlead_dns_cache_hits_total', 'DNS queries answered from memory.', (view) => view.dns?.cacheHits)
  counter(
    'fairlead_dns_stale_answers_total',
    'DNS queries answered from memory after the TTL, for want of a resolver.',
    (view) => {
      return view.dns?.staleAnswers
    },
  )
  new Counter({
    name: 'fairlead_dns_responses_total',
    help: 'DNS responses.',
    labelNames: ['rcode'],
    registers,
    collect() {
      this.reset()
      for (const [rcode, count] of Object.entries(status().dns?.answers ?? {})) this.inc({ rcode }, count)
    },
  })
  new Counter({
    name: 'fairlead_syncs_total',
    help: 'Syncs of the Services.',
    labelNames: ['result'],
    registers,
    collect() {
      const { services } = status()
      this.reset()
      this.inc({ result: 'success' }, services?.syncs ?? 0)
      this.inc({ result: 'failure' }, services?.failures ?? 0)
    },
  })
  new Counter({
    name: 'fairlead_repairs_total',
    help: 'Times that state which another program changed was put back.',
    labelNames: ['part'],
    registers,
    collect() {
      const { services, network, cluster } = status()
      this.reset()
      this.inc({ part: 'services' }, services?.repairs ?? 0)
      this.inc({ part: 'network' }, network?.repairs ?? 0)
      this.inc({ part: 'routes' }, cluster?.repairs ?? 0)
    },
  })
  const elements = new Counter({ name: 'fairlead_elements_total', help: 'Map elements sent to the kernel.', registers })
  const bytes = new Counter({
    name: 'fairlead_netlink_bytes_total',
    help: 'Bytes of transactions sent to the kernel.',
    registers,
  })
  const duration = new Histogram({
    name: 'fairlead_sync_duration_seconds',
    help: 'A sync of the Services: compile, send, commit.',
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30],
    registers,
  })
  const kernel = new Histogram({
    name: 'fairlead_transaction_duration_seconds',
    help: "The kernel's part of a sync.",
    buckets: [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1],
    registers,
  })

  return {
    registry,
    kubeProxy: createKubeProxyMetrics(
      registry,
      () => parts.loop?.status(),
      () => parts.connections,
    ),
    observeSync(sync) {
      elements.inc(sync.elements)
      bytes.inc(sync.bytes)
      duration.observe(sync.wallMs / 1000)
      kernel.observe(sync.kernelMs / 1000)
    },
  }
}
