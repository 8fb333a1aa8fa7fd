import { mkdtempSync, rmSync, statSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { ApiServer } from './api-server.ts'
import { openCredentials, writeKubeconfig } from './credentials.ts'

const claims = {
  serviceCIDRs: [parseCidr('10.96.0.0/24'), parseCidr('fd00:96::/120')],
  loadBalancerCIDRs: [parseCidr('192.0.2.0/28')],
}

/** What answers have, as far as the tests look at it. */
interface ShownBody {
  readonly kind: string
  readonly message: string
  readonly metadata: {
    readonly name: string
    readonly uid: string
    readonly resourceVersion: string
    readonly continue: string
    readonly labels: object
  }
  readonly spec: {
    readonly clusterIP: string
    readonly clusterIPs: readonly string[]
    readonly healthCheckNodePort: number
    readonly ports: readonly { readonly nodePort: number }[]
  }
  readonly status: { readonly phase: string; readonly loadBalancer: { readonly ingress: readonly object[] } }
  readonly details: { readonly causes: readonly { readonly field: string }[] }
  readonly items: readonly ShownBody[]
  readonly rows: readonly { readonly cells: readonly unknown[] }[]
}

interface Answer {
  readonly status: number
  readonly body: ShownBody
}

async function openApi(file = ':memory:'): Promise<{ call: Caller; url: string; server: ApiServer } & AsyncDisposable> {
  const server = await ApiServer.open({ file, claims, clock: systemClock, log: silentLog, version: 'test' })
  const listener = server.createListener(() => 'admin')
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`
  const call: Caller = async (method, path, body, headers = {}) => {
    const type = { 'content-type': 'application/json', ...headers }
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const response = await fetch(url + path, { method, headers: type, ...(body !== undefined && { body: text }) })
    const answer = await response.text()
    return { status: response.status, body: JSON.parse(answer) as ShownBody }
  }
  return {
    call,
    url,
    server,
    async [Symbol.asyncDispose]() {
      server[Symbol.dispose]()
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}
type Caller = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>

const services = '/api/v1/namespaces/default/services'
const web = (spec: object = {}, name = 'web'): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { selector: { app: 'web' }, ports: [{ port: 80 }], ...spec },
})
const patchTypes = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
}

describe('ApiServer', () => {
  test('gives a Service its defaults and an address', async () => {
    await using api = await openApi()
    const { status, body } = await api.call('POST', services, web())
    expect(status).toBe(201)
    expect(body.spec).toMatchObject({
      type: 'ClusterIP',
      sessionAffinity: 'None',
      internalTrafficPolicy: 'Cluster',
      ipFamilyPolicy: 'SingleStack',
      ipFamilies: ['IPv4'],
      ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }],
    })
    expect(body.spec.clusterIP).toMatch(/^10\.96\.0\.\d+$/)
    expect(body.spec.clusterIPs).toEqual([body.spec.clusterIP])
    expect(body.metadata.uid).toMatch(/^[0-9a-f-]{36}$/)
  })

  test.each([
    ['a port out of range', web({ ports: [{ port: 70_000 }] }), 422, 'spec.ports[0].port'],
    ['no port', web({ ports: [] }), 422, 'spec.ports: Required value'],
    ['a name that is none', web({}, 'Web_1'), 422, 'RFC 1123'],
    ['an address that is taken', web({ clusterIP: '10.96.0.50' }), 422, 'provided IP is already allocated'],
    ['an address out of range', web({ clusterIP: '10.1.2.3' }), 422, 'not in the valid range'],
    ['a node port that is taken', web({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }), 422, 'already'],
    ['a node port out of range', web({ type: 'NodePort', ports: [{ port: 80, nodePort: 22 }] }), 422, '30000-32767'],
    [
      'a node port without its type',
      web({ ports: [{ port: 80, nodePort: 30_081 }] }),
      422,
      "when `type` is 'ClusterIP'",
    ],
    ['a text for a number', web({ ports: [{ port: '80' }] }), 400, 'spec.ports[0].port'],
    ['another kind', { ...web(), kind: 'Pod' }, 400, 'Pod'],
    ['the namespace of another path', { ...web(), metadata: { name: 'web', namespace: 'x' } }, 400, 'namespace'],
    ['a version of its own', { ...web(), metadata: { name: 'web', resourceVersion: '5' } }, 400, 'resourceVersion'],
    ['a name that is there', web({}, 'first'), 409, 'already exists'],
    ['what is no object', [], 400, 'object'],
    ['what is no JSON', '{"a', 400, 'JSON'],
    ['what is nested too deep', `{"metadata":${'['.repeat(500)}${']'.repeat(500)}}`, 400, 'nested'],
  ])('refuses %s', async (_what, body, status, message) => {
    await using api = await openApi()
    const first = { clusterIP: '10.96.0.50', type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }
    await api.call('POST', services, web(first, 'first'))
    const answer = await api.call('POST', services, body)
    expect(answer.status).toBe(status)
    expect(answer.body).toMatchObject({ kind: 'Status', code: status })
    expect(answer.body.message).toContain(message)
  })

  test('keeps addresses over updates, gives ports back with the type, and refuses another address', async () => {
    await using api = await openApi()
    const { body: first } = await api.call('POST', services, web({ type: 'NodePort' }))
    const port = first.spec.ports[0]?.nodePort
    const { body: second } = await api.call('PUT', `${services}/web`, web({ type: 'NodePort', selector: { a: 'b' } }))
    expect(second.spec).toMatchObject({ clusterIP: first.spec.clusterIP, ports: [{ nodePort: port }] })
    const moved = await api.call('PUT', `${services}/web`, web({ clusterIP: '10.96.0.77' }))
    expect(moved.body.message).toContain('may not change once set')
    const { body: third } = await api.call('PUT', `${services}/web`, {
      ...second,
      spec: { ...second.spec, type: 'ClusterIP' },
    })
    expect(third.spec.ports[0]).not.toHaveProperty('nodePort')
    const other = web({ type: 'NodePort', ports: [{ port: 80, nodePort: port }] }, 'other')
    expect((await api.call('POST', services, other)).status).toBe(201)
  })

  test('gives type LoadBalancer two families, a health port and outside addresses', async () => {
    await using api = await openApi()
    const wish = web({ type: 'LoadBalancer', externalTrafficPolicy: 'Local', ipFamilyPolicy: 'PreferDualStack' })
    const { body } = await api.call('POST', services, wish)
    expect(body.spec.clusterIPs).toHaveLength(2)
    expect(body.spec.healthCheckNodePort).toBeGreaterThanOrEqual(30_000)
    expect(body.spec.healthCheckNodePort).not.toBe(body.spec.ports[0]?.nodePort)
    expect(body.status.loadBalancer.ingress).toHaveLength(1)
  })

  const specs = {
    ClusterIP: { type: 'ClusterIP' },
    NodePort: { type: 'NodePort' },
    LoadBalancer: { type: 'LoadBalancer' },
    ExternalName: { type: 'ExternalName', externalName: 'example.org' },
    headless: { clusterIP: 'None' },
  }
  const kinds = Object.keys(specs) as (keyof typeof specs)[]
  // Only ExternalName has no cluster IP to begin with; a headless one without a word about it stays headless.
  const refused = new Set([
    'ClusterIP headless',
    'NodePort headless',
    'LoadBalancer headless',
    'headless NodePort',
    'headless LoadBalancer',
  ])
  test.each(kinds.flatMap((from) => kinds.filter((to) => to !== from).map((to) => [from, to] as const)))(
    'changes a Service from %s to %s as Kubernetes does, and nothing leaks',
    async (from, to) => {
      await using api = await openApi()
      expect((await api.call('POST', services, web(specs[from]))).status).toBe(201)
      const { status } = await api.call('PUT', `${services}/web`, web(specs[to]))
      expect(status).toBe(refused.has(`${from} ${to}`) ? 422 : 200)
      const { body } = await api.call('GET', `${services}/web`)
      const now = status === 200 ? to : from
      const headless = now === 'headless' || (from === 'headless' && to === 'ClusterIP')
      const ips = (body.spec.clusterIPs ?? []).filter((ip) => ip !== 'None')
      const ports = body.spec.ports.flatMap(({ nodePort }) => nodePort ?? [])
      expect(ips).toHaveLength(now === 'ExternalName' || headless ? 0 : 1)
      expect(ports).toHaveLength(now === 'NodePort' || now === 'LoadBalancer' ? 1 : 0)
      expect(body.status.loadBalancer.ingress ?? []).toHaveLength(now === 'LoadBalancer' ? 1 : 0)
      const { claims: index } = api.server
      const range = (first: number, count: number): number[] => Array.from({ length: count }, (_, i) => first + i)
      expect(range(30_000, 2768).filter((port) => index.portOwnerOf(port, ''))).toEqual(ports)
      const held = range(1, 254).map((last) => parseIp(`10.96.0.${last}`))
      expect(held.filter((ip) => index.ownerOf(ip, ''))).toEqual(ips)
      const outside = range(1, 14).map((last) => parseIp(`192.0.2.${last}`))
      expect(outside.filter((ip) => index.ownerOf(ip, ''))).toHaveLength(now === 'LoadBalancer' ? 1 : 0)
    },
  )

  test('gives nobody what Services of other sources have, until they go', async () => {
    await using api = await openApi()
    const foreign = { addresses: [parseIp('10.96.0.80')], nodePorts: [30_080] }
    api.server.claims.setForeign('shop/file', foreign)
    const wish = web({ type: 'NodePort', clusterIP: '10.96.0.80' })
    expect(await api.call('POST', services, wish)).toMatchObject({
      status: 422,
      body: { message: expect.stringContaining('10.96.0.80: provided IP is already allocated') as string },
    })
    const port = web({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] })
    expect((await api.call('POST', services, port)).body.message).toContain('30080: provided port is already allocated')
    api.server.claims.setForeign('shop/file', { ...foreign, nodePorts: [] })
    expect((await api.call('POST', services, port)).status).toBe(201)
    api.server.claims.setForeign('shop/file', undefined)
    expect((await api.call('POST', services, web({ type: 'NodePort', clusterIP: '10.96.0.80' }, 'b'))).status).toBe(201)
  })

  test('has after a restart all that balancers were given, and gives none of it twice', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'api-'))
    const file = join(folder, 'objects.db')
    const wish = (name: string) => web({ type: 'LoadBalancer', externalTrafficPolicy: 'Local' }, name)
    try {
      let first: ShownBody
      {
        await using api = await openApi(file)
        first = (await api.call('POST', services, wish('a'))).body
      }
      await using api = await openApi(file)
      const { body: second } = await api.call('POST', services, wish('b'))
      const all = ({ spec, status }: ShownBody): unknown[] => [
        ...spec.clusterIPs,
        ...spec.ports.map(({ nodePort }) => nodePort),
        spec.healthCheckNodePort,
        ...status.loadBalancer.ingress.map((one) => (one as { ip: string }).ip),
      ]
      expect(all((await api.call('GET', `${services}/a`)).body)).toEqual(all(first))
      expect(new Set([...all(first), ...all(second)]).size).toBe(all(first).length + all(second).length)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('refuses a write of an old version with 409', async () => {
    await using api = await openApi()
    const { body: old } = await api.call('POST', services, web())
    await api.call(
      'PATCH',
      `${services}/web`,
      { metadata: { labels: { a: 'b' } } },
      { 'content-type': patchTypes.merge },
    )
    const answer = await api.call('PUT', `${services}/web`, old)
    expect(answer).toMatchObject({ status: 409, body: { reason: 'Conflict' } })
  })

  test('writes nothing when nothing changes', async () => {
    await using api = await openApi()
    const { body } = await api.call('POST', services, web())
    const again = await api.call('PUT', `${services}/web`, body)
    expect(again.body.metadata.resourceVersion).toBe(body.metadata.resourceVersion)
  })

  test('follows server-side apply: owners, conflicts, force, and fields that are let go', async () => {
    await using api = await openApi()
    const apply = (manager: string, object: object, force = false): Promise<Answer> =>
      api.call('PATCH', `${services}/web?fieldManager=${manager}&force=${force}`, object, {
        'content-type': patchTypes.apply,
      })
    const labelled = (labels: object, port: number): object => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', labels },
      spec: { ports: [{ port: 80, targetPort: port }] },
    })
    expect((await apply('one', labelled({ a: '1', b: '2' }, 8080))).status).toBe(201)
    const conflict = await apply('two', labelled({ c: '3' }, 9090))
    expect(conflict.status).toBe(409)
    expect(conflict.body.details.causes[0]?.field).toBe('.spec.ports[port=80,protocol="TCP"].targetPort')
    const forced = await apply('two', labelled({ c: '3' }, 9090), true)
    expect(forced.body).toMatchObject({
      metadata: { labels: { a: '1', b: '2', c: '3' } },
      spec: { ports: [{ targetPort: 9090 }] },
    })
    const one = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', labels: { a: '1' } } }
    const less = await apply('one', one)
    expect(less.body.metadata.labels).toEqual({ a: '1', c: '3' })
    expect(less.body.spec.ports).toHaveLength(1)
    const same = await apply('one', one)
    expect(same.body.metadata.resourceVersion).toBe(less.body.metadata.resourceVersion)
  })

  test('runs a dry run to its end and keeps nothing of it', async () => {
    await using api = await openApi()
    const dry = await api.call('POST', `${services}?dryRun=All`, web({ clusterIP: '10.96.0.9' }))
    expect(dry).toMatchObject({ status: 201, body: { spec: { clusterIP: '10.96.0.9' } } })
    expect((await api.call('GET', `${services}/web`)).status).toBe(404)
    expect((await api.call('POST', services, web({ clusterIP: '10.96.0.9' }, 'other'))).status).toBe(201)
  })

  test('refuses unknown fields when asked to, and leaves them out otherwise', async () => {
    await using api = await openApi()
    const typo = web({ prots: [] })
    const strict = await api.call('POST', `${services}?fieldValidation=Strict`, typo)
    expect(strict.body.message).toContain('unknown field "spec.prots"')
    const { body } = await api.call('POST', services, typo)
    expect(body.spec).not.toHaveProperty('prots')
  })

  test('removes a namespace with all that is in it, once finalizers are gone', async () => {
    await using api = await openApi()
    await api.call('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } })
    const inShop = '/api/v1/namespaces/shop/services'
    await api.call('POST', inShop, { ...web(), metadata: { name: 'web', finalizers: ['example.org/wait'] } })
    await api.call('POST', inShop, web({}, 'other'))
    await api.call('DELETE', '/api/v1/namespaces/shop')
    expect((await api.call('GET', `${inShop}/other`)).status).toBe(404)
    expect((await api.call('GET', '/api/v1/namespaces/shop')).body.status.phase).toBe('Terminating')
    expect((await api.call('POST', inShop, web({}, 'late'))).status).toBe(403)
    const release = { metadata: { finalizers: null } }
    await api.call('PATCH', `${inShop}/web`, release, { 'content-type': patchTypes.merge })
    expect((await api.call('GET', '/api/v1/namespaces/shop')).status).toBe(404)
  })

  test('lists by selectors and in pages of one revision', async () => {
    await using api = await openApi()
    for (const name of ['a', 'b', 'c']) {
      await api.call('POST', services, {
        ...web({}, name),
        metadata: { name, labels: { tier: name === 'b' ? 'x' : 'y' } },
      })
    }
    const names = ({ body }: Answer): string[] => body.items.map((item) => item.metadata.name)
    expect(names(await api.call('GET', '/api/v1/services?labelSelector=tier%20notin%20(x)'))).toEqual(['a', 'c'])
    expect(names(await api.call('GET', `${services}?fieldSelector=metadata.name%3Db`))).toEqual(['b'])
    const first = await api.call('GET', `${services}?limit=2`)
    await api.call('DELETE', `${services}/c`)
    const rest = await api.call('GET', `${services}?limit=2&continue=${first.body.metadata.continue}`)
    expect([...names(first), ...names(rest)]).toEqual(['a', 'b', 'c'])
    expect(rest.body.metadata.resourceVersion).toBe(first.body.metadata.resourceVersion)
    expect((await api.call('GET', `${services}?continue=${crypto.randomUUID()}`)).status).toBe(410)
  })

  test('sends a watcher what there is, a bookmark, and each change of its selection', async () => {
    await using api = await openApi()
    await api.call('POST', services, { ...web({}, 'a'), metadata: { name: 'a', labels: { on: 'yes' } } })
    const query = 'watch=1&sendInitialEvents=true&allowWatchBookmarks=true&labelSelector=on%3Dyes'
    const events = watchLines(`${api.url}${services}?${query}`)
    expect(await events.next()).toMatchObject({ value: { type: 'ADDED', object: { metadata: { name: 'a' } } } })
    expect(await events.next()).toMatchObject({
      value: { type: 'BOOKMARK', object: { metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } } },
    })
    await api.call('POST', services, web({}, 'b'))
    const label = (on: string | null): Promise<Answer> =>
      api.call('PATCH', `${services}/b`, { metadata: { labels: { on } } }, { 'content-type': patchTypes.merge })
    await label('yes')
    expect(await events.next()).toMatchObject({ value: { type: 'ADDED', object: { metadata: { name: 'b' } } } })
    const { body } = await label(null)
    expect(await events.next()).toMatchObject({
      value: { type: 'DELETED', object: { metadata: { name: 'b', resourceVersion: body.metadata.resourceVersion } } },
    })
    await events.return(undefined)
  })

  test('resumes a watch after a revision, and says 410 when it is not known', async () => {
    await using api = await openApi()
    const { body } = await api.call('POST', services, web({}, 'a'))
    await api.call('POST', services, web({}, 'b'))
    const watch = (version: string) => watchLines(`${api.url}${services}?watch=1&resourceVersion=${version}`)
    const events = watch(body.metadata.resourceVersion)
    expect(await events.next()).toMatchObject({ value: { type: 'ADDED', object: { metadata: { name: 'b' } } } })
    await events.return(undefined)
    expect(await watch('9999').next()).toMatchObject({
      value: { type: 'ERROR', object: { code: 410, reason: 'Expired' } },
    })
  })

  test('has after a restart what it acknowledged, with its addresses', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'api-'))
    try {
      const file = join(folder, 'objects.db')
      const write = async (): Promise<Answer> => {
        await using api = await openApi(file)
        return await api.call('POST', services, web({ type: 'NodePort' }))
      }
      const { body: written } = await write()
      expect(statSync(file).mode & 0o777).toBe(0o600)
      await using again = await openApi(file)
      expect((await again.call('GET', `${services}/web`)).body).toEqual(written)
      const taken = await again.call('POST', services, web({ clusterIP: written.spec.clusterIP }, 'thief'))
      expect(taken.body.message).toContain('already allocated')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('resumes watches after a restart, where nothing of their kind changed since', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'api-'))
    try {
      const file = join(folder, 'objects.db')
      const before = await openApi(file)
      const { body } = await before.call('POST', services, web({}, 'a'))
      await before.call('DELETE', `${services}/a`)
      const { body: namespace } = await before.call('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } })
      await before[Symbol.asyncDispose]()
      await using api = await openApi(file)
      const missed = watchLines(`${api.url}${services}?watch=1&resourceVersion=${body.metadata.resourceVersion}`)
      expect(await missed.next()).toMatchObject({ value: { type: 'ERROR', object: { code: 410 } } })
      const version = Number(namespace.metadata.resourceVersion) - 1
      const events = watchLines(`${api.url}${services}?watch=1&resourceVersion=${version}`)
      const next = events.next()
      await api.call('POST', services, web({}, 'b'))
      expect(await next).toMatchObject({ value: { type: 'ADDED', object: { metadata: { name: 'b' } } } })
      await events.return(undefined)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('writes a table for kubectl', async () => {
    await using api = await openApi()
    await api.call(
      'POST',
      services,
      web({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_000 }], clusterIP: '10.96.0.7' }),
    )
    const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'
    const { body } = await api.call('GET', services, undefined, { accept })
    expect(body).toMatchObject({ kind: 'Table' })
    expect(body.rows[0]?.cells.slice(0, 5)).toEqual(['web', 'NodePort', '10.96.0.7', '<none>', '80:30000/TCP'])
  })

  test.each([
    ['GET', '/api/v1/namespaces/default/services/..%2f..', 404],
    ['GET', '/api/v1/namespaces//services', 404],
    ['GET', '/apis/nothing/v1', 404],
    ['GET', '/api/v1/%zz', 404],
    ['POST', '/api/v1/namespaces/default/services/web', 405],
    ['POST', '/api/v1/namespaces/none/services', 404],
    ['GET', '/api/v1/services?labelSelector=%3D%3D', 400],
    ['GET', '/api/v1/services?fieldSelector=spec.nothing%3Da', 400],
  ])('answers %s %s with %i', async (method, path, status) => {
    await using api = await openApi()
    expect((await api.call(method, path, method === 'POST' ? web() : undefined)).status).toBe(status)
  })

  test.each([
    ['an oversized body', Buffer.alloc((3 << 20) + 1, 0x20), 'application/json', 413],
    ['bytes that are no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), 'application/json', 400],
    ['YAML whose aliases grow without end', aliasBomb(), 'application/yaml', 413],
    ['another media type', Buffer.from('{}'), 'text/plain', 415],
    [
      'protobuf of an unknown kind',
      Buffer.from('6b387300 0a090a02763112034a6f62'.replace(' ', ''), 'hex'),
      'application/vnd.kubernetes.protobuf',
      415,
    ],
    ['protobuf that is cut off', Buffer.from('6b3873000aff', 'hex'), 'application/vnd.kubernetes.protobuf', 400],
  ])('refuses %s and goes on', async (_what, body, type, status) => {
    await using api = await openApi()
    const headers = { 'content-type': type }
    const response = await fetch(api.url + services, { method: 'POST', body: new Uint8Array(body), headers })
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ kind: 'Status', code: status })
    expect((await api.call('POST', services, web())).status).toBe(201)
  })

  test('knows its clients by their tokens, over TLS that the kubeconfig trusts', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'api-'))
    const server = await ApiServer.open({
      file: ':memory:',
      claims,
      clock: systemClock,
      log: silentLog,
      version: 'test',
    })
    const options = { hosts: ['127.0.0.1', '::1', 'localhost'], now: new Date() }
    const credentials = openCredentials(folder, options)
    const listener = server.createListener((request) => credentials.authenticate(request), credentials.server)
    try {
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
      const { port } = listener.address() as AddressInfo
      const call = (method: string, path: string, token?: string): Promise<number> =>
        new Promise((resolve, reject) => {
          const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
          const from = {
            host: '127.0.0.1',
            port,
            method,
            path,
            headers,
            ca: credentials.authority,
            agent: false,
          }
          const request = httpsRequest(from, (response) => resolve(response.resume().statusCode ?? 0))
          request.on('error', reject).end()
        })
      const { tokens } = credentials
      expect(await call('GET', '/api')).toBe(401)
      expect(await call('GET', '/healthz')).toBe(200)
      expect(await call('GET', '/api/v1/services', 'wrong')).toBe(401)
      expect(await call('GET', '/api/v1/services', tokens['read-only'])).toBe(200)
      expect(await call('DELETE', `${services}/web`, tokens['read-only'])).toBe(403)
      expect(await call('DELETE', `${services}/web`, tokens.admin)).toBe(404)
      expect(openCredentials(folder, options)).toMatchObject({ tokens, server: credentials.server })
      const kubeconfig = join(folder, 'kubeconfig')
      writeKubeconfig(kubeconfig, { url: 'https://127.0.0.1', authority: credentials.authority, token: 'a' })
      expect(statSync(kubeconfig).mode & 0o777).toBe(0o600)
    } finally {
      listener.closeAllConnections()
      await new Promise((resolve) => listener.close(resolve))
      server[Symbol.dispose]()
      rmSync(folder, { recursive: true })
    }
  })
})

/** Ten levels, each ten times the one before. */
function aliasBomb(): Buffer {
  const levels = Array.from({ length: 9 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(', ')}]`)
  return Buffer.from(['l0: &l0 [x]', ...levels].join('\n'))
}

async function* watchLines(url: string): AsyncGenerator<unknown, void> {
  const stop = new AbortController()
  const response = await fetch(url, { signal: stop.signal })
  let text = ''
  try {
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        yield JSON.parse(text.slice(0, end))
        text = text.slice(end + 1)
      }
    }
  } finally {
    stop.abort()
  }
}
