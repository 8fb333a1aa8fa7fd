import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { answererPlace, DnsCounts } from '../dns/dns-counts.ts'
import { UpstreamCounts } from '../dns-forward/upstream-counts.ts'
import { createCoreDnsMetrics, type ServedBlock } from './coredns-metrics.ts'

function served(): ServedBlock {
  const counts = new DnsCounts()
  const exchange = { tcp: false, ipv6: false, type: 1, requestSize: 40, dnssecOk: true, rcode: 0, responseSize: 90 }
  counts.add({ ...exchange, answerer: answererPlace('kubernetes'), seconds: 0.0002 })
  counts.add({ ...exchange, rcode: 3, answerer: answererPlace('forward'), seconds: 20 })
  const upstreams = new UpstreamCounts()
  upstreams.asked('10.0.0.53')
  upstreams.answered('10.0.0.53', { rcode: 3, seconds: 0.003 })
  upstreams.failed('10.0.0.54')
  const cache = {
    hits: 5,
    denialHits: 2,
    misses: 3,
    stale: 1,
    prefetches: 4,
    answers: 6,
    denials: 7,
    bytes: 8,
    evictions: 9,
  }
  return {
    server: 'dns://:53',
    zone: '.',
    counts: () => DnsCounts.total([counts]),
    counters: () => ({ forwarded: 1, failures: 0, rejected: 11, cache }),
    upstreams: () => upstreams.view(),
    plugins: ['errors', 'forward', 'forward'],
    hosts: () => 2,
  }
}

test("createCoreDnsMetrics() writes what CoreDNS's dashboards read", async () => {
  const metrics = createCoreDnsMetrics('1.2.3', () => [served()])
  const { registry } = metrics
  metrics.observeProgramming('cluster_ip', 0.0005)
  const text = await registry.metrics()
  for (const line of [
    'coredns_dns_requests_total{server="dns://:53",zone=".",view="",proto="udp",family="1",type="A"} 2',
    'coredns_dns_responses_total{server="dns://:53",zone=".",view="",rcode="NXDOMAIN",plugin="forward"} 1',
    'coredns_dns_do_requests_total{server="dns://:53",zone=".",view=""} 2',
    'coredns_dns_request_duration_seconds_bucket{server="dns://:53",zone=".",view="",le="0.00025"} 1',
    'coredns_dns_request_duration_seconds_bucket{server="dns://:53",zone=".",view="",le="8.192"} 1',
    'coredns_dns_request_duration_seconds_bucket{server="dns://:53",zone=".",view="",le="+Inf"} 2',
    'coredns_dns_request_duration_seconds_count{server="dns://:53",zone=".",view=""} 2',
    'coredns_dns_response_size_bytes_sum{server="dns://:53",zone=".",view="",proto="udp"} 180',
    'coredns_dns_response_size_bytes_bucket{server="dns://:53",zone=".",view="",proto="udp",le="100"} 2',
    'coredns_forward_requests_total{to="10.0.0.53"} 1',
    'coredns_forward_responses_total{to="10.0.0.53",rcode="NXDOMAIN"} 1',
    'coredns_forward_max_concurrent_rejects_total 11',
    'coredns_proxy_request_duration_seconds_count{proxy_name="forward",to="10.0.0.53",rcode="NXDOMAIN"} 1',
    'coredns_proxy_healthcheck_failures_total{proxy_name="forward",to="10.0.0.54"} 1',
    'coredns_cache_hits_total{server="dns://:53",zones=".",view="",type="denial"} 2',
    'coredns_cache_entries{server="dns://:53",zones=".",view="",type="success"} 6',
    'coredns_cache_requests_total{server="dns://:53",zones=".",view=""} 8',
    'coredns_plugin_enabled{server="dns://:53",zone=".",view="",name="forward"} 1',
    'coredns_kubernetes_dns_programming_duration_seconds_bucket{le="0.001",service_kind="cluster_ip"} 1',
    'coredns_hosts_entries 2',
    'coredns_panics_total 0',
  ])
    expect(text.split('\n')).toContain(line)
  // A scrape counts nothing twice.
  expect(await registry.getSingleMetricAsString('coredns_dns_requests_total')).toMatch(/type="A"\} 2/)
})

test('createCoreDnsMetrics() goes on counting when other blocks come in the place of those that were served', async () => {
  let blocks = [served()]
  const metrics = createCoreDnsMetrics('1', () => blocks)
  for (let reloads = 2; reloads > 0; reloads--) {
    metrics.retire(blocks)
    blocks = [served()]
  }
  const text = await metrics.registry.metrics()
  for (const line of [
    'coredns_dns_requests_total{server="dns://:53",zone=".",view="",proto="udp",family="1",type="A"} 6',
    'coredns_dns_request_duration_seconds_bucket{server="dns://:53",zone=".",view="",le="0.00025"} 3',
    'coredns_dns_request_duration_seconds_count{server="dns://:53",zone=".",view=""} 6',
    'coredns_forward_requests_total{to="10.0.0.53"} 3',
    'coredns_cache_misses_total{server="dns://:53",zones=".",view=""} 9',
    // What is, and does not grow, is that of the blocks that are served.
    'coredns_cache_entries{server="dns://:53",zones=".",view="",type="success"} 6',
    'coredns_hosts_entries 2',
  ])
    expect(text.split('\n')).toContain(line)
})

test('createCoreDnsMetrics() has exactly the names that docs/metrics.md lists', () => {
  const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/`(coredns_\w+)`/g)].map(
    ([, name = '']) => name,
  )
  const names = createCoreDnsMetrics('1.2.3', () => [])
    .registry.getMetricsAsArray()
    .map(({ name }) => name)
    .filter((name) => name.startsWith('coredns_'))
  expect(names.toSorted()).toEqual(documented.toSorted())
})
