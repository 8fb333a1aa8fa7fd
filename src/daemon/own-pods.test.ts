import { expect, test } from 'vitest'
import { ApiServer } from '../api/api-server.ts'
import type { WriteOptions } from '../api/kube-api.ts'
import { resourceTypeOf } from '../api/resources.ts'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parsePod } from '../model/parse-pod.ts'
import { parseNetwork } from '../net/cidr.ts'
import { describePod } from '../nodes/pod-object.ts'
import { MemorySource } from '../sources/memory.ts'
import { OwnPods } from './own-pods.ts'

test('OwnPods have the labels that somebody gave them in the API, as long as it is the same pod', async () => {
  const claims = { serviceCIDRs: [parseNetwork('10.96.0.0/24')], reserved: [], loadBalancerCIDRs: [] }
  using server = await ApiServer.open({ file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' })
  const pod = (app: string) =>
    parsePod({
      metadata: { name: 'web', namespace: 'default', labels: { app } },
      spec: { nodeName: 'n1' },
      status: { phase: 'Running', podIP: '10.1.0.1' },
    })
  const here = new MemorySource('pods of this machine')
  here.putPod(pod('web'))
  using own = new OwnPods(here, server.store)
  const labels = () => own.snapshot.pods.get('default/web')?.labels
  expect(own.current.synced).toBe(true)
  expect(labels()).toEqual({ app: 'web' })

  const target = { type: resourceTypeOf('Pod'), namespace: 'default', name: 'web', subresource: '' } as const
  const options: WriteOptions = { fieldManager: 'test', fieldValidation: 'Strict', dryRun: false, warnings: [] }
  await server.api.create({ ...target, name: '' }, describePod(pod('web'), 'n1'), options)
  const body = { metadata: { labels: { app: 'quarantine' } } }
  await server.api.patch(target, { kind: 'merge', body }, options)
  expect(labels()).toEqual({ app: 'quarantine' })

  here.putPod(pod('other'))
  expect(labels()).toEqual({ app: 'other' })
  here.removePod('default/web')
  expect(labels()).toBeUndefined()
})
