import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { SharedMap } from '../base/shared-map.ts'
import { changedServices, type Snapshot } from '../model/snapshot.ts'
import { parseCidr } from '../net/cidr.ts'
import { MemorySource } from './memory.ts'
import { mergeSources } from './merge.ts'

const service = (name: string, spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: { ports: [{ port: 80 }], selector: { app: name }, ...spec },
})
const pod = (name: string, app: string, podIP: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', labels: { app } },
  status: { phase: 'Running', podIP },
})
const slice = (name: string, serviceName: string, ip: string) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': serviceName } },
  addressType: 'IPv4',
  ports: [{ port: 80 }],
  endpoints: [{ addresses: [ip] }],
})
const addresses = (snapshot: Snapshot, key: string) =>
  snapshot.slices.get(key)?.flatMap((slice) => slice.endpoints.map((endpoint) => endpoint.address))

function setUp(options: { allocate?: boolean; synced?: boolean } = {}) {
  const files = new MemorySource('files', { synced: options.synced ?? true })
  const pods = new MemorySource('own pods')
  const allocate = { serviceCIDRs: [parseCidr('10.96.0.0/16')] }
  const merged = mergeSources({ sources: [files, pods], log: silentLog, ...(options.allocate ? { allocate } : {}) })
  return { files, pods, merged }
}

describe('mergeSources()', () => {
  test('gives nothing before every source is synced, and then everything at once', () => {
    const { files, pods, merged } = setUp({ synced: false })
    const seen: Snapshot[] = []
    merged.subscribe((snapshot) => seen.push(snapshot))
    pods.applyManifests([pod('p', 'web', '10.1.0.1')])
    files.applyManifests([service('web')])
    expect([merged.synced, seen.length, merged.current.services.size]).toEqual([false, 0, 0])
    expect(merged.waitingFor).toEqual(['files'])
    files.markSynced()
    expect([merged.synced, seen.length]).toEqual([true, 1])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.1.0.1'])
  })

  test('calls a late listener with the present snapshot', () => {
    const { files, merged } = setUp()
    files.applyManifests([service('web')])
    const seen: Snapshot[] = []
    const stop = merged.subscribe((snapshot) => seen.push(snapshot))
    expect(seen).toEqual([merged.current])
    stop()
    files.applyManifests([service('db')])
    expect(seen).toHaveLength(1)
  })

  test('lets the slices that a source gives count instead of those made from pods', () => {
    const { files, pods, merged } = setUp()
    pods.applyManifests([pod('p', 'web', '10.1.0.1')])
    files.applyManifests([service('web'), slice('web-x', 'web', '10.9.9.9')])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.9.9.9'])
    files.update([], ['EndpointSlice shop/web-x'])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.1.0.1'])
  })

  test('makes no slices of Services whose source makes them itself', () => {
    const cluster = Object.assign(new MemorySource('cluster'), { makesSlices: true })
    const files = new MemorySource('files')
    const merged = mergeSources({ sources: [cluster, files], log: silentLog })
    cluster.applyManifests([service('web')])
    files.applyManifests([service('api'), pod('web-1', 'web', '10.1.0.1'), pod('api-1', 'api', '10.1.0.2')])
    expect(addresses(merged.current, 'shop/web')).toBeUndefined()
    expect(addresses(merged.current, 'shop/api')).toEqual(['10.1.0.2'])
    cluster.update([], ['Service shop/web'])
    files.applyManifests([service('web')])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.1.0.1'])
  })

  test('gives endpoints the zones of their nodes, also when these change', () => {
    const { files, merged } = setUp()
    const node = (zone: string) => ({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': zone } },
    })
    const onNode = { ...pod('web-1', 'web', '10.1.0.1'), spec: { nodeName: 'n1' } }
    const zones = () =>
      merged.current.slices.get('shop/web')?.flatMap(({ endpoints }) => endpoints.map(({ zone }) => zone))
    files.applyManifests([service('web'), onNode])
    expect(zones()).toEqual([undefined])
    files.applyManifests([node('a')])
    expect(zones()).toEqual(['a'])
    files.applyManifests([node('b')])
    expect(zones()).toEqual(['b'])
  })

  test('puts the slices of one Service from two sources together', () => {
    const { files, pods, merged } = setUp()
    files.applyManifests([slice('a', 'web', '10.1.0.1')])
    pods.applyManifests([slice('b', 'web', '10.1.0.2')])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.1.0.1', '10.1.0.2'])
  })

  test('takes a slice of one name from the first source, and reports the other', () => {
    const { files, pods, merged } = setUp()
    pods.applyManifests([slice('a', 'web', '10.1.0.2'), slice('b', 'web', '10.1.0.3')])
    files.applyManifests([slice('a', 'web', '10.1.0.1')])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.1.0.1', '10.1.0.3'])
    expect(merged.problems).toMatchObject([{ file: 'own pods', object: 'EndpointSlice shop/a' }])
    files.update([], ['EndpointSlice shop/a'])
    expect(addresses(merged.current, 'shop/web')).toEqual(['10.1.0.2', '10.1.0.3'])
    expect(merged.problems).toEqual([])
  })

  test('takes the first source where two have one object, and reports the other', () => {
    const { files, pods, merged } = setUp()
    pods.applyManifests([service('web', { clusterIP: '10.96.0.2' })])
    files.applyManifests([service('web', { clusterIP: '10.96.0.1' })])
    expect(merged.current.services.get('shop/web')?.clusterIPs).toEqual(['10.96.0.1'])
    expect(merged.problems).toMatchObject([{ file: 'own pods', object: 'Service shop/web' }])
    files.update([], ['Service shop/web'])
    expect(merged.current.services.get('shop/web')?.clusterIPs).toEqual(['10.96.0.2'])
    expect(merged.problems).toEqual([])
  })

  test('gives addresses only when asked to', () => {
    const manifests = [service('web'), service('db', { clusterIP: '10.96.0.1' })]
    const without = setUp()
    without.files.applyManifests(manifests)
    expect(without.merged.current.services.get('shop/web')?.clusterIPs).toEqual([])
    const { files, merged } = setUp({ allocate: true })
    files.applyManifests(manifests)
    expect(merged.current.services.get('shop/web')?.clusterIPs).toHaveLength(1)
    files.update([], ['Service shop/web'])
    expect(merged.current.services.has('shop/web')).toBe(false)
  })

  test('says which node port a Service cannot have, as long as it asks for it', () => {
    const { files, merged } = setUp({ allocate: true })
    const asking = (nodePort: number) => ({
      ...service('web'),
      spec: { type: 'NodePort', ports: [{ port: 80, nodePort }] },
    })
    files.applyManifests([asking(22)])
    expect(merged.problems.map(({ object, reason }) => `${object}: ${reason}`)).toEqual([
      expect.stringMatching(/^Service shop\/web: spec\.ports\[0\]\.nodePort: 22 is not in the range/),
    ])
    files.applyManifests([asking(30_022)])
    expect(merged.problems).toEqual([])
  })

  test('changes one key for one pod among many Services', () => {
    const { files, pods, merged } = setUp({ allocate: true })
    files.applyManifests(Array.from({ length: 500 }, (_, i) => service(`s${i}`)))
    pods.applyManifests(Array.from({ length: 500 }, (_, i) => pod(`p${i}`, `s${i}`, `10.1.${i >> 8}.${i & 255}`)))
    const before = merged.current
    pods.applyManifests([pod('p7', 's7', '10.2.0.1')])
    expect([...changedServices(before, merged.current)]).toEqual(['shop/s7'])
    expect(SharedMap.changedKeys(before.services, merged.current.services).size).toBe(0)
    expect(addresses(merged.current, 'shop/s7')).toEqual(['10.2.0.1'])
  })

  test('stays silent when a source says the same again', () => {
    const { files, merged } = setUp()
    files.applyManifests([service('web')])
    let calls = -1
    merged.subscribe(() => calls++)
    files.update([])
    expect(calls).toBe(0)
  })
})
