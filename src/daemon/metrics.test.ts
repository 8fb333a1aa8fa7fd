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
  sources: { synced: true, objects: { services: 1, slices: 1, pods: 0, nodes: 0 }, problems: ['x'] },
  services: undefined,
  network: undefined,
  dns: undefined,
}

test('createMetrics() has exactly the names that docs/metrics.md lists', () => {
  const { registry } = createMetrics(() => status)
  const documented = [...readFileSync('docs/metrics.md', 'utf8').matchAll(/`(fairlead_\w+)`/g)].map(
    (match) => match[1] ?? '',
  )
  const names = registry
    .getMetricsAsArray()
    .map((metric) => metric.name)
    .filter((name) => name.startsWith('fairlead_'))
  expect(names.toSorted()).toEqual(documented.toSorted())
})

test('createMetrics() reads the status at each scrape and counts syncs', async () => {
  const metrics = createMetrics(() => status)
  metrics.observeSync({ time: '', changedServices: 1, elements: 12, bytes: 800, messages: 4, wallMs: 2, kernelMs: 0.2 })
  metrics.observeRepair('services')
  const text = await metrics.registry.metrics()
  expect(text).toContain('fairlead_build_info{version="1.2.3"} 1')
  expect(text).toContain('fairlead_source_problems 1')
  expect(text).toContain('fairlead_elements_total 12')
  expect(text).toContain('fairlead_repairs_total{part="services"} 1')
  expect(text).toContain('fairlead_syncs_total{result="failure"} 0')
})
