import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Resolver } from 'node:dns/promises'
import { createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { silentLog } from '../base/log.ts'
import { FakeApiServer } from '../kubernetes/fake-api-server.ts'
import { serveCorefile } from './serve-corefile.ts'

const services = '/api/v1/services'

async function listenAnywhere(): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return { server, port: typeof address === 'object' && address ? address.port : 0 }
}

async function freePort(): Promise<number> {
  const { server, port } = await listenAnywhere()
  server.close()
  await once(server, 'close')
  return port
}

/** A port where nobody listens, and a folder with kubeconfigs of an API server that has one Service. */
async function setUp() {
  const stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-corefile-'))
  stack.defer(() => rmSync(folder, { recursive: true }))
  const api = stack.use(await FakeApiServer.start())
  const port = await freePort()
  const kubeconfig = JSON.stringify({
    'current-context': 'x',
    contexts: [{ name: 'x', context: { cluster: 'c' } }],
    clusters: [{ name: 'c', cluster: { server: `http://${api.address}` } }],
  })
  for (const name of ['one', 'two']) writeFileSync(join(folder, name), kubeconfig)
  const file = join(folder, 'Corefile')
  const log = { ...silentLog, error: vi.fn() }
  const write = (lines: string) => writeFileSync(file, `.:${port} {\nbind 127.0.0.1\n${lines}\n}\n`)
  const cluster = (name: 'one' | 'two') => `kubernetes cluster.local {\nkubeconfig ${name}\n}`
  const start = () => serveCorefile({ file, env: {}, version: '1', log })
  // A resolver asks from another port each time, so that it meets all sockets that there are.
  const resolver = new Resolver({ timeout: 1000, tries: 3 })
  resolver.setServers([`127.0.0.1:${port}`])
  const ask = () => resolver.resolve4('web.shop.svc.cluster.local').then(String, ({ code }: { code: string }) => code)
  const putWeb = (clusterIP: string) =>
    api.put(services, {
      metadata: { name: 'web', namespace: 'shop' },
      spec: { clusterIP, clusterIPs: [clusterIP], ports: [{ port: 80 }] },
    })
  putWeb('10.96.0.1')
  const metricsPort = await freePort()
  return {
    metricsPort,
    file,
    log,
    write,
    cluster,
    start,
    ask,
    putWeb,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

test('serveCorefile reads its file once for many signals, and leaves no server behind', async () => {
  await using it = await setUp()
  it.write(it.cluster('one'))
  const service = await it.start()
  try {
    await vi.waitFor(async () => expect(await it.ask()).toBe('10.96.0.1'), 10_000)
    await Promise.all([service.reload(), service.reload(), service.reload(), service.reload()])
    it.putWeb('10.96.0.2')
    await vi.waitFor(async () => expect(await it.ask()).toBe('10.96.0.2'), 10_000)
    const answers = new Set<string>()
    for (let i = 0; i < 30; i++) answers.add(await it.ask())
    expect([...answers]).toEqual(['10.96.0.2'])
  } finally {
    await Promise.all([service.reload(), service.close()])
  }
  expect(await it.ask()).toBe('ECONNREFUSED')
}, 30_000)

test('serveCorefile goes on as before when another cluster comes with a port that is taken', async () => {
  await using it = await setUp()
  const taken = await listenAnywhere()
  it.write(it.cluster('one'))
  const service = await it.start()
  try {
    await vi.waitFor(async () => expect(await it.ask()).toBe('10.96.0.1'), 10_000)
    it.write(`${it.cluster('two')}\nready 127.0.0.1:${taken.port}`)
    await service.reload()
    expect(it.log.error).toHaveBeenCalledWith(
      expect.anything(),
      expect.stringMatching(/^The Corefile is not taken over.*another program already listens there$/),
    )
    it.putWeb('10.96.0.2')
    await vi.waitFor(async () => expect(await it.ask()).toBe('10.96.0.2'), 10_000)
    it.write(`${it.cluster('two')}\nprometheus 127.0.0.1:${it.metricsPort}`)
    await service.reload()
    const metrics = await (await fetch(`http://127.0.0.1:${it.metricsPort}/metrics`)).text()
    expect(metrics).toMatch(/^fairlead_kubernetes_connected\{resource="services"\} 1$/m)
    expect(metrics).toMatch(/^fairlead_kubernetes_age_seconds\{resource="services"\} \d/m)
    // The other cluster's objects were waited for: there is no moment without an answer.
    expect(await it.ask()).toBe('10.96.0.2')
  } finally {
    await service.close()
    taken.server.close()
  }
}, 30_000)

test.each([
  ['bind nosuch0', /Corefile:1: bind: "nosuch0" is neither an address nor an interface/],
  ['forward . tls://192.0.2.1 {\ntls nosuch.pem\n}', /Corefile:1: ENOENT: .*nosuch\.pem/],
  ['forward . tls://192.0.2.1 {\ntls .\n}', /Corefile:1: EISDIR: /],
  ['kubernetes cluster.local {\nkubeconfig nosuch\n}', /Corefile:1: kubernetes: cannot read .*nosuch: ENOENT/],
  ['nonsense', /Corefile:3: plugin "nonsense" is not supported/],
])('serveCorefile says where %j stands', async (lines, message) => {
  await using it = await setUp()
  it.write(lines)
  await expect(it.start()).rejects.toThrow(message)
})
