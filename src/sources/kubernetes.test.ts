import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { silentLog, type Log } from '../base/log.ts'
import { AccessError } from '../kubernetes/api-error.ts'
import { FakeApiServer, sendStatus } from '../kubernetes/fake-api-server.ts'
import type { ReflectorTimes } from '../kubernetes/reflector-types.ts'
import { followKubernetes, type KubernetesSource } from './kubernetes.ts'
import type { ClusterView } from './kubernetes-resources.ts'

const services = '/api/v1/services'
const slices = '/apis/discovery.k8s.io/v1/endpointslices'
const nodes = '/api/v1/nodes'
const optional = [
  '/apis/networking.k8s.io/v1/servicecidrs',
  '/api/v1/namespaces',
  '/apis/fairlead.dev/v1alpha1/networks',
]

let server: FakeApiServer
let folder: string
let source: KubernetesSource | undefined

beforeEach(async () => {
  server = await FakeApiServer.start()
  folder = mkdtempSync(join(tmpdir(), 'kubernetes-source-'))
  writeFileSync(
    join(folder, 'kubeconfig'),
    JSON.stringify({
      'current-context': 'x',
      contexts: [{ name: 'x', context: { cluster: 'c' } }],
      clusters: [{ name: 'c', cluster: { server: `http://${server.address}` } }],
    }),
  )
  putService('web', '10.96.0.7')
  putService('api', '10.96.0.8')
  putSlice('web', ['10.0.0.1', '10.0.0.2'])
  server.put(nodes, {
    metadata: { name: 'node-1' },
    status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] },
  })
})

afterEach(async () => {
  source?.[Symbol.dispose]()
  source = undefined
  await server[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

function putService(name: string, clusterIP: string): void {
  const ports = [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }]
  const spec = { type: 'ClusterIP', clusterIP, clusterIPs: [clusterIP], ports, selector: { app: name } }
  const managedFields = [{ manager: 'kubectl', fieldsV1: { 'f:spec': {} } }]
  server.put(services, { metadata: { name, namespace: 'shop', managedFields }, spec, status: { loadBalancer: {} } })
}

function putSlice(service: string, addresses: readonly string[]): void {
  server.put(slices, {
    metadata: {
      name: `${service}-x1`,
      namespace: 'shop',
      labels: { 'kubernetes.io/service-name': service },
    },
    addressType: 'IPv4',
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  })
}

async function follow(
  options: { view?: ClusterView; times?: ReflectorTimes; log?: Log } = {},
): Promise<KubernetesSource> {
  return (source = await followKubernetes({
    location: { kind: 'kubeconfig', path: join(folder, 'kubeconfig') },
    view: options.view ?? 'proxy',
    nodeName: 'node-1',
    env: {},
    userAgent: 'fairlead/test',
    log: options.log ?? silentLog,
    times: { backoff: { firstMs: 5, maxMs: 40 }, ...options.times },
  }))
}

async function synced(): Promise<void> {
  await vi.waitFor(() => expect(source?.current.synced).toBe(true), { interval: 5 })
  // Each resource has its watch.
  await vi.waitFor(() => expect(server.watches.size).toBe(source?.status().length), { interval: 5 })
}

function endpoints(service: string): readonly string[] {
  const list = source?.current.snapshot.slices.get(`shop/${service}`) ?? []
  return list.flatMap((slice) => slice.endpoints.map(({ address }) => address))
}

describe('followKubernetes', () => {
  test('makes a snapshot of what is there, and follows it', async () => {
    await follow()
    expect(source?.current.synced).toBe(false)
    await synced()
    expect([...(source?.current.snapshot.services.keys() ?? [])].toSorted()).toEqual(['shop/api', 'shop/web'])
    expect(source?.current.snapshot.services.get('shop/web')?.clusterIPs).toEqual(['10.96.0.7'])
    expect(endpoints('web')).toEqual(['10.0.0.1', '10.0.0.2'])
    expect(source?.current.snapshot.nodes.get('node-1')?.addresses).toEqual(['192.0.2.1'])
    putSlice('web', ['10.0.0.3'])
    server.delete(services, 'shop/api')
    await vi.waitFor(() => expect(endpoints('web')).toEqual(['10.0.0.3']))
    await vi.waitFor(() => expect(source?.current.snapshot.services.size).toBe(1))
  })

  test('asks for what kube-proxy asks for, or for all', async () => {
    await follow()
    await synced()
    const asked = new Map(server.requests.map((url) => [url.pathname, url.searchParams]))
    expect([...asked.keys()].toSorted()).toEqual([nodes, services, slices, optional[0]])
    expect(asked.get(services)?.get('labelSelector')).toBe('!service.kubernetes.io/service-proxy-name')
    expect(asked.get(services)?.get('fieldSelector')).toBe('spec.clusterIP!=None')
    expect(asked.get(slices)?.get('labelSelector')).toBe('!service.kubernetes.io/headless')
    expect(asked.get(nodes)?.get('fieldSelector')).toBe('metadata.name=node-1')
    source?.[Symbol.dispose]()
    server.requests.length = 0
    await follow({ view: 'all' })
    await synced()
    expect(new Set(server.requests.map(({ pathname }) => pathname))).toEqual(
      new Set([services, slices, nodes, ...optional]),
    )
  })

  test('is not complete before every kind is, and does without kinds that the server does not have', async () => {
    const busy = new Set([slices])
    server.faults.push((url, response) => {
      if (busy.has(url.pathname)) return sendStatus(response, 503, 'Busy', 'not yet')
      return optional.includes(url.pathname) && sendStatus(response, 404, 'NotFound', 'no such resource')
    })
    await follow({ view: 'all' })
    await vi.waitFor(() => expect(source?.current.problems).toHaveLength(1))
    await vi.waitFor(() => expect(source?.status().filter((resource) => resource.synced)).toHaveLength(5))
    expect(source?.current.problems).toMatchObject([
      { object: 'endpointslices', reason: 'cannot be followed: the API server answers 503: not yet' },
    ])
    expect(source?.current.synced).toBe(false)
    busy.clear()
    await vi.waitFor(() => expect(source?.current.synced).toBe(true))
    await vi.waitFor(() => expect(source?.current.problems).toEqual([]))
  })

  test('keeps everything while the server is away', async () => {
    await follow()
    await synced()
    const before = source?.current.snapshot
    server.faults.push((_, response) => sendStatus(response, 500, 'InternalError', 'etcd is away'))
    server.cut()
    await vi.waitFor(() => expect(source?.current.problems).toHaveLength(4))
    expect(source?.current.snapshot).toBe(before)
    expect(source?.current.synced).toBe(true)
    server.faults.length = 0
    putService('late', '10.96.0.9')
    await vi.waitFor(() => expect(source?.current.snapshot.services.size).toBe(3))
  })

  test('changes nothing when a new list has what is known', async () => {
    await follow()
    await synced()
    const before = source?.current.snapshot
    const listsBefore = source?.status().map(({ lists }) => lists)
    server.compact()
    server.version++
    server.compact()
    server.cut()
    await vi.waitFor(() =>
      expect(source?.status().map(({ lists }) => lists)).toEqual(listsBefore?.map((lists) => lists + 1)),
    )
    expect(source?.current.snapshot.services).toBe(before?.services)
    expect(source?.current.snapshot.slices).toBe(before?.slices)
  })

  test('keeps the last good version of an object that went wrong, and says what is wrong', async () => {
    await follow()
    await synced()
    putService('web', 'nonsense')
    await vi.waitFor(() => expect(source?.current.problems).toHaveLength(2))
    expect(source?.current.problems[0]).toMatchObject({ object: 'Service shop/web', path: 'spec.clusterIP' })
    expect(source?.current.snapshot.services.get('shop/web')?.clusterIPs).toEqual(['10.96.0.7'])
    putService('web', '10.96.0.77')
    await vi.waitFor(() => expect(source?.current.problems).toEqual([]))
    expect(source?.current.snapshot.services.get('shop/web')?.clusterIPs).toEqual(['10.96.0.77'])
  })

  test('ignores events that are given again, late', async () => {
    await follow()
    await synced()
    const old = { kind: 'Service', metadata: { name: 'web', namespace: 'shop', resourceVersion: '1' }, spec: {} }
    const watch = [...server.watches].find(({ url }) => url.pathname === services)
    watch?.response.write(`${JSON.stringify({ type: 'MODIFIED', object: old })}\n`)
    watch?.response.write(`${JSON.stringify({ type: 'DELETED', object: old })}\n`)
    putService('late', '10.96.0.9')
    await vi.waitFor(() => expect(source?.current.snapshot.services.size).toBe(3))
    expect(source?.current.snapshot.services.get('shop/web')?.clusterIPs).toEqual(['10.96.0.7'])
  })

  test('takes a deletion that comes with the version that the object had', async () => {
    await follow()
    await synced()
    const watch = [...server.watches].find(({ url }) => url.pathname === services)
    const [, version] = server.content(services)[0]?.split('@') ?? []
    const object = { metadata: { name: 'api', namespace: 'shop', resourceVersion: version } }
    watch?.response.write(`${JSON.stringify({ type: 'DELETED', object })}\n`)
    await vi.waitFor(() => expect(source?.current.snapshot.services.has('shop/api')).toBe(false))
  })

  test('tells how old what it knows is', async () => {
    await follow()
    await synced()
    const status = source?.status().find(({ resource }) => resource === 'services')
    expect(status).toMatchObject({ synced: true, connected: true, objects: 2, lists: 1, error: undefined })
    expect(status?.ageMs).toBeLessThan(5000)
  })

  test('throws for a kubeconfig that is missing or wrong', async () => {
    rmSync(join(folder, 'kubeconfig'))
    await expect(follow()).rejects.toThrow(AccessError)
    await expect(follow()).rejects.toThrow(`cannot read ${join(folder, 'kubeconfig')}: ENOENT`)
  })
})
