import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { PodView } from '../../src/daemon/control-api.ts'
import { patience } from '../lab/patience.ts'
import { DaemonProcess, launcher, Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()
const server = new URL('../../examples/hello/server.js', import.meta.url).pathname

const web = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  clusterIP: 10.96.0.80
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
`

/** What of ours could be in the kernel: names of links, nftables tables and network namespaces. */
async function traces(machine: Machine): Promise<string[]> {
  const { stdout: links } = await machine.run('ip', '-o', 'link')
  const { stdout: tables } = await machine.run('nft', 'list', 'tables')
  const { stdout: namespaces } = await machine.run('ls', '/run/netns')
  return [
    ...links.split('\n').map((line) => line.split(/[:@]/)[1]?.trim() ?? ''),
    ...tables.split('\n'),
    ...namespaces.split('\n'),
  ]
    .filter((name) => name !== '')
    .toSorted()
}

function config(machine: Machine, more = ''): string {
  return `nodeName: node-1\nsources: {files: [${join(machine.folder, 'manifests')}]}\n${more}`
}

function manifest(machine: Machine, name: string, text: string): void {
  mkdirSync(join(machine.folder, 'manifests'), { recursive: true })
  writeFileSync(join(machine.folder, 'manifests', name), text)
}

async function runWebPods(machine: Machine, count: number): Promise<void> {
  for (let i = 1; i <= count; i++) {
    const words = ['pod', 'run', `web-${i}`, '--label', 'app=web', '--', process.execPath, server, `web-${i}`, '8080']
    expect(await machine.fairlead(...words)).toMatchObject({ code: 0 })
  }
}

/** Names of the pods that answer `count` requests made by `prefix` to `url`. */
async function answers(
  machine: Machine,
  url: string,
  options: { count?: number; from?: readonly string[] } = {},
): Promise<Set<string>> {
  const seen = new Set<string>()
  for (let i = 0; i < (options.count ?? 30); i++) {
    const { stdout, stderr } = await machine.run(...(options.from ?? []), 'curl', '-sS', '--max-time', '2', url)
    seen.add(/^hello from (\S+)/.exec(stdout)?.[1] ?? `(${stderr.trim()})`)
  }
  return seen
}

async function eventually<T>(what: string, attempt: () => Promise<T | undefined | false>, ms = 5000): Promise<T> {
  const deadline = Date.now() + patience(ms)
  for (;;) {
    const result = await attempt()
    if (result !== undefined && result !== false) return result
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await sleep(20)
  }
}

describe.skipIf(obstacle !== undefined)(
  `a daemon on a machine of its own${obstacle ? ` (skipped: ${obstacle})` : ''}`,
  () => {
    test.each([0, 1])(
      'fairlead hello --check reaches every pod in every way, and leaves no trace (bridge-nf-call-iptables=%d)',
      { timeout: patience(120_000) },
      async (bridgeNetfilter) => {
        await using machine = await Machine.create()
        // A kernel without br_netfilter has no such setting, and behaves as with 0.
        for (const name of ['iptables', 'ip6tables']) {
          await machine.run('sysctl', '-qw', `net.bridge.bridge-nf-call-${name}=${bridgeNetfilter}`)
        }
        const before = await traces(machine)
        const { code, stdout, stderr } = await machine.fairlead('hello', '--check')
        expect({ code, stdout, stderr }).toMatchObject({
          code: 0,
          stdout: expect.stringContaining('check passed') as string,
        })
        expect(stdout).not.toContain('NOT OK')
        expect(await traces(machine)).toEqual(before)
      },
    )

    test.each([500, 700, 900, 1100])(
      'fairlead hello ended after %d ms leaves no trace and prints no stack trace',
      { timeout: patience(60_000) },
      async (ms) => {
        await using machine = await Machine.create()
        const before = await traces(machine)
        const hello = new DaemonProcess(machine.spawn(launcher, 'hello'))
        await sleep(patience(ms))
        await hello.end('SIGINT')
        expect(hello.log).not.toMatch(/^\s+at |AbortError/m)
        expect(await traces(machine)).toEqual(before)
      },
    )

    test(
      'kill -9 and a new start: pods, leases and open connections live on, nothing is leaked',
      { timeout: patience(120_000) },
      async () => {
        await using machine = await Machine.create()
        manifest(machine, 'web.yaml', web)
        const first = await machine.startDaemon(config(machine))
        await runWebPods(machine, 3)
        await eventually('all three answer', async () => (await answers(machine, 'http://10.96.0.80/')).size === 3)
        const pods = await podList(machine)
        const there = await traces(machine)

        // A connection from outside through the NodePort that stays open over the whole test, one request a moment.
        const script = `import {Agent, get} from 'node:http'
      const agent = new Agent({keepAlive: true, maxSockets: 1})
      const ask = () => get({host: '192.0.2.2', port: 30080, agent}, (r) => { r.on('data', (d) => console.log(r.socket.localPort, String(d))); r.on('end', () => setTimeout(ask, 20)) }).on('error', (e) => { console.log('error', e.message); process.exit(1) })
      ask()`
        const client = machine.spawn(
          'ip',
          'netns',
          'exec',
          'outside',
          process.execPath,
          '--input-type=module',
          '-e',
          script,
        )
        let log = ''
        client.stdout?.on('data', (chunk: Buffer) => (log += chunk.toString()))
        await eventually('the client is answered', async () => log.includes('hello'))

        await first.end('SIGKILL')
        expect(await answers(machine, 'http://10.96.0.80/', { count: 10 })).not.toContain('()')
        const second = await machine.startDaemon(config(machine))
        const status = await machine.status()
        expect(status?.services?.firstSync?.elements, 'elements sent by the new daemon').toBe(0)
        expect(await podList(machine)).toEqual(pods)
        expect(await traces(machine)).toEqual(there)
        const length = log.length
        await eventually('the old connection goes on', async () => log.length > length + 100)
        expect(log).not.toContain('error')
        expect(new Set(log.match(/^\d+ /gm)).size, 'one client port: the connection is the same').toBe(1)

        expect(await machine.fairlead('pod', 'rm', 'web-1', 'web-2', 'web-3')).toMatchObject({ code: 0 })
        client.kill('SIGKILL')
        expect((await traces(machine)).filter((name) => /^(flv|fl-)/.test(name))).toEqual([])
        await second.end('SIGTERM')
      },
    )

    test(
      'SIGTERM leaves the dataplane working; cleanup without any state file removes it all',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        const before = await traces(machine)
        manifest(machine, 'web.yaml', web)
        const daemon = await machine.startDaemon(config(machine))
        await runWebPods(machine, 2)
        await eventually('both answer', async () => (await answers(machine, 'http://10.96.0.80/')).size === 2)
        expect(await machine.fairlead('cleanup')).toMatchObject({
          code: 1,
          stderr: expect.stringContaining('a daemon runs') as string,
        })
        expect(await daemon.end('SIGTERM')).toBe(0)
        expect(await answers(machine, 'http://10.96.0.80/')).toEqual(new Set(['web-1', 'web-2']))
        await machine.run('sh', '-c', 'rm -rf /var/lib/fairlead/*')
        expect(await machine.fairlead('cleanup')).toMatchObject({
          code: 0,
          stdout: expect.stringContaining('fl0') as string,
        })
        expect(await traces(machine)).toEqual(before)
      },
    )

    test('--cleanup-on-exit removes everything at SIGTERM', { timeout: patience(60_000) }, async () => {
      await using machine = await Machine.create()
      const before = await traces(machine)
      const daemon = await machine.startDaemon(
        config(machine, 'sources: {files: []}\n').replace(/^sources.*manifests.*\n/m, ''),
        '--cleanup-on-exit',
      )
      await runWebPods(machine, 1)
      expect(await daemon.end('SIGTERM')).toBe(0)
      expect(await traces(machine)).toEqual(before)
    })

    test(
      'what another program destroys is repaired within a second, and the log says what',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        manifest(machine, 'web.yaml', web)
        const daemon = await machine.startDaemon(config(machine))
        await runWebPods(machine, 1)
        await eventually('it answers', async () =>
          (await answers(machine, 'http://10.96.0.80/', { count: 1 })).has('web-1'),
        )
        const rules = await machine.run('nft', '-s', 'list', 'ruleset')
        await machine.run('nft', 'flush', 'ruleset')
        await eventually(
          'the ruleset is back',
          async () => (await machine.run('nft', '-s', 'list', 'ruleset')).stdout.length === rules.stdout.length,
          1000,
        )
        await eventually(
          'it answers again',
          async () => (await answers(machine, 'http://10.96.0.80/', { count: 1 })).has('web-1'),
          1000,
        )
        await eventually('the log says so', async () => /[Rr]epaired/.test(daemon.log), 1000)
        expect((await machine.status())?.services?.repairs).toBeGreaterThan(0)
      },
    )

    test(
      'bad manifests are reported with place, value and reason, and the rest is served',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        manifest(machine, 'a-web.yaml', web)
        const daemon = await machine.startDaemon(config(machine))
        await runWebPods(machine, 1)
        manifest(machine, 'broken.yaml', 'apiVersion: v1\nkind: Service\nmetadata: {name: [}\n')
        manifest(
          machine,
          'port.yaml',
          web
            .replace('name: web', 'name: port')
            .replace('10.96.0.80', '10.96.0.81')
            .replace('port: 80,', 'port: 70000,')
            .replace(', nodePort: 30080', ''),
        )
        manifest(
          machine,
          'slice.yaml',
          `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: other}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [db.example.org]}, {addresses: [10.1.1.1]}]\n`,
        )
        manifest(machine, 'twin.yaml', web.replace('name: web', 'name: web-twin').replace(', nodePort: 30080', ''))
        const status = await eventually('all four are reported', async () => {
          const now = await machine.status()
          const lines = [...(now?.sources.problems ?? []), ...(now?.services?.problems ?? [])].join('\n')
          return lines.includes('broken.yaml') &&
            lines.includes('70000') &&
            lines.includes('db.example.org') &&
            lines.includes('web-twin')
            ? now
            : undefined
        })
        const problems = [...status.sources.problems, ...(status.services?.problems ?? [])]
        expect(problems.find((line) => line.includes('port.yaml'))).toMatch(
          /Service default\/port: spec\.ports\[0\]\.port: 70000 is not a port/,
        )
        expect(problems.find((line) => line.includes('slice.yaml'))).toMatch(
          /endpoints\[0\]\.addresses\[0\].*db\.example\.org/,
        )
        expect(problems.find((line) => line.includes('web-twin'))).toMatch(/10\.96\.0\.80.*default\/web\b/)
        await eventually('the pod listens', async () =>
          (await answers(machine, 'http://10.96.0.80/', { count: 1 })).has('web-1'),
        )
        expect(await answers(machine, 'http://10.96.0.80/', { count: 3 })).toEqual(new Set(['web-1']))
        expect(daemon.log).toContain('70000')
      },
    )

    const refused: [string, (machine: Machine) => Promise<{ code: number; stderr: string }>, RegExp][] = [
      [
        'a config key with a typo',
        (m) => m.fairlead('run', '--config', m.write('c.yaml', 'netwrok: {}\n')),
        /netwrok: unknown key \(did you mean network\?\)/,
      ],
      [
        'a subnet that overlaps a route',
        (m) => m.fairlead('run', '--config', m.write('c.yaml', 'network: {subnets: [192.0.2.0/25]}\n')),
        /192\.0\.2\.0\/25.*overlaps.*192\.0\.2\.0\/24.*eth0/,
      ],
      [
        'a configuration that is not there',
        (m) => m.fairlead('run', '--config', '/nonexistent.yaml'),
        /cannot read \/nonexistent\.yaml: ENOENT/,
      ],
      ['an empty path', (m) => m.fairlead('run', '--files', ''), /--files is empty \(expected a path\)/],
      [
        'a control socket with a path that is too long',
        (m) => m.fairlead('run', '--socket', `/tmp/${'x'.repeat(120)}`),
        /controlSocket: cannot listen on \/tmp\/x+: the path is longer than 107 bytes/,
      ],
      [
        'a user who is not root',
        (m) => m.run('setpriv', '--reuid=65534', '--clear-groups', launcher, 'run'),
        /needs root/,
      ],
      [
        'a machine whose nf_tables cannot be used',
        (m) => m.run('setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', launcher, 'run'),
        /nf_tables cannot be used: .*CAP_NET_ADMIN.*fairlead doctor/,
      ],
    ]
    test.each(refused)(
      'fairlead run refuses %s, and changes nothing',
      { timeout: patience(30_000) },
      async (_, start, message) => {
        await using machine = await Machine.create()
        const before = await traces(machine)
        const { code, stderr } = await start(machine)
        expect(stderr).toMatch(message)
        expect(stderr).not.toMatch(/^\s+at /m)
        expect(code).not.toBe(0)
        expect(await traces(machine)).toEqual(before)
      },
    )

    test(
      'waits for a folder that is not there, says so, and serves once it is',
      { timeout: patience(30_000) },
      async () => {
        await using machine = await Machine.create()
        machine.spawn(launcher, 'run', '--config', machine.write('c.yaml', config(machine)))
        const readyz = async () => (await machine.run('curl', '-s', 'http://127.0.0.1:10249/readyz')).stdout
        // Its whole start is in this, with keys and certificates of the API.
        await eventually(
          'it says what it waits for',
          async () => /^waiting for the first complete list of files \S+\/manifests$/m.test(await readyz()),
          15_000,
        )
        manifest(machine, 'web.yaml', web)
        await eventually('it is ready', async () => (await readyz()) === 'ok\n')
      },
    )

    test(
      'a Service cannot take the addresses of the DNS server and the bridge, or loopback',
      { timeout: patience(30_000) },
      async () => {
        await using machine = await Machine.create()
        const taken = { dns: '10.96.0.10', gateway: '172.20.0.1', loopback: '127.0.0.1' }
        for (const [name, ip] of Object.entries(taken))
          manifest(machine, `${name}.yaml`, web.replace('name: web', `name: ${name}`).replace('10.96.0.80', ip))
        await machine.startDaemon(config(machine, 'network: {subnets: [172.20.0.0/24]}\n'))
        const status = await machine.status()
        const problems = [...(status?.sources.problems ?? []), ...(status?.services?.problems ?? [])]
        for (const ip of Object.values(taken)) expect(problems.join('\n')).toContain(ip)
        const { stdout } = await machine.run('dig', '+short', '@10.96.0.10', 'gateway.default.svc.cluster.local')
        expect(stdout.trim()).toBe('172.20.0.1')
      },
    )

    test(
      'a full disk is named, keeps no pod from going, and no daemon from its next start',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        const daemon = await machine.startDaemon('{}')
        await runWebPods(machine, 2)
        const fill =
          'mount -o remount,size=2m /var/lib/fairlead; head -c 4000000 /dev/zero >/var/lib/fairlead/fill; true'
        await machine.run('sh', '-c', fill)
        expect(await machine.fairlead('pod', 'run', 'late')).toMatchObject({
          code: 1,
          stderr: expect.stringMatching(
            /cannot make pod default\/late: cannot write \S+pod\.json: no space left/,
          ) as string,
        })
        expect(await machine.fairlead('pod', 'rm', 'web-1')).toMatchObject({ code: 0 })
        expect((await podList(machine)).map(({ name }) => name)).toEqual(['web-2'])
        expect((await traces(machine)).filter((name) => name.startsWith('fl-'))).toEqual(['fl-default.web-2'])

        await daemon.end('SIGKILL')
        await machine.run('sh', '-c', fill)
        const { code, stderr } = await machine.fairlead('run')
        expect({ code, stderr }).toMatchObject({
          code: 1,
          stderr: expect.stringMatching(/^fairlead: cannot write \/var\/lib\/fairlead\/\S+: no space left/m) as string,
        })
        expect(stderr).not.toMatch(/^\s+at /m)

        await machine.run('rm', '/var/lib/fairlead/fill')
        await machine.startDaemon('{}')
        expect((await podList(machine)).map(({ name }) => name)).toEqual(['web-2'])
      },
    )

    test(
      'pod exec passes exit codes and signals on; wrong calls exit with 2 and are no errors of the daemon',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        const daemon = await machine.startDaemon('log: {level: warn}\n')
        await machine.fairlead('pod', 'run', 'shell')
        expect(await machine.fairlead('pod', 'exec', 'shell', '--', 'sh', '-c', 'exit 42')).toMatchObject({ code: 42 })
        expect(await machine.fairlead('pod', 'exec', 'shell')).toMatchObject({ code: 2 })
        expect(await machine.fairlead('pod', 'run', 'x', 'sleep', '--bogus')).toMatchObject({ code: 2 })
        const script = 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done'
        const exec = new DaemonProcess(machine.spawn(launcher, 'pod', 'exec', 'shell', '--', 'sh', '-c', script))
        await eventually('the command runs', async () => exec.log.includes('ready'))
        expect(await exec.end('SIGTERM')).toBe(7)

        expect(await machine.fairlead('pod', 'run', 'lost', '--network', 'nope')).toMatchObject({ code: 1 })
        const socket = ['--unix-socket', '/run/fairlead/control.sock']
        const { stdout } = await machine.run(
          'curl',
          '-s',
          '-w',
          '%{http_code}',
          ...socket,
          'http://x/pods/default/%ZZ/exec',
        )
        expect(stdout).toMatch(/400$/)
        expect(daemon.log).toBe('')
      },
    )

    test('a second daemon is refused while the first goes on', { timeout: patience(30_000) }, async () => {
      await using machine = await Machine.create()
      await machine.startDaemon('{}')
      const { code, stderr } = await machine.fairlead('run', '--config', machine.write('second.yaml', '{}'))
      expect({ code, stderr }).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('another daemon answers on') as string,
      })
      expect((await machine.status())?.ready).toBe(true)
    })

    test(
      'pod logs shows what a command printed, and hello keeps away from the pods of a daemon',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        const daemon = await machine.startDaemon('{}')
        await machine.fairlead('pod', 'run', 'talker', '--', 'sh', '-c', 'echo out; echo err >&2; exec sleep 1000')
        const logs = await eventually('both lines are there', async () => {
          const { stdout } = await machine.fairlead('pod', 'logs', 'talker')
          return stdout.includes('err') ? stdout : undefined
        })
        expect(logs).toBe('out\nerr\n')
        expect(await machine.fairlead('pod', 'logs', 'nobody')).toMatchObject({
          code: 1,
          stderr: 'fairlead: there is no pod default/nobody\n',
        })
        await daemon.end('SIGTERM')
        const { code, stderr } = await machine.fairlead('hello', '--check')
        expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('default.talker') as string })
        expect((await traces(machine)).some((name) => name.includes('talker'))).toBe(true)
      },
    )

    test(
      'names resolve from a pod and from the node, and the HTTP routes answer',
      { timeout: patience(60_000) },
      async () => {
        await using machine = await Machine.create()
        manifest(machine, 'web.yaml', web)
        await machine.startDaemon(config(machine))
        await runWebPods(machine, 2)
        await eventually('by name', async () => {
          const { stdout } = await machine.fairlead(
            'pod',
            'exec',
            'web-1',
            '--',
            'curl',
            '-sS',
            '--max-time',
            '2',
            'http://web',
          )
          return stdout.startsWith('hello from web-')
        })
        const { stdout } = await machine.run('dig', '+short', '@10.96.0.10', 'web.default.svc.cluster.local')
        expect(stdout.trim()).toBe('10.96.0.80')
        const { stdout: negative } = await machine.run('dig', '@10.96.0.10', 'nothing.default.svc.cluster.local')
        expect(negative).toMatch(/status: NXDOMAIN/)
        expect(negative).toMatch(/IN\s+SOA/)
        for (const [path, expected] of [
          ['/healthz', 'ok'],
          ['/readyz', 'ok'],
          ['/metrics', 'fairlead_ready 1'],
        ]) {
          const answer = await machine.run('curl', '-sS', `http://127.0.0.1:10249${path}`)
          expect(answer.stdout).toContain(expected)
        }
        const { stdout: mode } = await machine.run('stat', '-c', '%a', '/run/fairlead/control.sock')
        expect(mode.trim()).toBe('600')
      },
    )
  },
)

async function podList(machine: Machine): Promise<PodView[]> {
  return JSON.parse((await machine.fairlead('pod', 'ls', '--json')).stdout) as PodView[]
}
