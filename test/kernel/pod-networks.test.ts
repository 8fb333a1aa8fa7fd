import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ExecSpec, PodRequest, PodView } from '../../src/daemon/control-api.ts'
import { patience } from '../lab/patience.ts'
import { Machine, machineObstacle, type Ran } from './machine.ts'

const obstacle = machineObstacle()
const server = new URL('../../examples/hello/server.js', import.meta.url).pathname
const serve = (name: string): string[] => [process.execPath, server, name, '8080']

/** For pods of an internal network, and for a pod with IPv6 in its second network only. */
const services = `apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {clusterIP: 10.96.0.81, selector: {app: inside}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {clusterIP: fd00:10:96::82, ipFamilies: [IPv6], selector: {app: six}, ports: [{port: 80, targetPort: 8080}]}
`

/** Over the socket, as the command line would, but without starting it each time. */
async function call<T>(machine: Machine, path: string, body?: object): Promise<T> {
  const data = body ? ['--header', 'content-type: application/json', '--data', JSON.stringify(body)] : []
  const words = ['curl', '-sS', '--unix-socket', '/run/fairlead/control.sock', `http://localhost${path}`]
  return JSON.parse((await machine.run(...words, ...data)).stdout || '{}') as T
}

async function run(machine: Machine, name: string, request: Partial<PodRequest> = {}): Promise<void> {
  expect(await call<PodView>(machine, '/pods', { name, ...request })).toMatchObject({ name })
}

/** `fairlead WORDS...`, which must succeed. */
async function ok(machine: Machine, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await machine.fairlead(...words)
  expect({ words, code, stderr }).toEqual({ words, code: 0, stderr: '' })
  return stdout
}

async function exec(machine: Machine, pod: string, ...argv: readonly string[]): Promise<Ran> {
  return machine.run(...(await call<ExecSpec>(machine, `/pods/default/${pod}/exec`)).argv, ...argv)
}

async function findPod(machine: Machine, name: string): Promise<PodView | undefined> {
  return (await call<{ pods: PodView[] }>(machine, '/pods')).pods.find((pod) => pod.name === name)
}

const fromOutside = async (machine: Machine, url: string): Promise<string> =>
  (await machine.run('ip', 'netns', 'exec', 'outside', 'curl', '-sS', '--max-time', '1', url)).stdout

describe.skipIf(obstacle !== undefined)(`pods in networks${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test(
    'aliases and ports come and go while a pod runs, by each of its networks',
    { timeout: patience(60_000) },
    async () => {
      await using machine = await Machine.create()
      const config = 'networks: [{name: back}, {name: inner, internal: true}]\n'
      const daemon = await machine.startDaemon(config)
      machine.spawn('ip', 'netns', 'exec', 'outside', ...serve('outside'))
      await ok(machine, 'pod', 'run', 'web', '--alias', 'www', '-p', '8080', '--', ...serve('web'))
      await run(machine, 'client')
      await run(machine, 'db', { network: 'back' })
      const dig = async (from: string, name: string): Promise<string> =>
        (
          await exec(machine, from, 'dig', '+short', '+tries=1', '+time=2', '@10.96.0.10', `${name}.`, 'A')
        ).stdout.trim()
      const web = await findPod(machine, 'web')
      expect(await dig('client', 'www')).toBe(web?.ips[0])

      // A second network: another alias, which only the pods there know, and a port that leads in by it.
      const joined = await ok(machine, 'network', 'connect', 'back', 'web', '--alias', 'store', '-p', '8081:8080')
      const back = (await findPod(machine, 'web'))?.connected[0]
      expect(joined).toBe(`pod default/web is in network back: eth1 ${back?.ips.join(', ')}, *:8081->8080/tcp\n`)
      expect([await dig('db', 'store'), await dig('client', 'store')]).toEqual([back?.ips[0], ''])
      const [, first = ''] = /\*:(\d+)->/.exec(web?.published[0] ?? '') ?? []
      for (const host of ['192.0.2.2', '[2001:db8:2::2]']) {
        for (const port of ['8081', first]) {
          await expect
            .poll(() => fromOutside(machine, `http://${host}:${port}/`), { timeout: patience(5000) })
            .toContain('web')
        }
      }
      expect(await ok(machine, 'pod', 'publish', 'web', '127.0.0.1:9090:8080', '9091:8080')).toContain(
        '127.0.0.1:9090->8080/tcp',
      )
      const onNode = async (port: number): Promise<string> =>
        (await machine.run('curl', '-sS', '--max-time', '1', `http://127.0.0.1:${port}/`)).stdout
      expect([await onNode(9090), await fromOutside(machine, 'http://192.0.2.2:9091/')]).toEqual([
        expect.stringContaining('web') as string,
        expect.stringContaining('web') as string,
      ])
      // What 127.0.0.1 needs is kept, whoever changes it.
      const setting = '/proc/sys/net/ipv4/conf/fl0/route_localnet'
      await machine.run('sh', '-c', `echo 0 >${setting}`)
      await expect.poll(async () => (await machine.run('cat', setting)).stdout, { timeout: patience(3000) }).toBe('1\n')
      const taken = await machine.fairlead('pod', 'publish', 'db', '9091:80')
      expect(taken).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('pod default/web has published it') as string,
      })
      await ok(machine, 'pod', 'unpublish', 'web', '9090', '8081')
      expect([await onNode(9090), await fromOutside(machine, 'http://192.0.2.2:8081/')]).toEqual(['', ''])

      // It leaves the network that it was made in; what it has in the other one goes on, over a restart, too.
      await ok(machine, 'network', 'disconnect', 'default', 'web')
      expect(await findPod(machine, 'web')).toMatchObject({
        network: 'back',
        aliases: ['store'],
        connected: [],
        published: [],
      })
      await daemon.end('SIGKILL')
      await machine.startDaemon(config)
      expect([await dig('db', 'store'), await dig('client', 'www')]).toEqual([back?.ips[0], ''])
      const last = await machine.fairlead('network', 'disconnect', 'back', 'web')
      expect(last.stderr).toContain('back is the only network of pod default/web')
      expect((await exec(machine, 'web', 'ip', 'rule')).stdout).not.toContain('26220')
      expect((await exec(machine, 'web', 'curl', '-sS', '--max-time', '1', 'http://192.0.2.1:8080')).stdout).toContain(
        'outside',
      )
    },
  )

  test(
    'Services and DNS work inside internal networks, and lead nobody in or out',
    { timeout: patience(60_000) },
    async () => {
      await using machine = await Machine.create()
      mkdirSync(join(machine.folder, 'manifests'))
      writeFileSync(join(machine.folder, 'manifests', 'services.yaml'), services)
      await machine.startDaemon(`sources: {files: [${join(machine.folder, 'manifests')}]}
networks: [{name: inner, internal: true}, {name: four, ipv6: false}, {name: back}]
`)
      machine.spawn('ip', 'netns', 'exec', 'outside', ...serve('outside'))
      await run(machine, 'in-1', { network: 'inner', labels: { app: 'inside' }, command: serve('in-1') })
      await run(machine, 'in-2', { network: 'inner' })
      await run(machine, 'other')
      const get = async (pod: string | undefined, url: string): Promise<string> => {
        const curl = ['curl', '-sS', '--max-time', '1', url]
        return (await (pod === undefined ? machine.run(...curl) : exec(machine, pod, ...curl))).stdout
      }
      await expect.poll(() => get('in-2', 'http://10.96.0.81/'), { timeout: patience(5000) }).toContain('in-1')
      const reached = {
        byName: await get('in-2', 'http://inside/'),
        itself: await get('in-1', 'http://10.96.0.81/'),
        fromNode: await get(undefined, 'http://10.96.0.81/'),
        otherNetwork: await get('other', 'http://10.96.0.81/'),
        outside: await get('in-2', 'http://192.0.2.1:8080/'),
        otherPod: await get('other', 'http://192.0.2.1:8080/'),
      }
      const yes = (name: string) => expect.stringContaining(name) as string
      expect(reached).toEqual({
        byName: yes('in-1'),
        itself: yes('in-1'),
        fromNode: yes('in-1'),
        otherNetwork: '',
        outside: '',
        otherPod: yes('outside'),
      })

      // A Service of a family that the pod has in its second network only.
      await run(machine, 'dual', { network: 'four', labels: { app: 'six' }, command: serve('dual') })
      await call(machine, '/networks/back/pods', { name: 'dual' })
      await expect.poll(() => get('other', 'http://[fd00:10:96::82]/'), { timeout: patience(5000) }).toContain('dual')
    },
  )

  test(
    'what a pod takes away from its own links is there again within a second',
    { timeout: patience(60_000) },
    async () => {
      await using machine = await Machine.create()
      const daemon = await machine.startDaemon('networks: [{name: back}, {name: hidden, gatewayMode: isolated}]\n')
      for (const name of ['a', 'b']) await run(machine, name)
      for (const network of ['back', 'hidden']) await call(machine, `/networks/${network}/pods`, { name: 'a' })
      const inside = async (): Promise<string[]> => {
        const words = [['-4', 'addr'], ['-6', 'addr'], ['-4', 'route'], ['-6', 'route'], ['rule'], ['-6', 'rule']]
        const script = words.map((line) => `ip -o ${line.join(' ')}`).join(' && ')
        const { stdout } = await exec(machine, 'a', 'sh', '-ec', `${script} && ip -o link`)
        // Link-local addresses are the kernel's, which makes them when a link goes up.
        const lines = stdout.replaceAll(/valid_lft.*|qdisc.*/g, '').split('\n')
        return lines.filter((line) => !line.includes('fe80::')).toSorted()
      }
      const before = await inside()
      const [first, second] = [
        (await findPod(machine, 'a'))?.ips ?? [],
        (await findPod(machine, 'a'))?.connected[0]?.ips ?? [],
      ]
      const changes = [
        `ip addr flush dev eth0`,
        `ip addr del ${second[0]}/32 dev eth1`,
        `ip -6 addr del ${second[1]}/128 dev eth1`,
        `ip addr flush dev eth2`,
        'ip route del default',
        'ip -6 route del default',
        `ip rule del from ${first[0]}`,
        `ip -6 rule del from ${second[1]}`,
        'ip link set eth0 down',
        'ip link set eth1 mtu 1300',
      ]
      for (const change of changes) {
        expect((await exec(machine, 'a', 'sh', '-ec', change)).stderr).toBe('')
        await expect.poll(inside, { timeout: patience(1000), message: change }).toEqual(before)
      }
      const repairs = daemon.log.split('\n').filter((line) => line.includes('Repaired what another program changed'))
      expect(repairs.length).toBeGreaterThanOrEqual(changes.length)
      expect(repairs.every((line) => line.includes('default.a'))).toBe(true)
    },
  )
})
