import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StartedTestContainer } from 'testcontainers'
import { afterAll, describe, expect, test, type TestContext } from 'vitest'
import { DockerEngine, dockerObstacle, NoDockerError } from './docker-engine.ts'
import { Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle() ?? dockerObstacle()
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

const sockets = mkdtempSync(join(tmpdir(), 'fairlead-docker-'))
const socket = join(sockets, 'docker.sock')
afterAll(() => rmSync(sockets, { recursive: true, force: true }))

function config(machine: Machine, dockerUser = 'auto'): string {
  const manifests = join(machine.folder, 'manifests')
  mkdirSync(manifests, { recursive: true })
  writeFileSync(join(manifests, 'web.yaml'), web)
  return `sources: {files: [${manifests}]}\nnetwork: {dockerUser: ${dockerUser}}\n`
}

/** Skips the test where dockerd is installed, but cannot start. */
async function startDocker(machine: Machine, context: TestContext): Promise<DockerEngine> {
  try {
    return await DockerEngine.start(machine, socket)
  } catch (error) {
    if (error instanceof NoDockerError) context.skip(error.message)
    throw error
  }
}

async function runPod(machine: Machine): Promise<void> {
  const words = ['pod', 'run', 'web-1', '--label', 'app=web', '--', process.execPath, server, 'web-1', '8080']
  expect(await machine.fairlead(...words)).toMatchObject({ code: 0 })
  await eventually(async () => {
    const { stdout } = await machine.run('curl', '-sS', '--max-time', '1', 'http://10.96.0.80/')
    expect(stdout).toContain('hello from web-1')
  })
}

/** What everybody gets from everybody, in words. */
async function reached(machine: Machine, container: StartedTestContainer): Promise<Record<string, string>> {
  // nc rather than wget: the one of Debian's busybox-static crashes.
  const fromContainer = async (host: string, port: number): Promise<string> => {
    const script = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 ${host} ${port}`
    const { output } = await container.exec(['sh', '-c', script])
    return output.trim().split('\n').at(-1) ?? ''
  }
  const curl = async (url: string, ...prefix: readonly string[]): Promise<string> => {
    const { stdout, code } = await machine.run(...prefix, 'curl', '-sS', '--max-time', '1', url)
    return stdout.trim() || (code === 7 ? 'refused by the host itself' : `curl exit code ${code}`)
  }
  const fromPod = (url: string) => curl(url, 'ip', 'netns', 'exec', 'fl-default.web-1')
  const fromOutside = (url: string) => curl(url, 'ip', 'netns', 'exec', 'outside')
  const address = container.getIpAddress('bridge')
  const results = {
    'container to Service by address': fromContainer('10.96.0.80', 80),
    'container to Service by name': fromContainer('web.default.svc.cluster.local', 80),
    'container to Service by short name': fromContainer('web', 80),
    'container to node port': fromContainer('192.0.2.2', 30_080),
    'pod to published Docker port': fromPod('http://192.0.2.2:18080/'),
    'pod to unpublished port of a container': fromPod(`http://${address}:8081/`),
    'pod to Service': fromPod('http://10.96.0.80/'),
    'pod to the outside': fromPod('http://192.0.2.1:9/'),
    'outside to node port': fromOutside('http://192.0.2.2:30080/'),
    'outside to published Docker port': fromOutside('http://192.0.2.2:18080/'),
  }
  const entries = Object.entries(results).map(async ([name, result]) => [name, first(await result)] as const)
  return Object.fromEntries(await Promise.all(entries))
}

/** `hello from X`, without the rest of the line. */
function first(text: string): string {
  return /^hello from \w+/.exec(text)?.[0] ?? text
}

const everything = {
  'container to Service by address': 'hello from web',
  'container to Service by name': 'hello from web',
  'container to Service by short name': 'hello from web',
  'container to node port': 'hello from web',
  'pod to published Docker port': 'hello from docker',
  // Whether it is open to others is Docker's to say.
  'pod to unpublished port of a container': 'curl exit code 28',
  'pod to Service': 'hello from web',
  'pod to the outside': 'refused by the host itself',
  'outside to node port': 'hello from web',
  'outside to published Docker port': 'hello from docker',
}

/** The rules as they are, without times and counters. */
async function iptablesRules(machine: Machine): Promise<string> {
  const { stdout } = await machine.run('sh', '-c', 'iptables-save; ip6tables-save')
  return stdout.replaceAll(/^#.*\n/gm, '').replaceAll(/\[\d+:\d+\]/g, '')
}

async function dockerUser(machine: Machine): Promise<string[]> {
  const { stdout } = await machine.run('iptables', '-S', 'DOCKER-USER')
  return stdout.trim().split('\n').slice(1)
}

const wanted = [
  '-A DOCKER-USER -o fl0 -m comment --comment fairlead -j ACCEPT',
  '-A DOCKER-USER -i fl0 -o docker0 -m comment --comment fairlead -j RETURN',
  '-A DOCKER-USER -i fl0 -m comment --comment fairlead -j ACCEPT',
  '-A DOCKER-USER -j RETURN',
]

async function eventually(attempt: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 15_000
  for (;;) {
    try {
      await attempt()
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await sleep(50)
    }
  }
}

describe.skipIf(obstacle !== undefined)(`Docker beside fairlead${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test(
    'fairlead first: each reaches the other, over a new start of Docker, of its rules and of fairlead',
    { timeout: 120_000 },
    async (context) => {
      await using machine = await Machine.create()
      const daemon = await machine.startDaemon(config(machine))
      await runPod(machine)
      await using engine = await startDocker(machine, context)
      const container = await engine.run()
      await eventually(async () => expect(await dockerUser(machine)).toEqual(wanted))
      // Forwarding was on already when Docker came, so it did not set its policy of drop.
      expect(await reached(machine, container)).toEqual({
        ...everything,
        'pod to unpublished port of a container': 'hello from docker',
      })

      await machine.run('iptables', '-P', 'FORWARD', 'DROP')
      // Docker puts its closing RETURN into an empty chain only.
      const flushed = wanted.slice(0, -1)
      await machine.run('iptables', '-F', 'DOCKER-USER')
      await engine.restart()
      await eventually(async () => expect(await dockerUser(machine)).toEqual(flushed))
      expect(await reached(machine, container)).toEqual(everything)

      await daemon.end('SIGKILL')
      await machine.startDaemon(config(machine))
      expect(await reached(machine, container)).toEqual(everything)
      expect(await dockerUser(machine)).toEqual(flushed)
    },
  )

  test(
    "Docker first: other people's rules keep their place, a new network is Docker's, off and cleanup leave Docker's rules byte-identical",
    { timeout: 120_000 },
    async (context) => {
      await using machine = await Machine.create()
      await using engine = await startDocker(machine, context)
      const container = await engine.run()
      const theirs = '-A DOCKER-USER -s 198.51.100.7/32 -i eth0 -j DROP'
      await machine.run('iptables', '-I', ...theirs.split(' ').slice(1))
      const before = await iptablesRules(machine)
      const daemon = await machine.startDaemon(config(machine))
      await runPod(machine)
      await eventually(async () => expect(await dockerUser(machine)).toEqual([theirs, ...wanted]))
      expect(await reached(machine, container)).toEqual(everything)
      expect((await machine.fairlead('doctor')).stdout).toMatch(
        /^ok +forward ip filter FORWARD +policy drop, Docker's/m,
      )

      expect(
        await engine.docker('network', 'create', '-o', 'com.docker.network.bridge.name=other0', 'other'),
      ).toMatchObject({ code: 0 })
      const other = '-A DOCKER-USER -i fl0 -o other0 -m comment --comment fairlead -j RETURN'
      const [accept = '', docker0 = '', ...rest] = wanted
      await eventually(async () => expect(await dockerUser(machine)).toEqual([theirs, accept, docker0, other, ...rest]))
      await engine.docker('network', 'rm', 'other')
      await eventually(async () => expect(await dockerUser(machine)).toEqual([theirs, ...wanted]))

      await daemon.end('SIGTERM')
      const off = await machine.startDaemon(config(machine, 'off'))
      expect(await iptablesRules(machine)).toBe(before)
      expect(await reached(machine, container)).toMatchObject({
        'outside to node port': 'curl exit code 28',
        'pod to the outside': 'curl exit code 28',
        'outside to published Docker port': 'hello from docker',
      })

      await off.end('SIGTERM')
      const again = await machine.startDaemon(config(machine))
      await eventually(async () => expect(await dockerUser(machine)).toEqual([theirs, ...wanted]))
      await again.end('SIGTERM')
      expect(await machine.fairlead('cleanup')).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('removed 3 rules in chain DOCKER-USER of iptables') as string,
      })
      expect(await iptablesRules(machine)).toBe(before)
    },
  )

  test('iptables-legacy: the rules come within seconds, and go with cleanup', { timeout: 120_000 }, async (context) => {
    await using machine = await Machine.create()
    const legacy =
      'mount --bind "$(command -v xtables-legacy-multi)" "$(command -v xtables-nft-multi)" && iptables -t nat -S'
    const { code, stderr } = await machine.run('sh', '-c', legacy)
    if (code !== 0) context.skip(`no iptables-legacy here: ${stderr}`)
    const daemon = await machine.startDaemon(config(machine))
    await runPod(machine)
    await using engine = await startDocker(machine, context)
    const before = (await iptablesRules(machine)).replaceAll(/^-A DOCKER-USER .*fairlead.*\n/gm, '')
    const container = await engine.run()
    await machine.run('iptables', '-P', 'FORWARD', 'DROP')
    await eventually(async () => expect(await dockerUser(machine)).toEqual(wanted))
    expect(await reached(machine, container)).toEqual(everything)
    expect((await machine.fairlead('doctor')).stdout).toMatch(/^note +iptables-legacy +its table filter is in use/m)

    await daemon.end('SIGTERM')
    await container.stop({ timeout: 0 })
    await machine.run('iptables', '-P', 'FORWARD', 'ACCEPT')
    expect(await machine.fairlead('cleanup')).toMatchObject({ code: 0 })
    expect(await iptablesRules(machine)).toBe(before)
  })
})
