import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { Cluster, eventually, lanAddress, lanAddress6, succeed } from './cluster.ts'
import { machineObstacle, type DaemonProcess, type Machine } from './machine.ts'

const obstacle = machineObstacle()
const server = fileURLToPath(new URL('../../examples/hello/server.js', import.meta.url))
const names = ['control', 'worker-1', 'worker-2'] as const

/** Short, so that a node that dies is noticed while one waits. */
const leaseSeconds = 8

const manifests = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  clusterIPs: [10.96.7.7, 'fd00:10:96::77']
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: web-local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
`

describe.skipIf(obstacle !== undefined)(
  `several nodes${obstacle ? ` (${obstacle})` : ''}`,
  { timeout: patience(120_000) },
  () => {
    let cluster: Cluster
    let [control, worker1, worker2] = [] as unknown as [Machine, Machine, Machine]
    const daemons = new Map<Machine, DaemonProcess>()

    const configOf = (i: number, kubeconfig?: string): string => `
nodeName: ${names[i - 1]}
node:
  register: true
  address: [${lanAddress(i)}, '${lanAddress6(i)}']
  leaseSeconds: ${leaseSeconds}
network:
  subnets: [10.20${i}.0.0/24, 'fd10:${i}::/64']
  firewall: ${i === 3 ? 'iptables' : 'nftables'}
services: {mode: ${i === 3 ? 'iptables' : 'nftables'}}
${kubeconfig === undefined ? "api: {listen: '0.0.0.0:6443'}" : `sources: {kubernetes: {kubeconfig: ${kubeconfig}}}`}
log: {level: info}
`
    /** Makes a token on the control node, as somebody would, and carries it to another. */
    const join = async (machine: Machine, node: string): Promise<string> =>
      machine.write(`${node}.kubeconfig`, await succeed(control.fairlead('api', 'node-token', node)))
    const start = async (machine: Machine, config: string): Promise<void> => {
      daemons.set(machine, await machine.startDaemon(config))
    }
    const runPod = (machine: Machine, name: string, ...flags: string[]): Promise<string> =>
      succeed(
        machine.fairlead(
          'pod',
          'run',
          name,
          '--label',
          'app=web',
          ...flags,
          '--',
          process.execPath,
          server,
          name,
          '8080',
        ),
      )
    const podIps = async (machine: Machine, name: string): Promise<readonly string[]> => {
      const { pods } = await machine.ask<{ pods: { name: string; ips: string[] }[] }>('/pods')
      return pods.find((pod) => pod.name === name)?.ips ?? []
    }
    const curl = (url: string): string[] => ['curl', '-sS', '-g', '--max-time', '3', url]
    type Run = (...argv: string[]) => Promise<string>
    const inPod =
      (machine: Machine, pod: string): Run =>
      (...argv) =>
        succeed(machine.fairlead('pod', 'exec', pod, '--', ...argv))
    const onNode =
      (machine: Machine): Run =>
      (...argv) =>
        succeed(machine.run(...argv))
    const outside: Run = (...argv) => succeed(cluster.outside(...argv))
    /** Who answers: the names of the pods, and the client's addresses that they see. */
    const answers = async (run: Run, url: string, count = 20): Promise<{ who: string[]; seen: string[] }> => {
      const loop = `for i in $(seq ${count}); do ${curl(`'${url}'`).join(' ')} || echo failed; done`
      const lines = (await run('sh', '-c', loop)).trimEnd().split('\n')
      const found = lines.map((line) => /from (\S+) \(you are (\S+)\)/.exec(line) ?? ['', line, ''])
      const sorted = (at: 1 | 2): string[] => [...new Set(found.map((one) => one[at] ?? ''))].sort()
      return { who: sorted(1), seen: sorted(2) }
    }
    const readyNodes = async (): Promise<string[]> => {
      const { cluster } = (await control.status()) ?? {}
      return (cluster?.nodes ?? []).filter(({ ready }) => ready === 'True').map(({ name }) => name)
    }

    beforeAll(async () => {
      cluster = await Cluster.create(3)
      ;[control, worker1, worker2] = cluster.machines as [Machine, Machine, Machine]
      await start(control, configOf(1))
      control.write('web.yaml', manifests)
      await succeed(control.fairlead('apply', '-f', `${control.folder}/web.yaml`))
      await start(worker1, configOf(2, await join(worker1, 'worker-1')))
      await start(worker2, configOf(3, await join(worker2, 'worker-2')))
      for (const machine of [control, worker1, worker2])
        await runPod(machine, `shell-${cluster.machines.indexOf(machine)}`, '--label', 'app=shell')
      await runPod(worker1, 'web-1')
      await runPod(worker2, 'web-2')
      await eventually(async () => {
        const { who } = await answers(inPod(control, 'shell-0'), 'http://10.96.7.7/')
        expect(who).toEqual(['web-1', 'web-2'])
      })
    }, patience(180_000))
    afterAll(async () => {
      await cluster?.[Symbol.asyncDispose]()
    })

    test('register themselves, and are shown as kubectl shows them', async () => {
      await eventually(async () => expect((await readyNodes()).sort()).toEqual([...names]))
      const table = await succeed(control.fairlead('get', 'nodes', '-o', 'wide'))
      const [head = '', ...rows] = table.trimEnd().split('\n')
      expect(head).toMatch(/^NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP/)
      expect(rows.map((row) => row.split(/ +/).slice(0, 2))).toEqual(names.map((name) => [name, 'Ready']))
      expect(rows[1]).toContain(lanAddress(2))
      const pods = await succeed(control.fairlead('get', 'pods', '-o', 'wide'))
      expect(pods).toMatch(/web-1 +1\/1 +Running .*10\.202\.0\.\d+ +worker-1/)
      expect(pods).toMatch(/shell-0 +1\/1 +Running .*10\.201\.0\.\d+ +control/)
    })

    test('keep routes to each other, put back those that somebody removes, and say so', async () => {
      const routes = async (machine: Machine): Promise<string> =>
        (await succeed(machine.run('ip', 'route', 'show', 'proto', '103'))) +
        (await succeed(machine.run('ip', '-6', 'route', 'show', 'proto', '103')))
      await eventually(async () => {
        const all = await routes(worker1)
        expect(all).toContain(`10.201.0.0/24 via ${lanAddress(1)} dev lan0`)
        expect(all).toContain(`10.203.0.0/24 via ${lanAddress(3)} dev lan0`)
        expect(all).toContain(`fd10:1::/64 via ${lanAddress6(1)} dev lan0`)
        expect(all).toContain(`fd10:3::/64 via ${lanAddress6(3)} dev lan0`)
      })
      await succeed(worker1.run('ip', 'route', 'del', '10.203.0.0/24'))
      await eventually(async () => expect(await routes(worker1)).toContain('10.203.0.0/24 via'), 5)
      // A link that goes down takes its routes along, without a word.
      await succeed(worker1.run('sh', '-c', 'ip link set lan0 down && ip link set lan0 up'))
      await succeed(worker1.run('ip', 'addr', 'replace', `${lanAddress6(2)}/64`, 'dev', 'lan0', 'nodad'))
      await eventually(async () => expect((await routes(worker1)).match(/ via /g)?.length).toBe(4), 10)
      const status = await worker1.fairlead('status')
      expect(status.stdout).toContain(`10.203.0.0/24 via ${lanAddress(3)} on lan0`)
    })

    test('let their pods reach each other, under their own addresses', async () => {
      for (const [from, pod, to, name] of [
        [control, 'shell-0', worker1, 'web-1'],
        [worker1, 'shell-1', worker2, 'web-2'],
        [worker2, 'shell-2', worker1, 'web-1'],
      ] as const) {
        const own = await podIps(from, pod)
        for (const ip of await podIps(to, name)) {
          const url = `http://${ip.includes(':') ? `[${ip}]` : ip}:8080/`
          const { seen } = await answers(inPod(from, pod), url, 1)
          expect(own).toContain(seen[0])
        }
      }
      // To others a pod is still the node.
      const { code } = await cluster.outside('ping', '-c1', '-W1', (await podIps(worker1, 'web-1'))[0] ?? '')
      expect(code).not.toBe(0)
    })

    test('serve Services over the pods of all of them: cluster IPs, names and NodePorts, by policy', async () => {
      const both = ['web-1', 'web-2']
      for (const [machine, pod] of [
        [worker1, 'shell-1'],
        [worker2, 'shell-2'],
      ] as const) {
        for (const host of ['10.96.7.7', '[fd00:10:96::77]', 'web.default.svc.cluster.local']) {
          const { who, seen } = await answers(inPod(machine, pod), `http://${host}/`)
          expect(who).toEqual(both)
          for (const address of seen) expect(await podIps(machine, pod)).toContain(address)
        }
        // From the node itself.
        expect((await answers(onNode(machine), 'http://10.96.7.7/')).who).toEqual(both)
      }
      // From outside: policy Cluster by every node, under that node's address where the pod is elsewhere.
      for (const i of [1, 2, 3]) {
        const { who } = await answers(outside, `http://${lanAddress(i)}:30080/`)
        expect(who).toEqual(both)
      }
      // From another node, whose address the pods' nodes know: masqueraded all the same, or answers would take another way.
      for (const i of [2, 3]) {
        const { who } = await answers(onNode(control), `http://${lanAddress(i)}:30080/`)
        expect(who).toEqual(both)
      }
      // Policy Local: the node's own pods, which see the client.
      const local = await answers(outside, `http://${lanAddress(2)}:30081/`, 4)
      expect(local).toEqual({ who: ['web-1'], seen: ['10.77.0.254'] })
      expect((await cluster.outside(...curl(`http://${lanAddress(1)}:30081/`))).code).not.toBe(0)
    })

    test('let a token of one node write nothing of another', async () => {
      const kubeconfig = readFileSync(`${worker1.folder}/worker-1.kubeconfig`, 'utf8')
      const { users } = JSON.parse(kubeconfig) as { users: { user: { token: string } }[] }
      const call = async (method: string, path: string, body?: object): Promise<string> =>
        await succeed(
          worker1.run(
            'curl',
            '-skm10',
            '-X',
            method,
            '-H',
            `Authorization: Bearer ${users[0]?.user.token}`,
            '-H',
            'Content-Type: application/merge-patch+json',
            `https://${lanAddress(1)}:6443${path}`,
            ...(body ? ['-d', JSON.stringify(body)] : []),
          ),
        )
      expect(await call('DELETE', '/api/v1/namespaces/default/pods/web-2')).toContain(
        'node \\"worker-1\\" can only delete pods with spec.nodeName set to itself',
      )
      expect(await call('PATCH', '/api/v1/nodes/worker-2', { metadata: { labels: { a: 'b' } } })).toContain(
        '"code":403',
      )
      expect(await call('DELETE', '/api/v1/namespaces/default/services/web')).toContain('"code":403')
      expect(await call('GET', '/api/v1/namespaces/default/services/web')).toContain('"kind":"Service"')
    })

    test('tell of two pods with one name, and lose neither', async () => {
      await runPod(worker2, 'web-1', '--label', 'app=other')
      const problem = 'Pod default/web-1 exists in the API already, on node worker-1'
      await eventually(async () => expect((await worker2.fairlead('status')).stdout).toContain(problem))
      expect(await succeed(control.fairlead('get', 'pods', '-o', 'wide'))).toMatch(/web-1 .* worker-1/)
      await succeed(worker2.fairlead('pod', 'rm', 'web-1'))
      await eventually(async () => expect((await worker2.fairlead('status')).stdout).not.toContain(problem))
    })

    test('lose nothing while the API restarts', async () => {
      await daemons.get(control)?.end('SIGKILL')
      await runPod(worker1, 'web-3')
      await succeed(worker2.fairlead('pod', 'rm', 'shell-2'))
      expect((await answers(inPod(worker1, 'shell-1'), 'http://10.96.7.7/')).who).toEqual(['web-1', 'web-2'])
      await start(control, configOf(1))
      await eventually(async () => {
        const pods = await succeed(control.fairlead('get', 'pods'))
        expect(pods).toMatch(/web-3 +1\/1/)
        expect(pods).not.toContain('shell-2')
        for (const run of [inPod(control, 'shell-0'), inPod(worker1, 'shell-1')]) {
          expect((await answers(run, 'http://10.96.7.7/', 30)).who).toEqual(['web-1', 'web-2', 'web-3'])
        }
      }, 40)
      await succeed(worker1.fairlead('pod', 'rm', 'web-3'))
    })

    test('drop the endpoints of a node that dies, and take them back', async () => {
      await daemons.get(worker2)?.end('SIGKILL')
      const died = Date.now()
      await eventually(async () => expect(await readyNodes()).not.toContain('worker-2'), 3 * leaseSeconds)
      await eventually(async () => {
        const { who } = await answers(inPod(worker1, 'shell-1'), 'http://10.96.7.7/')
        expect(who).toEqual(['web-1'])
      }, 5)
      expect(Date.now() - died).toBeGreaterThan(1000)
      expect(await succeed(control.fairlead('get', 'nodes'))).toMatch(/worker-2 +NotReady/)
      await start(worker2, configOf(3, `${worker2.folder}/worker-2.kubeconfig`))
      await eventually(async () => {
        const { who } = await answers(inPod(worker1, 'shell-1'), 'http://10.96.7.7/')
        expect(who).toEqual(['web-1', 'web-2'])
      }, 15)
    })

    test('forget a node that is removed, and clean up', async () => {
      await succeed(control.fairlead('api', 'node-token', 'worker-2', '--revoke'))
      await daemons.get(worker2)?.end('SIGTERM')
      await succeed(control.fairlead('delete', 'node', 'worker-2'))
      await eventually(async () => {
        expect(await succeed(worker1.run('ip', 'route', 'show', 'proto', '103'))).not.toContain('10.203.0.0/24')
      })
      const removed = await succeed(worker2.fairlead('cleanup'))
      expect(removed).toContain('route to 10.202.0.0/24')
      expect(await succeed(worker2.run('ip', 'route', 'show', 'proto', '103'))).toBe('')
    })
  },
)
