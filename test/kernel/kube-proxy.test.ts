import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()

const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}
`

const node = (more: { podCIDR?: string; taint?: string } = {}): string => `apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [${more.podCIDR ?? '10.244.1.0/24'}], taints: [${more.taint ? `{key: ${more.taint}, effect: NoSchedule}` : ''}]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
`

const web = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.41
  externalTrafficPolicy: Local
  healthCheckNodePort: 31000
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 80}]
endpoints: [{addresses: [10.244.1.2], nodeName: node-1}]
`

async function startKubeProxy(machine: Machine) {
  const objects = join(machine.folder, 'objects')
  mkdirSync(objects)
  writeFileSync(join(objects, 'node.yaml'), node())
  writeFileSync(join(objects, 'web.yaml'), web)
  const flags = ['--manifests', objects, '--node-name', 'node-1', '--log-format', 'text']
  return { objects, daemon: await machine.startDaemon(config, ...flags) }
}

async function get(machine: Machine, url: string): Promise<{ code: string; body: string }> {
  const { stdout } = await machine.run('curl', '-s', '-m', '3', '-w', '\n%{http_code}', url)
  const end = stdout.lastIndexOf('\n')
  return { code: stdout.slice(end + 1), body: stdout.slice(0, end) }
}

async function eventually(what: () => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await what()
    } catch (error) {
      if (attempt === 60) throw error
      await sleep(patience(50))
    }
  }
}

describe.skipIf(obstacle !== undefined)(
  `a KubeProxyConfiguration alone${obstacle ? ` (skipped: ${obstacle})` : ''}`,
  () => {
    test("starts the proxy and nothing else, with kube-proxy's ports", async () => {
      await using machine = await Machine.create()
      const { daemon } = await startKubeProxy(machine)
      const links = (await machine.run('ip', '-o', 'link')).stdout
        .split('\n')
        .flatMap((line) => line.split(': ')[1] ?? [])
      expect(links).toEqual(['lo', expect.stringMatching(/^eth0/)])
      const { stdout: sockets } = await machine.run('ss', '-Hlntu')
      const ports = sockets.split('\n').flatMap((line) => /:(\d+)\s+\S+\s*$/.exec(line)?.[1] ?? [])
      expect(ports.toSorted()).toEqual(['10249', '10256', '31000'])
      const health = await get(machine, 'http://192.0.2.2:10256/healthz')
      expect([health.code, JSON.parse(health.body)]).toMatchObject(['200', { healthy: true, nodeEligible: true }])
      expect(await get(machine, 'http://[::1]:10256/livez')).toMatchObject({ code: '200' })
      expect(await get(machine, 'http://127.0.0.1:10249/proxyMode')).toEqual({ code: '200', body: 'nftables' })
      expect((await get(machine, 'http://127.0.0.1:10249/metrics')).body).toContain(
        'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} ',
      )
      const { body: configz } = await get(machine, 'http://127.0.0.1:10249/configz')
      expect(JSON.parse(configz)).toMatchObject({ 'kubeproxy.config.k8s.io': { mode: 'nftables', oomScoreAdj: -999 } })
      expect(await get(machine, 'http://192.0.2.2:31000/')).toMatchObject({ code: '200' })
      // nodePortAddresses is primary: the address of the Node object and no other.
      expect((await get(machine, 'http://127.0.0.1:31000/')).code).toBe('000')
      expect(daemon.log).toContain('clientConnection.kubeconfig has no effect')
    })

    test('follows its file, its Node object and commands without an exit', async () => {
      await using machine = await Machine.create()
      const { objects, daemon } = await startKubeProxy(machine)
      const pods = async (): Promise<string> =>
        (await machine.run('nft', 'list', 'table', 'inet', 'fairlead-services')).stdout.replaceAll(/\s+/g, ' ')
      expect(await pods()).not.toContain('10.244.1.0/24')
      machine.write('fairlead.yaml', `${config}detectLocalMode: NodeCIDR\nmetricsBindAddress: 127.0.0.1:9999\n`)
      await eventually(async () => expect(await pods()).toContain('10.244.1.0/24'))
      expect(await get(machine, 'http://127.0.0.1:9999/proxyMode')).toEqual({ code: '200', body: 'nftables' })
      expect((await get(machine, 'http://127.0.0.1:10249/proxyMode')).code).toBe('000')
      writeFileSync(
        join(objects, 'node.yaml'),
        node({ podCIDR: '10.244.9.0/24', taint: 'ToBeDeletedByClusterAutoscaler' }),
      )
      await eventually(async () => expect(await pods()).toContain('10.244.9.0/24'))
      expect(await get(machine, 'http://127.0.0.1:10256/healthz')).toMatchObject({ code: '503' })
      expect(await get(machine, 'http://127.0.0.1:10256/livez')).toMatchObject({ code: '200' })
      machine.write('fairlead.yaml', `${config}nodePortAdresses: []\n`)
      await eventually(async () => expect(daemon.log).toContain('nodePortAdresses: unknown key'))
      expect(await get(machine, 'http://127.0.0.1:9999/proxyMode')).toEqual({ code: '200', body: 'nftables' })
      expect(await machine.fairlead('mode', 'get')).toMatchObject({ code: 0, stdout: 'nftables\n' })
      expect(await machine.fairlead('mode', 'set', 'turbo')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('"turbo" is not known here') as string,
      })
      expect(await daemon.end('SIGTERM')).toBe(0)
    })

    test('needs objects: a kubeconfig that can be read, or --manifests', async () => {
      await using machine = await Machine.create()
      const without = machine.write('without.yaml', config.replace(/^clientConnection.*\n/m, ''))
      expect(await machine.fairlead('run', '--config', without)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('clientConnection.kubeconfig is missing') as string,
      })
      const file = machine.write('kube-proxy.yaml', config)
      expect(await machine.fairlead('run', '--config', file)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('cannot read /var/lib/kube-proxy/kubeconfig.conf: ENOENT') as string,
      })
    })
  },
)
