import { createServer } from 'node:http'
import { describe, expect, test } from 'vitest'
import { FakeApiServer, sendStatus } from '../../src/kubernetes/fake-api-server.ts'
import { openNetns } from '../../src/linux/netns.ts'
import type { SourceView } from '../../src/daemon/control-api.ts'
import { patience } from '../lab/patience.ts'
import { Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()
const services = '/api/v1/services'
const slices = '/apis/discovery.k8s.io/v1/endpointslices'

/** An API server that listens on the machine. */
async function startApiServer(machine: Machine): Promise<FakeApiServer> {
  const pid = Number(machine.prefix.find((word) => word.startsWith('--target='))?.slice('--target='.length))
  using netns = openNetns({ pid })
  const api = await FakeApiServer.start(createServer(), (server) => netns.enter(() => server.listen(6443)))
  putService(api, 'web', '172.30.0.41')
  putSlice(api, ['192.0.2.1'])
  api.put('/api/v1/nodes', {
    metadata: { name: 'node-1' },
    status: { addresses: [{ type: 'InternalIP', address: '192.0.2.2' }] },
  })
  return api
}

function putService(api: FakeApiServer, name: string, clusterIP: string): void {
  const spec = { clusterIP, clusterIPs: [clusterIP], ports: [{ port: 80, targetPort: 8080 }] }
  api.put(services, { metadata: { name, namespace: 'shop' }, spec })
}

function putSlice(api: FakeApiServer, addresses: readonly string[]): void {
  api.put(slices, {
    metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080 }],
    endpoints: addresses.map((address) => ({ addresses: [address] })),
  })
}

function kubeconfig(machine: Machine): string {
  return machine.write(
    'kubeconfig',
    `current-context: x
contexts: [{name: x, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:6443'}}]
`,
  )
}

/** The endpoints of a cluster IP, as the kernel was told. */
async function endpoints(machine: Machine, ip: string): Promise<string> {
  return (await machine.fairlead('explain', `${ip}:80`)).stdout
}

async function eventually(what: () => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await what()
    } catch (error) {
      // The wait between attempts has grown by then.
      if (attempt === 300) throw error
      await sleep(patience(50))
    }
  }
}

describe.skipIf(obstacle !== undefined)(`an API server${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test("takes kube-proxy's place with the kubeconfig of its configuration, and outlives the server", async () => {
    await using machine = await Machine.create()
    await using api = await startApiServer(machine)
    const daemon = await machine.startDaemon(
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: node-1
clientConnection: {kubeconfig: ${kubeconfig(machine)}}
`,
    )
    expect(await endpoints(machine, '172.30.0.41')).toContain('192.0.2.1:8080')
    putSlice(api, ['192.0.2.9'])
    await eventually(async () => expect(await endpoints(machine, '172.30.0.41')).toContain('192.0.2.9:8080'))

    // The server goes away in the middle of an event; what it had stays.
    api.faults.push((_, response) => sendStatus(response, 503, 'ServiceUnavailable', 'etcd is away'))
    api.cut({ torn: true })
    await eventually(async () => expect(daemon.log).toContain('cannot follow services'))
    expect(await endpoints(machine, '172.30.0.41')).toContain('192.0.2.9:8080')
    const table = (await machine.fairlead('source', 'ls')).stdout
    expect(table).toMatch(/services +lost +\d+ s +1 +the API server answers 503: etcd is away/)

    putService(api, 'late', '172.30.0.42')
    api.faults.length = 0
    await eventually(async () => expect((await machine.status())?.services?.services).toBe(2))
    expect(await daemon.end('SIGTERM')).toBe(0)
  })

  test('gives names and Services beside files, and a file counts first', async () => {
    await using machine = await Machine.create()
    await using api = await startApiServer(machine)
    const file = machine.write(
      'own.yaml',
      `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}
`,
    )
    const daemon = await machine.startDaemon(
      `nodeName: node-1\nsources: {files: [${file}], kubernetes: {kubeconfig: ${kubeconfig(machine)}}}\n`,
    )
    const status = await machine.status()
    expect(status?.sources.list.map(({ name, synced }: SourceView) => [name, synced])).toEqual([
      ['pods of this machine', true],
      [`files ${file}`, true],
      ['Kubernetes 127.0.0.1:6443', true],
    ])
    expect(status?.sources.problems.join()).toContain('is already defined by files')
    putService(api, 'late', '10.96.0.42')
    const ask = ['dig', '+short', '+time=1', 'late.shop.svc.cluster.local', '@10.96.0.10']
    await eventually(async () => expect((await machine.run(...ask)).stdout).toBe('10.96.0.42\n'))
    const own = ['dig', '+short', '+time=1', 'web.shop.svc.cluster.local', '@10.96.0.10']
    expect((await machine.run(...own)).stdout).toBe('10.96.0.99\n')
    expect(await daemon.end('SIGTERM')).toBe(0)
  })

  test('refuses a kubeconfig that is not there', async () => {
    await using machine = await Machine.create()
    const started = await machine.fairlead('run', '--kubeconfig', '/nowhere/config')
    expect(started).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cannot read /nowhere/config: ENOENT') as string,
    })
  })
})
