import { expect, test } from 'vitest'
import { ApiServer } from '../api/api-server.ts'
import type { Target } from '../api/kube-api.ts'
import { resourceTypeOf } from '../api/resources.ts'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { ApiSource } from './api-source.ts'
import { EndpointsMirror } from './mirror-endpoints.ts'

const options = { fieldManager: 'test', fieldValidation: 'Strict', dryRun: false } as const
const of = (kind: string, name = 'db'): Target => ({
  type: resourceTypeOf(kind),
  namespace: 'default',
  name,
  subresource: '',
})

test('EndpointsMirror writes slices for the Endpoints of a Service without a selector, and nothing else', async () => {
  const claims = { serviceCIDRs: [parseCidr('10.96.0.0/24'), parseCidr('fd00::/112')] }
  using server = await ApiServer.open({ file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' })
  using source = new ApiSource(server.store, { nodeName: 'n1' })
  using mirror = new EndpointsMirror(server.api, { log: silentLog })
  const write = (kind: string, body: object, name = 'db') =>
    server.api.patch(
      of(kind, name),
      { kind: 'apply', body: { kind, ...body }, force: true },
      { ...options, warnings: [] },
    )
  const shown = async (): Promise<unknown> => {
    // What is written by the mirror is looked at by it, too.
    for (let i = 0; i < 5; i++) await mirror.settled().then(() => new Promise((resolve) => setImmediate(resolve)))
    return [...(source.snapshot.slices.get('default/db') ?? [])].map(({ family, ports, endpoints }) => [
      family,
      ports.map(({ port, name }) => `${name}:${port}`).join(),
      endpoints.map(({ address, ready }) => `${address} ${ready}`).join(),
    ])
  }
  const endpoints = (extra: object = {}): object => ({
    apiVersion: 'v1',
    metadata: { name: 'db', labels: { tier: 'x' }, ...extra },
    subsets: [
      {
        addresses: [{ ip: '192.0.2.7' }, { ip: '2001:db8::7' }],
        notReadyAddresses: [{ ip: '192.0.2.8' }],
        ports: [{ name: 'sql', port: 5432 }],
      },
    ],
  })
  await write('Endpoints', endpoints())
  expect(await shown()).toEqual([])
  const service = { apiVersion: 'v1', metadata: { name: 'db' }, spec: { ports: [{ name: 'sql', port: 5432 }] } }
  await write('Service', service)
  expect(await shown()).toEqual([
    [4, 'sql:5432', '192.0.2.7 true,192.0.2.8 false'],
    [6, 'sql:5432', '2001:db8::7 true'],
  ])
  const [slice] = server.store.list('endpointslices.discovery.k8s.io')
  expect(slice?.metadata).toMatchObject({
    labels: {
      tier: 'x',
      'kubernetes.io/service-name': 'db',
      'endpointslice.kubernetes.io/managed-by': 'endpointslicemirroring-controller.k8s.io',
    },
    ownerReferences: [{ kind: 'Endpoints', name: 'db' }],
  })
  const revision = server.store.revision
  expect(await shown()).toHaveLength(2)
  expect(server.store.revision).toBe(revision)

  await server.api.remove(of('EndpointSlice', 'db-mirror-ipv6'), { dryRun: false })
  expect(await shown()).toHaveLength(2)
  await write('Endpoints', {
    apiVersion: 'v1',
    metadata: { name: 'db' },
    subsets: [{ addresses: [{ ip: '192.0.2.9' }] }],
  })
  expect(await shown()).toEqual([[4, '', '192.0.2.9 true']])
  await write('Endpoints', endpoints({ labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } }))
  expect(await shown()).toEqual([])
  await write('Endpoints', endpoints())
  await server.api.remove(of('Service'), { dryRun: false })
  expect(await shown()).toEqual([])
})
