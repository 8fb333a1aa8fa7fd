import { expect, it } from 'vitest'
import { exampleService, exampleSlice } from './example-objects.ts'
import { explainEndpoints } from './explain-endpoints.ts'
import { selectEndpoints } from './select-endpoints.ts'

const port = { portName: '', protocol: 'tcp', family: 4 } as const
const node = { name: 'this-node', zone: 'zone-a', addresses: [] }
const service = exampleService('web')
const hints = (zone: string) => ({ zones: [zone], nodes: [] })

function explain(endpoints: Parameters<typeof exampleSlice>[1], policy: 'Cluster' | 'Local') {
  const slices = [exampleSlice(service, endpoints)]
  const { cluster, local } = selectEndpoints(slices, port, node)
  const slots = policy === 'Local' ? local : cluster
  return explainEndpoints(slices, port, { node, policy, slots }).map(
    ({ ip, share, why }) => `${ip} ${share}${why === undefined ? '' : `: ${why}`}`,
  )
}

it('explainEndpoints gives each endpoint its share, and the others the reason why they have none', () => {
  const mixed = [
    { address: '10.0.0.1', ready: false },
    { address: '10.0.0.2', ready: false, terminating: true },
    { address: '10.0.0.3', ready: false, serving: false, terminating: true },
    { address: '10.0.0.4', hints: hints('zone-b') },
    { address: '10.0.0.5', hints: hints('zone-a') },
    { address: '10.0.0.6', hints: hints('zone-a') },
    { address: '10.0.0.7', weight: 0 },
  ]
  expect(explain(mixed, 'Cluster')).toEqual([
    '10.0.0.5 0.5',
    '10.0.0.6 0.5',
    '10.0.0.1 0: it is not ready',
    '10.0.0.2 0: it terminates, and others are ready',
    '10.0.0.3 0: it terminates and does not serve',
    '10.0.0.4 0: its hints (zone zone-b) do not mean this-node in zone zone-a',
    '10.0.0.7 0: its weight is 0',
  ])
})

it('explainEndpoints names an endpoint once that several slices have, so that shares add up', () => {
  const endpoints = ['10.0.0.1', { address: '10.0.0.2', nodeName: 'this-node' }, '10.0.0.2', '10.0.0.1']
  expect(explain(endpoints, 'Cluster')).toEqual(['10.0.0.2 0.5', '10.0.0.1 0.5'])
})

it('explainEndpoints names the node of those that policy Local passes over', () => {
  const endpoints = [
    { address: '10.0.0.1', nodeName: 'other' },
    { address: '10.0.0.2', nodeName: 'this-node' },
    '10.0.0.3',
  ]
  expect(explain(endpoints, 'Local')).toEqual([
    '10.0.0.2 1',
    '10.0.0.1 0: the traffic policy is Local, and it is on other',
    '10.0.0.3 0: the traffic policy is Local, and it is on no known node',
  ])
})
