import { expect, test } from 'vitest'
import { ApiServer } from '../api/api-server.ts'
import type { KubeApi, Target, WriteOptions } from '../api/kube-api.ts'
import { listAt, textAt } from '../api/kube-object.ts'
import { resourceTypeOf } from '../api/resources.ts'
import { FakeClock, systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseNetwork } from '../net/cidr.ts'
import { NodeLifecycle } from './node-lifecycle.ts'

const options: WriteOptions = { fieldManager: 'test', fieldValidation: 'Strict', dryRun: false, warnings: [] }
const target = (kind: string, name: string, namespace = '', subresource: '' | 'status' = ''): Target => ({
  type: resourceTypeOf(kind),
  namespace,
  name,
  subresource,
})

async function put(
  api: KubeApi,
  kind: string,
  object: { metadata: { name: string; namespace?: string } },
): Promise<void> {
  const { name, namespace = '' } = object.metadata
  const core = kind === 'Lease' ? 'coordination.k8s.io/v1' : 'v1'
  const body = { apiVersion: core, kind, ...object }
  await api.patch(target(kind, name, namespace), { kind: 'apply', body, force: true }, options)
  if ('status' in object) {
    await api.patch(target(kind, name, namespace, 'status'), { kind: 'apply', body, force: true }, options)
  }
}

function ready(api: KubeApi, kind: string, name: string, namespace = ''): string {
  const condition = listAt(api.get(target(kind, name, namespace)).status, 'conditions').find(
    (one) => textAt(one, 'type') === 'Ready',
  )
  return `${textAt(condition, 'status')} ${textAt(condition, 'reason')}`
}

const conditions = [{ type: 'Ready', status: 'True', reason: 'Fine' }]
const lease = (name: string, renewTime: string) => ({
  metadata: { name, namespace: 'kube-node-lease' },
  spec: { leaseDurationSeconds: 40, renewTime },
})

test('NodeLifecycle marks a node whose Lease nobody renews, and its pods, and leaves others alone', async () => {
  const claims = { serviceCIDRs: [parseNetwork('10.96.0.0/24')], reserved: [], loadBalancerCIDRs: [] }
  using server = await ApiServer.open({ file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' })
  const { api } = server
  for (const name of ['a', 'b', 'unleased']) {
    await put(api, 'Node', { metadata: { name }, status: { conditions } } as never)
    const pod = {
      metadata: { name: `pod-${name}`, namespace: 'default' },
      spec: { nodeName: name, containers: [{ name: 'x' }] },
    }
    await put(api, 'Pod', { ...pod, status: { phase: 'Running', conditions } } as never)
  }
  const clock = new FakeClock()
  using _lifecycle = new NodeLifecycle(api, { clock, log: silentLog })
  // Old by its own clock: only what is seen here counts.
  for (const name of ['a', 'b']) await put(api, 'Lease', lease(name, '2001-01-01T00:00:00.000000Z'))
  for (let s = 0; s < 39; s++) await clock.advance(1000)
  expect(ready(api, 'Node', 'b')).toBe('True Fine')
  await put(api, 'Lease', lease('a', '2001-01-01T00:00:01.000000Z'))
  for (let s = 0; s < 4; s++) await clock.advance(1000)
  await expect.poll(() => ready(api, 'Pod', 'pod-b', 'default')).toBe('False NodeNotReady')
  expect(ready(api, 'Node', 'b')).toBe('Unknown NodeStatusUnknown')
  for (const name of ['a', 'unleased']) {
    expect(ready(api, 'Node', name)).toBe('True Fine')
    expect(ready(api, 'Pod', `pod-${name}`, 'default')).toBe('True Fine')
  }
  // It had a Lease: that somebody deletes it does not keep the node alive.
  await api.remove(target('Lease', 'a', 'kube-node-lease'), { dryRun: false })
  for (let s = 0; s < 41; s++) await clock.advance(1000)
  await expect.poll(() => ready(api, 'Node', 'a')).toBe('Unknown NodeStatusUnknown')
  expect(ready(api, 'Node', 'unleased')).toBe('True Fine')
})
