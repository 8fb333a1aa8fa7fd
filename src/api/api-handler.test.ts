import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { ApiServer } from './api-server.ts'

interface Answer {
  readonly status: number
  readonly text: string
}

const services = '/api/v1/namespaces/default/services'
const json = { 'content-type': 'application/json' }
const merge = { 'content-type': 'application/merge-patch+json' }

class TestApi implements AsyncDisposable {
  readonly #server: ApiServer
  readonly #listener: ReturnType<ApiServer['createListener']>

  private constructor(server: ApiServer, listener: ReturnType<ApiServer['createListener']>) {
    this.#server = server
    this.#listener = listener
  }

  static async open(): Promise<TestApi> {
    const claims = { serviceCIDRs: [parseCidr('10.96.0.0/24')] }
    const server = await ApiServer.open({
      file: ':memory:',
      claims,
      clock: systemClock,
      log: silentLog,
      version: 'test',
    })
    const listener = server.createListener(() => 'admin')
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    return new TestApi(server, listener)
  }

  /** The newest revision. */
  get revision(): number {
    return this.#server.store.revision
  }

  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = json): Promise<Answer> {
    const { port } = this.#listener.address() as AddressInfo
    const sent = body === undefined ? {} : { body: JSON.stringify(body) }
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers, ...sent })
    return { status: response.status, text: await response.text() }
  }

  create(name: string, rest: object = {}): Promise<Answer> {
    return this.call('POST', services, { metadata: { name, ...rest }, spec: { ports: [{ port: 80 }] } })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server[Symbol.dispose]()
    this.#listener.closeAllConnections()
    await new Promise((resolve) => this.#listener.close(resolve))
  }
}

describe('createApiHandler()', () => {
  test.each<[string, string, number, string]>([
    ['a revision of the future', 'resourceVersion=999999', 504, 'Too large resource version: 999999'],
    ['a revision that was', 'resourceVersion=1&resourceVersionMatch=NotOlderThan', 200, '"kept"'],
    ['exactly a revision that is gone', 'resourceVersion=1&resourceVersionMatch=Exact', 410, 'too old'],
    ['exactly no revision', 'resourceVersionMatch=Exact', 422, 'unless resourceVersion is provided'],
    ['exactly any revision', 'resourceVersion=0&resourceVersionMatch=Exact', 422, 'forbidden for resourceVersion'],
    ['another match', 'resourceVersion=1&resourceVersionMatch=Newest', 422, 'Unsupported value: \\"Newest\\"'],
    ['no number', 'resourceVersion=x', 400, 'invalid syntax'],
  ])('asked to list %s, answers as Kubernetes does', async (_what, query, status, text) => {
    await using api = await TestApi.open()
    await api.create('kept')
    const answer = await api.call('GET', `${services}?${query}`)
    expect(answer.text).toContain(text)
    expect(answer.status).toBe(status)
  })

  test('lists exactly a revision, while nothing of the kind has changed since', async () => {
    await using api = await TestApi.open()
    await api.create('kept')
    const { revision } = api
    await api.call('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } })
    expect(api.revision).toBeGreaterThan(revision)
    const exact = `${services}?resourceVersionMatch=Exact&resourceVersion=${revision}`
    expect((await api.call('GET', exact)).text).toContain(`"metadata":{"resourceVersion":"${revision}"}`)
    await api.create('new')
    expect((await api.call('GET', exact)).status).toBe(410)
  })

  test('lets nobody act as somebody else', async () => {
    await using api = await TestApi.open()
    await api.create('kept')
    const headers = { ...json, 'impersonate-user': 'nobody' }
    for (const method of ['GET', 'DELETE']) {
      const { status, text } = await api.call(method, `${services}/kept`, undefined, headers)
      expect(text).toContain('users \\"nobody\\" is forbidden')
      expect(status).toBe(403)
    }
    expect((await api.call('GET', `${services}/kept`)).status).toBe(200)
  })

  test('removes no object by the path of its status', async () => {
    await using api = await TestApi.open()
    await api.create('kept')
    expect((await api.call('DELETE', `${services}/kept/status`)).status).toBe(405)
    expect((await api.call('GET', `${services}/kept`)).status).toBe(200)
  })

  test('takes no further finalizers once an object is being deleted, and lets go of those it has', async () => {
    await using api = await TestApi.open()
    await api.create('going', { finalizers: ['example.org/a', 'example.org/b'] })
    await api.call('DELETE', `${services}/going`)
    const finalizers = (list: readonly string[]): Promise<Answer> =>
      api.call('PATCH', `${services}/going`, { metadata: { finalizers: list } }, merge)
    const more = await finalizers(['example.org/a', 'example.org/b', 'example.org/c'])
    expect(more.text).toContain('no new finalizers can be added if the object is being deleted')
    expect(more.status).toBe(422)
    expect((await finalizers(['example.org/b'])).status).toBe(200)
    expect((await finalizers([])).status).toBe(200)
    expect((await api.call('GET', `${services}/going`)).status).toBe(404)
  })

  test('leaves an unknown field out that has a dot, and not the field that its path looks like', async () => {
    await using api = await TestApi.open()
    const spec = { selector: { app: 'web' }, 'selector.app': 1, ports: [{ port: 80, 'a.b': 1 }] }
    await api.call('POST', services, { metadata: { name: 'web' }, spec })
    const { spec: stored } = JSON.parse((await api.call('GET', `${services}/web`)).text) as { spec: object }
    expect(stored).toMatchObject({ selector: { app: 'web' }, ports: [{ port: 80 }] })
    expect(JSON.stringify(stored)).not.toMatch(/selector\.app|a\.b/)
  })

  test.each([
    ['x'.repeat(129), 'may not be more than 128 bytes'],
    ['a\u0007b', 'printable characters'],
  ])('refuses the field manager %j', async (name, text) => {
    await using api = await TestApi.open()
    const path = `${services}?fieldManager=${encodeURIComponent(name)}`
    const answer = await api.call('POST', path, { metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } })
    expect(answer.text).toContain(text)
    expect(answer.status).toBe(422)
  })
})
