import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ExecSpec, PodView, StatusView } from '../../src/daemon/control-api.ts'
import { Machine, machineObstacle } from './machine.ts'

const obstacle = machineObstacle()

/** A Service that is called like a pod, and leads elsewhere. */
const twin = `apiVersion: v1
kind: Service
metadata: {name: twin}
spec: {clusterIP: 10.96.0.80, ports: [{port: 80}]}
`

describe.skipIf(obstacle !== undefined)(`names of pods${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test('pods of one network find each other by name, others do not', { timeout: 60_000 }, async () => {
    await using machine = await Machine.create()
    mkdirSync(join(machine.folder, 'manifests'))
    writeFileSync(join(machine.folder, 'manifests', 'twin.yaml'), twin)
    // Nobody answers at this resolver, so SERVFAIL says that a question was forwarded.
    const resolvConf = machine.write('resolv.conf', 'nameserver 127.0.0.1\n')
    await machine.startDaemon(`nodeName: node-1
sources: {files: [${join(machine.folder, 'manifests')}]}
dns: {resolvConf: ${resolvConf}}
networks: [{name: back}, {name: inner, internal: true}]
`)
    const members = { default: ['web-1', 'web-2', 'twin'], back: ['db', 'db-2'], inner: ['key-1', 'key-2'] }
    // Over the socket, as the command line would, but without starting it each time.
    const call = async <T>(path: string, ...flags: readonly string[]): Promise<T> => {
      const words = ['curl', '-sS', '--unix-socket', '/run/fairlead/control.sock', `http://localhost${path}`]
      const { stdout } = await machine.run(...words, ...flags)
      return JSON.parse(stdout || '{}') as T
    }
    const runPod = async (name: string, network = 'default') => {
      const request = { namespace: 'default', name, labels: {}, network, command: [] }
      const header = 'content-type: application/json'
      expect(await call<PodView>('/pods', '--header', header, '--data', JSON.stringify(request))).toMatchObject({
        name,
      })
    }
    for (const [network, names] of Object.entries(members)) for (const name of names) await runPod(name, network)
    const { pods } = await call<{ pods: PodView[] }>('/pods')
    const ipsOf = (name: string) => pods.find((pod) => pod.name === name)?.ips ?? []
    const exec = async (pod: string, ...argv: readonly string[]) =>
      machine.run(...(await call<ExecSpec>(`/pods/default/${pod}/exec`)).argv, ...argv)
    const queries = async () => (await call<StatusView>('/status')).dns?.queries ?? 0
    const ask = async (pod: string | undefined, name: string, type: string) => {
      const dig = ['dig', '+tries=1', '+time=2', '@10.96.0.10', `${name}.`, type]
      const { stdout } = await (pod ? exec(pod, ...dig) : machine.run(...dig))
      const answers = [...stdout.matchAll(/^\S+\s+\d+\s+IN\s+\S+\s+(\S+)$/gm)].map(([, data]) => data)
      return [/status: (\w+)/.exec(stdout)?.[1], ...answers]
    }

    const [web4, web6] = ipsOf('web-2')
    expect(await ask('web-1', 'web-2', 'A')).toEqual(['NOERROR', web4])
    expect(await ask('web-1', 'web-2', 'AAAA')).toEqual(['NOERROR', web6])
    expect(await ask('web-1', 'web-2', 'TXT')).toEqual(['NOERROR'])
    expect(await ask('db-2', 'db', 'A')).toEqual(['NOERROR', ipsOf('db')[0]])
    expect(await ask('key-1', 'key-2', 'A'), 'of an internal network').toEqual(['NOERROR', ipsOf('key-2')[0]])
    expect(await ask('web-1', 'db', 'A'), 'of another network').toEqual(['NXDOMAIN'])
    expect(await ask('db', 'web-2', 'A'), 'of another network').toEqual(['NXDOMAIN'])
    expect(await ask(undefined, 'web-2', 'A'), 'from the node').toEqual(['SERVFAIL'])

    // What programs do: the C library, through the search path of the pod's resolv.conf.
    const lookUp = async (...words: readonly string[]) => {
      const before = await queries()
      const { stdout } = await exec('web-1', 'getent', ...words)
      return { address: stdout.split(' ')[0], questions: (await queries()) - before }
    }
    expect(await lookUp('ahostsv4', 'web-2')).toEqual({ address: web4, questions: 4 })
    expect(await lookUp('ahostsv4', 'web-2.')).toEqual({ address: web4, questions: 1 })
    expect(await lookUp('hosts', 'web-2')).toEqual({ address: web6, questions: 4 })
    expect((await lookUp('ahosts', 'web-2')).questions, 'both families').toBe(8)
    // The search path comes first: a pod cannot take a Service's name.
    expect(await lookUp('ahostsv4', 'twin')).toEqual({ address: '10.96.0.80', questions: 1 })
    expect(await lookUp('ahostsv4', 'twin.')).toEqual({ address: ipsOf('twin')[0], questions: 1 })

    // A pod that joins another network finds, and is found by, the pods there: with its address there.
    const joining = JSON.stringify({ namespace: 'default', name: 'web-1' })
    await call('/networks/back/pods', '--header', 'content-type: application/json', '--data', joining)
    expect(await ask('web-1', 'db', 'A')).toEqual(['NOERROR', ipsOf('db')[0]])
    const [found, there] = await ask('db', 'web-1', 'A')
    expect([found, there === ipsOf('web-1')[0]]).toEqual(['NOERROR', false])

    // No answer is kept anywhere: the next question sees the change.
    await call('/pods/default/web-2', '--request', 'DELETE')
    expect(await ask('web-1', 'web-2', 'A')).toEqual(['NXDOMAIN'])
    await runPod('web-2')
    const [status, address] = await ask('web-1', 'web-2', 'A')
    expect([status, address === web4]).toEqual(['NOERROR', false])
  })
})
