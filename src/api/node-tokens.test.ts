import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseNetwork } from '../net/cidr.ts'
import { ApiServer } from './api-server.ts'
import { openCredentials } from './credentials.ts'

interface Answer {
  readonly status: number
  readonly message: string
}

/** A server over TLS with three nodes' tokens. */
class TokenApi implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'node-tokens-'))
  readonly credentials = openCredentials(this.folder, { hosts: ['127.0.0.1'], now: new Date() })
  #server!: ApiServer
  #listener!: ReturnType<ApiServer['createListener']>

  static async open(): Promise<TokenApi> {
    const api = new TokenApi()
    const claims = { serviceCIDRs: [parseNetwork('10.96.0.0/24')], reserved: [], loadBalancerCIDRs: [] }
    const options = { file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' }
    api.#server = await ApiServer.open(options)
    const { credentials } = api
    api.#listener = api.#server.createListener((request) => credentials.authenticate(request), credentials.server)
    await new Promise<void>((resolve) => api.#listener.listen(0, '127.0.0.1', resolve))
    return api
  }

  issue(node: string): string {
    return this.credentials.nodes.issue(node, new Date())
  }

  call(token: string, method: string, path: string, body?: object): Promise<Answer> {
    const merge = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        { ...this.#target(token), method, path, headers: { ...bearer(token), 'content-type': merge } },
        (response) => {
          let text = ''
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
          response.on('end', () => {
            const { message = '' } = JSON.parse(text) as { message?: string }
            resolve({ status: response.statusCode ?? 0, message })
          })
        },
      )
      request.on('error', reject).end(body && JSON.stringify(body))
    })
  }

  /** Opens a watch; what it returns resolves when the server ends its connection. */
  async watch(token: string): Promise<{ readonly closed: Promise<void> }> {
    return await new Promise((resolve, reject) => {
      const path = '/api/v1/nodes?watch=1'
      const request = httpsRequest({ ...this.#target(token), path, headers: bearer(token) }, (response) => {
        response.resume().on('error', () => {})
        resolve({ closed: new Promise((done) => response.once('close', () => done())) })
      })
      request.on('error', reject).end()
    })
  }

  #target(_token: string): { host: string; port: number; ca: string; agent: false } {
    const { port } = this.#listener.address() as AddressInfo
    return { host: '127.0.0.1', port, ca: this.credentials.authority, agent: false }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.closeAllConnections()
    await new Promise((resolve) => this.#listener.close(resolve))
    this.#server[Symbol.dispose]()
    rmSync(this.folder, { recursive: true })
  }
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` }
}

const pods = '/api/v1/namespaces/default/pods'
const leases = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases'
const events = '/api/v1/namespaces/default/events'
const pod = (name: string, nodeName?: string): object => ({
  metadata: { name },
  spec: { ...(nodeName && { nodeName }), containers: [{ name: 'a' }] },
})
const event = (involvedObject: object): object => ({ metadata: { name: 'e.1' }, involvedObject })

test('NodeTokens are good for a node until another is used for the first time, and end its connections', async () => {
  await using api = await TokenApi.open()
  const first = api.issue('worker-1')
  const watch = await api.watch(first)
  expect((await api.call(first, 'POST', '/api/v1/nodes', { metadata: { name: 'worker-1' } })).status).toBe(201)
  const second = api.issue('worker-1')
  expect(api.credentials.nodes.list()).toMatchObject([{ node: 'worker-1', pending: true }])
  expect((await api.call(first, 'GET', '/api/v1/nodes')).status).toBe(200)
  expect((await api.call(second, 'GET', '/api/v1/nodes')).status).toBe(200)
  await watch.closed
  expect((await api.call(first, 'GET', '/api/v1/nodes')).status).toBe(401)
  expect(api.credentials.nodes.list()).toMatchObject([{ node: 'worker-1', pending: false }])

  // Another daemon reads the same from the disk, which has no token in it.
  const file = join(api.folder, 'node-tokens.json')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(readFileSync(file, 'utf8')).not.toContain(second)
  const again = openCredentials(api.folder, { hosts: ['127.0.0.1'], now: new Date() })
  expect(again.nodes.list()).toEqual(api.credentials.nodes.list())

  const last = await api.watch(second)
  expect(api.credentials.nodes.revoke('worker-1')).toBe(true)
  await last.closed
  expect((await api.call(second, 'GET', '/api/v1/nodes')).status).toBe(401)
  expect(api.credentials.nodes.revoke('worker-1')).toBe(false)
})

describe('a token of worker-1', () => {
  const cannot = (verb: string, resource: string, group: string, scope: string): string =>
    `User "system:node:worker-1" cannot ${verb} resource "${resource}" in API group "${group}" ${scope}`
  const inDefault = 'in the namespace "default"'

  test.each<[string, string, string, object | undefined, number, string]>([
    // What it may.
    ['reads all', 'GET', '/api/v1/services', undefined, 200, ''],
    ['makes its Node again', 'POST', '/api/v1/nodes', { metadata: { name: 'worker-1' } }, 409, 'already exists'],
    ['changes its Node', 'PATCH', '/api/v1/nodes/worker-1', { metadata: { labels: { a: 'b' } } }, 200, ''],
    ["changes its Node's status", 'PATCH', '/api/v1/nodes/worker-1/status', { status: { phase: 'x' } }, 200, ''],
    ['makes its Lease', 'POST', leases, { metadata: { name: 'worker-1' } }, 201, ''],
    ['makes a pod of its own', 'POST', pods, pod('new', 'worker-1'), 201, ''],
    ['says how its pod is', 'PATCH', `${pods}/mine/status`, { status: { phase: 'Running' } }, 200, ''],
    ['removes its pod', 'DELETE', `${pods}/mine`, undefined, 200, ''],
    ['tells of itself', 'POST', events, event({ kind: 'Node', name: 'worker-1', namespace: 'default' }), 201, ''],
    ['tells of its pod', 'POST', events, event({ kind: 'Pod', name: 'mine', namespace: 'default' }), 201, ''],
    // What it may not.
    [
      'makes another Node',
      'POST',
      '/api/v1/nodes',
      { metadata: { name: 'worker-3' } },
      403,
      'nodes "worker-3" is forbidden: node "worker-1" is not allowed to modify node "worker-3"',
    ],
    [
      'changes another Node',
      'PATCH',
      '/api/v1/nodes/worker-2/status',
      { status: {} },
      403,
      'nodes "worker-2" is forbidden: node "worker-1" is not allowed to modify node "worker-2"',
    ],
    [
      'removes its Node',
      'DELETE',
      '/api/v1/nodes/worker-1',
      undefined,
      403,
      `nodes "worker-1" is forbidden: ${cannot('delete', 'nodes', '', 'at the cluster scope')}`,
    ],
    [
      'gives itself a restricted label',
      'PATCH',
      '/api/v1/nodes/worker-1',
      { metadata: { labels: { 'node-restriction.kubernetes.io/pci': 'yes' } } },
      403,
      'nodes "worker-1" is forbidden: is not allowed to modify labels: node-restriction.kubernetes.io/pci',
    ],
    [
      'gives itself a restricted label of a subdomain',
      'PATCH',
      '/api/v1/nodes/worker-1',
      { metadata: { labels: { 'example.node-restriction.kubernetes.io/pci': 'yes' } } },
      403,
      'is not allowed to modify labels: example.node-restriction.kubernetes.io/pci',
    ],
    [
      'changes its taints',
      'PATCH',
      '/api/v1/nodes/worker-1',
      { spec: { taints: [{ key: 'a', effect: 'NoSchedule' }] } },
      403,
      'nodes "worker-1" is forbidden: node "worker-1" is not allowed to modify taints',
    ],
    [
      "makes another node's Lease",
      'POST',
      leases,
      { metadata: { name: 'worker-3' } },
      403,
      'can only access node lease with the same name as the requesting node',
    ],
    [
      "renews another node's Lease",
      'PATCH',
      `${leases}/worker-2`,
      { spec: { holderIdentity: 'worker-1' } },
      403,
      'leases.coordination.k8s.io "worker-2" is forbidden: User "system:node:worker-1" cannot patch',
    ],
    [
      'makes a pod of another node',
      'POST',
      pods,
      pod('new', 'worker-2'),
      403,
      'pods "new" is forbidden: node "worker-1" can only create pods with spec.nodeName set to itself',
    ],
    [
      'makes a pod of no node',
      'POST',
      pods,
      pod('new'),
      403,
      'pods "new" is forbidden: node "worker-1" can only create pods with spec.nodeName set to itself',
    ],
    [
      'says how the pod of another node is',
      'PATCH',
      `${pods}/theirs/status`,
      { status: { podIP: '10.0.0.1' } },
      403,
      'pods "theirs" is forbidden: node "worker-1" can only update pod status for pods with spec.nodeName set to itself',
    ],
    [
      'leads the clients of its pod into their own nodes',
      'PATCH',
      `${pods}/mine/status`,
      { status: { podIP: '127.0.0.1', podIPs: [{ ip: '127.0.0.1' }] } },
      422,
      '"127.0.0.1" cannot be an endpoint',
    ],
    [
      'removes the pod of another node',
      'DELETE',
      `${pods}/theirs`,
      undefined,
      403,
      'pods "theirs" is forbidden: node "worker-1" can only delete pods with spec.nodeName set to itself',
    ],
    ['removes its pod by its status', 'DELETE', `${pods}/mine/status`, undefined, 405, 'does not allow the method'],
    ['removes all pods', 'DELETE', pods, undefined, 403, cannot('deletecollection', 'pods', '', inDefault)],
    [
      'changes what its pod is',
      'PATCH',
      `${pods}/mine`,
      { metadata: { labels: { app: 'web' } } },
      403,
      `pods "mine" is forbidden: ${cannot('patch', 'pods', '', inDefault)}`,
    ],
    [
      'makes a Service',
      'POST',
      '/api/v1/namespaces/default/services',
      { metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } },
      403,
      `services is forbidden: ${cannot('create', 'services', '', inDefault)}`,
    ],
    [
      'writes EndpointSlices',
      'POST',
      '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices',
      { metadata: { name: 'web' }, addressType: 'IPv4', endpoints: [] },
      403,
      cannot('create', 'endpointslices', 'discovery.k8s.io', inDefault),
    ],
    [
      'tells of another node',
      'POST',
      events,
      event({ kind: 'Node', name: 'worker-2', namespace: 'default' }),
      403,
      'can only tell of itself',
    ],
    [
      'tells of the pod of another node',
      'POST',
      events,
      event({ kind: 'Pod', name: 'theirs', namespace: 'default' }),
      403,
      'can only tell of itself',
    ],
  ])('%s', async (_name, method, path, body, status, message) => {
    await using api = await TokenApi.open()
    const { admin } = api.credentials.tokens
    for (const name of ['worker-1', 'worker-2']) {
      expect((await api.call(admin, 'POST', '/api/v1/nodes', { metadata: { name } })).status).toBe(201)
    }
    await api.call(admin, 'POST', leases, { metadata: { name: 'worker-2' } })
    await api.call(admin, 'POST', pods, pod('mine', 'worker-1'))
    await api.call(admin, 'POST', pods, pod('theirs', 'worker-2'))
    const answer = await api.call(api.issue('worker-1'), method, path, body)
    expect(answer.message).toContain(message)
    expect(answer.status).toBe(status)
  })
})

test('openCredentials() makes another certificate for further names, by the same authority', () => {
  const folder = mkdtempSync(join(tmpdir(), 'credentials-'))
  try {
    const first = openCredentials(folder, { hosts: ['127.0.0.1'], now: new Date() })
    const same = openCredentials(folder, { hosts: ['127.0.0.1'], now: new Date() })
    expect(same.server).toEqual(first.server)
    const more = openCredentials(folder, { hosts: ['127.0.0.1', '192.0.2.2', 'fd00::2', 'vm1'], now: new Date() })
    expect(more.server).not.toEqual(first.server)
    expect(more.authority).toBe(first.authority)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
