import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { SharedMap } from '../base/shared-map.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { ServiceConnections } from '../proxy/service-connections.ts'
import type { SyncOutcome, SyncStatus } from '../proxy/sync-loop.ts'

/** Metrics under kube-proxy's names, with its labels and buckets (pkg/proxy/metrics/metrics.go of 1.36). */
export interface KubeProxyMetrics {
  /** A newer snapshot was given to the proxy. */
  observeSnapshot(snapshot: Snapshot): void
  observeSync(outcome: SyncOutcome): void
  countHealthAnswer(route: 'healthz' | 'livez', status: number): void
}

/** One sync is of both families here. */
const families = ['IPv4', 'IPv6'] as const

/** 0.001 s and 14 doublings. */
const syncBuckets = Array.from({ length: 15 }, (_, i) => 0.001 * 2 ** i)

/** 0.25 s, 0.5 s, 1 to 59 s, 60 to 115 s by 5, 2 to 5 min by 30 s. */
const programmingBuckets = [
  0.25,
  0.5,
  ...Array.from({ length: 59 }, (_, i) => 1 + i),
  ...Array.from({ length: 12 }, (_, i) => 60 + 5 * i),
  ...Array.from({ length: 7 }, (_, i) => 120 + 30 * i),
]

/** Registers the metrics; `status` is read at scrape time. */
export function createKubeProxyMetrics(
  registry: Registry,
  status: () => SyncStatus | undefined,
  connections: () => ServiceConnections | undefined,
): KubeProxyMetrics {
  const registers = [registry]
  const histogram = (name: string, help: string, buckets: readonly number[]): Histogram<'ip_family'> =>
    new Histogram({ name: `kubeproxy_${name}`, help, labelNames: ['ip_family'], buckets: [...buckets], registers })
  const all = histogram('sync_proxy_rules_duration_seconds', 'A sync of the Services.', syncBuckets)
  const full = histogram('sync_full_proxy_rules_duration_seconds', 'A sync of all Services.', syncBuckets)
  const partial = histogram('sync_partial_proxy_rules_duration_seconds', 'A sync of changed Services.', syncBuckets)
  const programming = histogram(
    'network_programming_duration_seconds',
    'From the oldest change that a sync brought to the kernel, as it came to this daemon, until it was there.',
    programmingBuckets,
  )
  for (const family of families)
    for (const metric of [all, full, partial, programming]) metric.zero({ ip_family: family })

  const pending = { services: 0, endpoints: 0 }
  const changes = (kind: 'service' | 'endpoint', what: 'services' | 'endpoints'): Counter => {
    new Gauge({
      name: `kubeproxy_sync_proxy_rules_${kind}_changes_pending`,
      help: `Changes of ${what} that are not in the kernel yet.`,
      registers,
      collect() {
        this.set(pending[what])
      },
    })
    return new Counter({
      name: `kubeproxy_sync_proxy_rules_${kind}_changes_total`,
      help: `Changes of ${what}.`,
      registers,
    })
  }
  const serviceChanges = changes('service', 'services')
  const endpointChanges = changes('endpoint', 'endpoints')

  const time = (name: string, help: string): Gauge<'ip_family'> =>
    new Gauge({ name: `kubeproxy_${name}`, help, labelNames: ['ip_family'], registers })
  const lastSync = time('sync_proxy_rules_last_timestamp_seconds', 'When the last sync ended, in seconds since 1970.')
  const lastQueued = time(
    'sync_proxy_rules_last_queued_timestamp_seconds',
    'When the last sync was asked for, in seconds since 1970.',
  )

  registerFailures(registers, status)
  new Counter({
    name: 'kubeproxy_conntrack_reconciler_deleted_entries_total',
    help: 'Stale UDP connections that were forgotten.',
    labelNames: ['ip_family'],
    registers,
    collect() {
      const forgotten = connections()?.forgotten
      this.reset()
      this.inc({ ip_family: 'IPv4' }, forgotten?.[4] ?? 0)
      this.inc({ ip_family: 'IPv6' }, forgotten?.[6] ?? 0)
    },
  })
  new Gauge({
    name: 'kubeproxy_sync_proxy_rules_no_local_endpoints_total',
    help: 'Service ports with policy Local that have endpoints, but none on this node.',
    labelNames: ['ip_family', 'traffic_policy'],
    registers,
    collect() {
      this.reset()
      const counts = countWithoutLocal(status()?.services)
      for (const [index, family] of families.entries()) {
        for (const policy of ['internal', 'external'] as const) {
          this.set({ ip_family: family, traffic_policy: policy }, counts[policy][index] ?? 0)
        }
      }
    },
  })
  const answers = (route: 'healthz' | 'livez'): Counter<'code'> =>
    new Counter({
      name: `kubeproxy_proxy_${route}_total`,
      help: `Answers of /${route}.`,
      labelNames: ['code'],
      registers,
    })
  const healthAnswers = { healthz: answers('healthz'), livez: answers('livez') }

  let known = emptySnapshot
  return {
    observeSnapshot(snapshot) {
      const services = SharedMap.changedKeys(known.services, snapshot.services).size
      const endpoints = SharedMap.changedKeys(known.slices, snapshot.slices).size
      known = snapshot
      pending.services += services
      pending.endpoints += endpoints
      serviceChanges.inc(services)
      endpointChanges.inc(endpoints)
      for (const family of families) lastQueued.set({ ip_family: family }, Date.now() / 1000)
    },
    observeSync({ result, totalMs, latencyMs, services }) {
      // What came meanwhile waits for the next sync.
      if (services.snapshot === known) pending.services = pending.endpoints = 0
      for (const family of families) {
        all.observe({ ip_family: family }, totalMs / 1000)
        const kind = result.kind === 'full' ? full : partial
        kind.observe({ ip_family: family }, totalMs / 1000)
        programming.observe({ ip_family: family }, latencyMs / 1000)
        lastSync.set({ ip_family: family }, Date.now() / 1000)
      }
    },
    countHealthAnswer: (route, status) => healthAnswers[route].inc({ code: String(status) }),
  }
}

/** kube-proxy counts each mode's failures under a name of its own. */
function registerFailures(registers: Registry[], status: () => SyncStatus | undefined): void {
  for (const [mode, name] of [
    ['nftables', 'nftables_sync_failures_total'],
    ['iptables', 'iptables_restore_failures_total'],
  ] as const) {
    new Counter({
      name: `kubeproxy_sync_proxy_rules_${name}`,
      help: `Failed syncs of mode ${mode}.`,
      labelNames: ['ip_family'],
      registers,
      collect() {
        const sync = status()
        this.reset()
        for (const family of families) this.inc({ ip_family: family }, sync?.mode === mode ? sync.failures : 0)
      },
    })
  }
}

/** Service ports whose policy Local leaves them without endpoints here, by policy, then IPv4 and IPv6. */
function countWithoutLocal(compiled: CompiledServices | undefined): Record<'internal' | 'external', [number, number]> {
  const counts: Record<'internal' | 'external', [number, number]> = { internal: [0, 0], external: [0, 0] }
  for (const { frontends } of compiled?.services.values() ?? []) {
    const seen = new Set<string>()
    for (const { kind, family, portName, protocol, verdict, outside } of frontends) {
      const policy =
        kind === 'cluster-ip' && verdict.kind === 'drop'
          ? 'internal'
          : outside?.kind === 'drop'
            ? 'external'
            : undefined
      const port = `${policy} ${family} ${portName} ${protocol}`
      if (policy === undefined || seen.has(port)) continue
      seen.add(port)
      counts[policy][family === 4 ? 0 : 1]++
    }
  }
  return counts
}
