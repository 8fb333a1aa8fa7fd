import { describe, expect, test, vi } from 'vitest'
import { ApiServer } from '../api/api-server.ts'
import { resourceTypeOf } from '../api/resources.ts'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { MemorySource } from '../sources/memory.ts'
import { mergeSources } from '../sources/merge.ts'
import { ApiSource } from './api-source.ts'
import { SlicePublisher } from './publish-slices.ts'

const options = { fieldManager: 'test', fieldValidation: 'Strict', dryRun: false, warnings: [] } as const
const pod = (name: string, ip: string, ready = 'True'): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, labels: { app: 'web' } },
  spec: { nodeName: 'n1', containers: [{ name: 'c' }] },
  status: { phase: 'Running', podIP: ip, conditions: [{ type: 'Ready', status: ready }] },
})

async function openServer(): Promise<ApiServer> {
  const claims = { serviceCIDRs: [parseCidr('10.96.0.0/24')] }
  return await ApiServer.open({ file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' })
}

describe('SlicePublisher', () => {
  test('writes the slices of a Service of the API, follows its pods, and takes them back with the Service', async () => {
    using server = await openServer()
    using source = new ApiSource(server.store, { nodeName: 'n1' })
    const pods = new MemorySource('pods')
    using merged = mergeSources({ sources: [pods, source], log: silentLog })
    using publisher = new SlicePublisher(server.api, { log: silentLog })
    const shown = (): unknown[] =>
      server.store.list('endpointslices.discovery.k8s.io').map(({ endpoints, metadata }) => ({
        service: metadata.labels?.['kubernetes.io/service-name'],
        endpoints: (endpoints as { addresses: string[]; conditions: { ready: boolean } }[]).map(
          ({ addresses, conditions }) => `${addresses[0]} ${conditions.ready}`,
        ),
      }))
    const service = { type: resourceTypeOf('Service'), namespace: 'default', name: 'web', subresource: '' } as const
    pods.applyManifests([pod('a', '10.1.0.1')])
    await server.api.create(
      service,
      { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } },
      { ...options, warnings: [] },
    )
    await publisher.update(merged.current)
    expect(shown()).toEqual([{ service: 'web', endpoints: ['10.1.0.1 true'] }])

    // What it wrote is no source of its own: pods go on to count.
    pods.applyManifests([pod('b', '10.1.0.2', 'False')])
    await publisher.update(merged.current)
    expect(shown()).toEqual([{ service: 'web', endpoints: ['10.1.0.1 true', '10.1.0.2 false'] }])
    // What older clients know.
    const targetRef = { kind: 'Pod', namespace: 'default' }
    expect(server.store.get('endpoints', 'default', 'web')).toMatchObject({
      subsets: [
        {
          addresses: [{ ip: '10.1.0.1', nodeName: 'n1', targetRef: { ...targetRef, name: 'a' } }],
          notReadyAddresses: [{ ip: '10.1.0.2', nodeName: 'n1', targetRef: { ...targetRef, name: 'b' } }],
          ports: [{ port: 80, protocol: 'TCP' }],
        },
      ],
    })
    const revision = server.store.revision
    await publisher.update({ ...merged.current })
    expect(server.store.revision).toBe(revision)

    // The next daemon finds the slice of a Service that went in between.
    await server.api.remove(service, { dryRun: false })
    using next = new SlicePublisher(server.api, { log: silentLog })
    await next.update(merged.current)
    expect(shown()).toEqual([])
    expect(server.store.list('endpoints')).toEqual([])
  })

  test('says once what cannot be written, tries again with each snapshot, and goes on once it can', async () => {
    using server = await openServer()
    using source = new ApiSource(server.store, { nodeName: 'n1' })
    const pods = new MemorySource('pods')
    using merged = mergeSources({ sources: [pods, source], log: silentLog })
    const errors: unknown[] = []
    using publisher = new SlicePublisher(server.api, {
      log: { ...silentLog, error: (...words: unknown[]) => errors.push(words) },
    })
    const service = { type: resourceTypeOf('Service'), namespace: 'default', name: 'web', subresource: '' } as const
    const body = { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } }
    await server.api.create(service, body, { ...options, warnings: [] })
    const refused = vi.spyOn(server.api, 'patch').mockRejectedValue(new Error('the disk is full'))
    for (const ip of ['10.1.0.1', '10.1.0.2', '10.1.0.3']) {
      pods.applyManifests([pod(`pod-${ip.at(-1)}`, ip)])
      await publisher.update(merged.current)
    }
    expect(refused.mock.calls.length).toBeGreaterThanOrEqual(3)
    expect(errors).toHaveLength(1)
    refused.mockRestore()
    pods.applyManifests([pod('pod-4', '10.1.0.4')])
    await publisher.update(merged.current)
    const [slice] = server.store.list('endpointslices.discovery.k8s.io')
    expect(slice?.['endpoints']).toHaveLength(4)
  })
})
