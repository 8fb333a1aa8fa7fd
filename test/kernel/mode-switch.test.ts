import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()
const storm = fileURLToPath(new URL('storm.ts', import.meta.url))

const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
`

/** As many Services as asked for, of which the first leads to the pod. */
function objects(count: number): string {
  const service = (n: number): string => `apiVersion: v1
kind: Service
metadata: {name: s${n}}
spec: {type: NodePort, clusterIP: 172.30.${n >> 8}.${n & 255}, ports: [{port: 80, nodePort: ${30000 + n}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s${n}-1, labels: {kubernetes.io/service-name: s${n}}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [${n === 1 ? '10.244.1.2' : `10.244.9.${n & 255}`}], nodeName: node-1}]
`
  return Array.from({ length: count }, (_, i) => service(i + 1)).join('---\n')
}

/** A machine with a pod that answers HTTP, and a way from outside to cluster IPs. */
async function createMachine(services: number): Promise<Machine> {
  const machine = await Machine.create()
  const setUp = `sysctl -qw net.ipv4.ip_forward=1
    ip netns add pod && ip link add p0 type veth peer name eth0 netns pod
    ip addr add 10.244.1.1/24 dev p0 && ip link set p0 up
    ip -n pod addr add 10.244.1.2/24 dev eth0 && ip -n pod link set eth0 up && ip -n pod link set lo up
    ip -n pod route add default via 10.244.1.1
    ip -n outside route add 172.30.0.0/16 via 192.0.2.2`
  expect(await machine.run('sh', '-ec', setUp)).toMatchObject({ code: 0 })
  const server = fileURLToPath(new URL('../../examples/hello/server.js', import.meta.url))
  machine.spawn('ip', 'netns', 'exec', 'pod', process.execPath, server, 'web', '8080')
  const folder = join(machine.folder, 'objects')
  mkdirSync(folder)
  writeFileSync(join(folder, 'services.yaml'), objects(services))
  const node =
    'apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.2}]}\n'
  writeFileSync(join(folder, 'node.yaml'), node)
  return machine
}

async function underStorm(machine: Machine, url: string, work: () => Promise<void>): Promise<Record<string, unknown>> {
  const child = machine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, storm, url, '8', '50')
  let output = ''
  let errors = ''
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  while (!output.includes('started')) {
    if (child.exitCode !== null) throw new Error(`the storm ended: ${errors}`)
    await sleep(20)
  }
  await work()
  await sleep(500)
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
  return JSON.parse(output.split('\n')[1] ?? '') as Record<string, unknown>
}

describe.skipIf(obstacle !== undefined)(`fairlead mode set${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test('loses no connection and breaks none, through all modes and back', { timeout: patience(120_000) }, async () => {
    await using machine = await createMachine(200)
    const daemon = await machine.startDaemon(
      config,
      '--manifests',
      join(machine.folder, 'objects'),
      '--node-name',
      'node-1',
      '--log-format',
      'text',
    )
    const traces = async (): Promise<string[]> => {
      const { stdout: nft } = await machine.run('nft', 'list', 'tables')
      const { stdout: iptables } = await machine.run(
        'sh',
        '-c',
        'iptables-save; iptables-legacy-save 2>/dev/null || true',
      )
      return [
        ...(nft.includes('fairlead-services') ? ['nftables'] : []),
        ...(iptables.includes('KUBE-SERVICES') ? ['iptables'] : []),
        ...(nft.includes('fairlead-userspace') ? ['userspace'] : []),
        ...(nft.includes('fairlead-anchor') ? ['anchor'] : []),
      ]
    }
    expect(await traces()).toEqual(['nftables', 'anchor'])
    const seen: string[][] = []
    const result = await underStorm(machine, 'http://172.30.0.1/', async () => {
      for (const mode of ['iptables', 'nftables', 'userspace', 'iptables']) {
        expect(await machine.fairlead('mode', 'set', mode)).toMatchObject({ code: 0, stdout: `${mode}\n` })
        seen.push(await traces())
      }
    })
    console.log(`200 Services, nftables -> iptables -> nftables -> userspace -> iptables: ${JSON.stringify(result)}`)
    expect(seen).toEqual([
      ['iptables', 'anchor'],
      ['nftables', 'anchor'],
      ['userspace', 'anchor'],
      ['iptables', 'anchor'],
    ])
    expect(result).toMatchObject({ failed: 0, broken: 0 })
    expect(result['connects']).toBeGreaterThan(100)
    // The file says nftables: another start takes over from iptables.
    expect(await daemon.end('SIGTERM')).toBe(0)
    await machine.startDaemon(config, '--manifests', join(machine.folder, 'objects'), '--node-name', 'node-1')
    for (let attempt = 0; (await traces()).includes('iptables') && attempt < 50; attempt++) await sleep(100)
    expect(await traces()).toEqual(['nftables', 'anchor'])
  })
})
