import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { StatusView } from './control-api.ts'
import { createMetrics } from './metrics.ts'

const status: StatusView = {
  version: '1.2.3',
  node: 'node-1',
  pid: 1,
  uptimeSeconds: 1,
  ready: true,
  waitingFor: [],
  rssBytes: 1,
  sources: { synced: true, objects: { services: 1, slices: 1, pods: 0, nodes: 0 }, problems: ['x'], list: [] },
  services: undefined,
  network: undefined,
  dns: undefined,
  api: undefined,
  cluster: undefined,
}

test('createMetrics() has exactly the names that docs/metrics.md lists', () => {
  const { registry } = createMetrics(() => status, {})
  const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/`((?:fairlead|kubeproxy)_\w+)`/g)].map(
    (match) => match[1] ?? '',
  )
  const names = registry
    .getMetricsAsArray()
    .map((metric) => metric.name)
    .filter((name) => /^(fairlead|kubeproxy)_/.test(name))
  expect(names.toSorted()).toEqual(documented.toSorted())
})

test('createMetrics() gives counters, and only counters, names that end in _total', async () => {
  const metrics = await createMetrics(() => status, {}).registry.getMetricsAsJSON()
  for (const { name, type } of metrics.filter(({ name }) => name.startsWith('fairlead_'))) {
    expect({ name, type }).toEqual({
      name,
      type: name.endsWith('_total') ? 'counter' : (expect.stringMatching(/gauge|histogram/) as string),
    })
  }
})

test('createMetrics() reads the status at each scrape and counts syncs', async () => {
  const services = {
    mode: 'nftables',
    services: 1,
    endpoints: 2,
    problems: [],
    settled: true,
    pendingMs: 0,
    syncs: 3,
    failures: 2,
    repairs: 1,
    firstSync: undefined,
    lastSync: undefined,
    connections: undefined,
  }
  const network = {
    name: 'default',
    bridge: 'fl0',
    subnets: [],
    gateways: [],
    mtu: 1500,
    pods: 0,
    problems: [],
    repairs: 4,
  }
  let view = status
  const metrics = createMetrics(() => view, {})
  metrics.observeSync({
    time: '',
    changedServices: 1,
    elements: 12,
    bytes: 800,
    messages: 4,
    commitMs: 1,
    wallMs: 2,
    kernelMs: 0.2,
  })
  const before = await metrics.registry.metrics()
  expect(before).toContain('fairlead_build_info{version="1.2.3"} 1')
  expect(before).toContain('fairlead_source_problems 1')
  expect(before).toContain('fairlead_elements_total 12')
  expect(before).toContain('fairlead_syncs_total{result="failure"} 0')
  view = { ...status, services, network }
  const after = await metrics.registry.metrics()
  expect(after).toContain('fairlead_syncs_total{result="success"} 3')
  expect(after).toContain('fairlead_syncs_total{result="failure"} 2')
  expect(after).toContain('fairlead_repairs_total{part="services"} 1')
  expect(after).toContain('fairlead_repairs_total{part="network"} 4')
})
