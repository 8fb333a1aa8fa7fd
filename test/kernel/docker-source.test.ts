import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { DockerEngine, dockerObstacle, NoDockerError } from './docker-engine.ts'
import { Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle() ?? dockerObstacle()
const sockets = mkdtempSync(join(tmpdir(), 'fairlead-docker-'))
const socket = join(sockets, 'docker.sock')
afterAll(() => rmSync(sockets, { recursive: true, force: true }))

const image = 'fairlead-test/busybox:1'
/** What is promised: up and down within a second. Twice that where others use the machine, too. */
const promiseMs = 2000

function config(machine: Machine): string {
  const manifests = join(machine.folder, 'manifests')
  mkdirSync(manifests, { recursive: true })
  // An object of the files counts before that of a label.
  writeFileSync(
    join(manifests, 'taken.yaml'),
    'apiVersion: v1\nkind: Service\nmetadata: {name: taken}\nspec: {clusterIP: 10.96.7.7, ports: [{port: 80}]}\n',
  )
  return `sources: {files: [${manifests}], docker: {enabled: true, socket: 'unix://${socket}'}}\napi: {enabled: false}\n`
}

/** A container whose web server, on port 8080, says the name. */
async function run(engine: DockerEngine, name: string, ...words: readonly string[]): Promise<void> {
  const script = `mkdir /www; echo hello from ${name} >/www/index.html; exec httpd -f -p 8080 -h /www`
  const stop = ['--stop-signal=SIGKILL']
  const ran = await engine.docker('run', '-d', '--name', name, ...stop, ...words, image, '/bin/sh', '-c', script)
  expect(ran).toMatchObject({ code: 0 })
}

/** Tries until it holds, and returns after how many ms it did. */
async function within(ms: number, attempt: () => Promise<void>): Promise<number> {
  const begin = performance.now()
  for (;;) {
    const tried = performance.now() - begin
    try {
      await attempt()
      return tried
    } catch (error) {
      if (tried > ms) throw error
      await sleep(20)
    }
  }
}

const curlCodes: Readonly<Record<number, string>> = { 7: 'refused', 28: 'timed out' }

/** What the server there says, or why it says nothing. */
async function answers(machine: Machine, url: string): Promise<string> {
  const { code, stdout } = await machine.run('curl', '-sS', '--max-time', '1', url)
  return code === 0 ? stdout.trim() : (curlCodes[code ?? -1] ?? `curl: ${code}`)
}

/** What the daemon's DNS server says, sorted. */
async function addressesOf(machine: Machine, name: string): Promise<string[]> {
  const { stdout } = await machine.run('dig', '+short', '+tries=1', '+time=1', '@10.96.0.10', name, 'A')
  return stdout.split('\n').filter(Boolean).toSorted()
}

describe.skipIf(obstacle !== undefined)(`sources.docker${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  test(
    'sources.docker: labelled containers have a VIP and names within a second, over health, restarts of dockerd and of the daemon',
    { timeout: 120_000 },
    async (context) => {
      await using machine = await Machine.create()
      let engine: DockerEngine
      try {
        engine = await DockerEngine.start(machine, socket)
      } catch (error) {
        if (error instanceof NoDockerError) context.skip(error.message)
        throw error
      }
      await using _ = engine
      const daemon = await machine.startDaemon(config(machine))

      const compose = (project: string, service: string): string[] => [
        '--label=com.docker.compose.project=' + project,
        '--label=com.docker.compose.service=' + service,
      ]
      await engine.docker('network', 'create', '--ipv6', '--subnet=fd00:77::/64', 'shop_default')
      const web = ['--network=shop_default', '--label=fairlead.port=80:8080', ...compose('shop', 'web')]
      await run(engine, 'shop_web_1', ...web)
      const name = 'web.shop.svc.cluster.local'
      const up = await within(promiseMs, async () => expect(await addressesOf(machine, name)).toHaveLength(1))
      const [vip = ''] = await addressesOf(machine, name)
      expect(vip).toMatch(/^10\./)
      await within(promiseMs, async () =>
        expect(await answers(machine, `http://${vip}/`)).toBe('hello from shop_web_1'),
      )
      const six = (await machine.run('dig', '+short', '@10.96.0.10', name, 'AAAA')).stdout.trim()
      // The kernel makes sure for a second that nobody else has the container's IPv6 address.
      await within(promiseMs, async () =>
        expect(await answers(machine, `http://[${six}]/`)).toBe('hello from shop_web_1'),
      )

      // Docker drops what its own rules do not name: connections to the Service come through, others do not.
      await machine.run('iptables', '-P', 'FORWARD', 'DROP')
      expect(await machine.fairlead('pod', 'run', 'client')).toMatchObject({ code: 0 })
      const fromPod = (url: string) =>
        machine.run('ip', 'netns', 'exec', 'fl-default.client', 'curl', '-s', '--max-time', '1', url)
      const labels = [...compose('shop', 'node'), '--label=fairlead.port=80:8080', '--label=fairlead.node-port=30080']
      await run(engine, 'shop_node_1', '--network=shop_default', ...labels)
      const outside = ['ip', 'netns', 'exec', 'outside', 'curl', '-s', '--max-time', '1', 'http://192.0.2.2:30080/']
      await within(promiseMs, async () =>
        expect((await machine.run(...outside)).stdout.trim()).toBe('hello from shop_node_1'),
      )
      expect((await fromPod(`http://${vip}/`)).stdout.trim()).toBe('hello from shop_web_1')
      const { stdout: own } = await engine.docker(
        'inspect',
        '--format={{.NetworkSettings.Networks.shop_default.IPAddress}}',
        'shop_web_1',
      )
      expect((await fromPod(`http://${own.trim()}:8080/`)).code).toBe(28)
      await engine.docker('network', 'create', 'elsewhere')
      await run(engine, 'stranger', '--network=elsewhere')
      const ask = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 ${vip} 80`
      expect((await engine.docker('exec', 'stranger', 'sh', '-c', ask)).stdout).toContain('hello from shop_web_1')

      // A second one is in rotation at once, one that is unhealthy or paused is not.
      const health = ['--health-cmd=test -e /www/ok', '--health-interval=200ms', '--health-retries=1']
      await run(engine, 'shop_web_2', ...web, ...health)
      // A few at a time: httpd of busybox has a backlog of nine, and a SYN too many is asked again only after a second.
      const eight = () => Promise.all(Array.from({ length: 8 }, () => answers(machine, `http://${vip}/`)))
      const both = async (): Promise<Set<string>> => new Set([...(await eight()), ...(await eight())])
      const one = new Set(['hello from shop_web_1'])
      const two = new Set(['hello from shop_web_1', 'hello from shop_web_2'])
      expect(await both()).toEqual(one)
      await engine.docker('exec', 'shop_web_2', 'sh', '-c', ': >/www/ok')
      await within(promiseMs, async () => expect(await both()).toEqual(two))
      await engine.docker('pause', 'shop_web_2')
      await within(promiseMs, async () => expect(await both()).toEqual(one))
      await engine.docker('unpause', 'shop_web_2')
      await within(promiseMs, async () => expect(await both()).toEqual(two))

      // Headless, in a namespace of its own; and what cannot be is said, and harms nobody.
      await run(
        engine,
        'db',
        '--label=fairlead.service=db',
        '--label=fairlead.cluster-ip=None',
        '--label=fairlead.port=8080',
      )
      const headless = 'db.default.svc.cluster.local'
      await within(promiseMs, async () => expect(await addressesOf(machine, headless)).toHaveLength(1))
      const [direct = ''] = await addressesOf(machine, headless)
      expect(await answers(machine, `http://${direct}:8080/`)).toBe('hello from db')
      await run(engine, 'wrong', '--label=fairlead.service=wrong', '--label=fairlead.port=http')
      await run(engine, 'other', '--label=fairlead.service=taken', '--label=fairlead.port=80:8080')
      await within(promiseMs, async () => expect((await problems(machine)).join('\n')).toMatch(/wrong[\s\S]*taken/))
      expect(await problems(machine)).toEqual([
        expect.stringMatching(/container wrong: fairlead.port: "http" is not a port \(expected/),
        expect.stringMatching(/Service default\/taken: is already defined by files .*, which counts$/),
      ])

      // Names go with the last container, and the Service waits for one that is only stopped.
      const down = await timed(machine, async () => await engine.docker('rm', '-f', 'db'), headless)
      await engine.docker('stop', 'shop_web_2')
      await within(promiseMs, async () => expect(await both()).toEqual(one))
      await engine.docker('stop', 'shop_web_1')
      await within(promiseMs, async () => expect((await machine.run('curl', '-s', `http://${vip}/`)).code).toBe(7))
      expect(await addressesOf(machine, name)).toEqual([vip])
      await engine.docker('start', 'shop_web_1')
      await within(promiseMs, async () => expect(await both()).toEqual(one))

      // dockerd away: all stays. What changes meanwhile is there after it is back.
      const { stdout: pid } = await engine.docker('inspect', '--format={{.State.Pid}}', 'shop_web_1')
      await engine.stop()
      await within(promiseMs, async () => expect((await sourceLine(machine))?.connected).toBe(false))
      expect(await both()).toEqual(one)
      await machine.run('kill', '-9', pid.trim())
      await engine.restart()
      await within(5000, async () => expect((await sourceLine(machine))?.connected).toBe(true))
      await within(promiseMs, async () => expect(await both()).toEqual(new Set(['refused'])))
      await engine.docker('start', 'shop_web_1', 'shop_web_2')
      await within(promiseMs, async () => expect(await both()).toEqual(two))

      await daemon.end('SIGKILL')
      await engine.docker('rm', '-f', 'shop_web_1')
      await machine.startDaemon(config(machine))
      expect(await addressesOf(machine, name)).toEqual([vip])
      await within(promiseMs, async () => expect(await both()).toEqual(new Set(['hello from shop_web_2'])))
      console.log(
        `docker: a name is there ${up.toFixed(0)} ms after "docker run", and gone ${down.toFixed(0)} ms after "docker rm"`,
      )
      expect(up).toBeLessThan(promiseMs)
    },
  )
})

async function problems(machine: Machine): Promise<readonly string[]> {
  return (await machine.status())?.sources.problems ?? []
}

async function sourceLine(machine: Machine) {
  const list = (await machine.status())?.sources.list ?? []
  return list.flatMap(({ resources }) => resources).find(({ resource }) => resource === 'containers')
}

/** How long after `work` the name has no address any more. */
async function timed(machine: Machine, work: () => Promise<unknown>, name: string): Promise<number> {
  await work()
  return await within(promiseMs, async () => expect(await addressesOf(machine, name)).toEqual([]))
}
