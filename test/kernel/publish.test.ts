import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { Machine, machineObstacle, type DaemonProcess } from './machine.ts'

const obstacle = machineObstacle()
const config = 'dns: { enabled: false }\nservices: { enabled: false }\nhttp: { enabled: false }\n'
const server = `require('node:http').createServer((request, response) => {
  response.end(request.socket.remoteAddress)
}).listen(80)
const udp = require('node:dgram').createSocket('udp6')
udp.on('message', (bytes, from) => udp.send(from.address, from.port, from.address)).bind(53)`

describe.skipIf(obstacle !== undefined)(`fairlead pod run --publish ${obstacle ?? ''}`, () => {
  let machine: Machine
  let daemon: DaemonProcess
  beforeAll(async () => {
    machine = await Machine.create()
    daemon = await machine.startDaemon(config)
    const command = ['--', process.execPath, '-e', server]
    const ports = ['-p', '8080:80', '--publish', '127.0.0.1:8081:80', '-p', '53:53/udp']
    const ran = await machine.fairlead('pod', 'run', 'web', ...ports, ...command)
    expect(ran).toMatchObject({ code: 0 })
    expect(ran.stdout).toContain('*:8080->80/tcp, 127.0.0.1:8081->80/tcp, *:53->53/udp')
    // The process runs; that it listens, only a probe of readiness would say.
    const deadline = performance.now() + patience(10_000)
    while ((await get('http://127.0.0.1:8080')) === undefined && performance.now() < deadline);
  })
  afterAll(() => machine[Symbol.asyncDispose]())

  /** What an HTTP server there answers; undefined when it cannot be reached. */
  async function get(url: string, from: readonly string[] = []): Promise<string | undefined> {
    const script = `fetch(${JSON.stringify(url)}, { signal: AbortSignal.timeout(3000) }).then((r) => r.text()).then(console.log)`
    const { code, stdout } = await machine.run(...from, process.execPath, '-e', script)
    return code === 0 ? stdout.trim() : undefined
  }
  const outside = ['ip', 'netns', 'exec', 'outside']

  test('a published port answers at every address of the machine, ::1 included, and says who asked', async () => {
    const answers = await Promise.all([
      get('http://127.0.0.1:8080'),
      get('http://127.0.0.1:8081'),
      get('http://[::1]:8080'),
      get('http://192.0.2.2:8080', outside),
      get('http://[2001:db8:2::2]:8080', outside),
      get('http://192.0.2.2:8081', outside),
    ])
    const gateway6 = expect.stringMatching(/^fd.*::1$/)
    expect(answers).toEqual([
      '::ffff:172.29.0.1',
      '::ffff:172.29.0.1',
      gateway6,
      '::ffff:192.0.2.1',
      '2001:db8:2::1',
      undefined,
    ])
  })

  test('a UDP port answers at ::1', async () => {
    const ask = `const s = require('node:dgram').createSocket('udp6')
      s.on('message', (b) => { console.log(String(b)); process.exit() }).send('?', 53, '::1')
      setTimeout(() => process.exit(1), 3000)`
    expect((await machine.run(process.execPath, '-e', ask)).stdout).toMatch(/^fd.*::1\n$/)
  })

  test('what is published shows in pod ls, and cannot be published again', async () => {
    expect((await machine.fairlead('pod', 'ls')).stdout).toContain('*:8080->80/tcp,127.0.0.1:8081->80/tcp,*:53->53/udp')
    const again = await machine.fairlead('pod', 'run', 'other', '-p', '8081:80')
    expect(again).toMatchObject({ code: 1 })
    expect(again.stderr).toContain('cannot publish tcp port *:8081: pod default/web has published it as 127.0.0.1:8081')
    const wrong = await machine.fairlead('pod', 'run', 'other', '-p', '80:80:80:80')
    expect(wrong.stderr).toContain('--publish 80:80:80:80: ')
    expect((await machine.fairlead('pod', 'ls')).stdout).not.toContain('other')
  })

  test('a published port outlives kill -9 of the daemon, and goes with its pod', async () => {
    await daemon.end('SIGKILL')
    expect(await get('http://127.0.0.1:8080')).toBe('::ffff:172.29.0.1')
    daemon = await machine.startDaemon(config)
    expect(await get('http://[::1]:8080')).toBeDefined()
    await machine.fairlead('pod', 'rm', 'web')
    expect(await get('http://127.0.0.1:8080')).toBeUndefined()
    expect(await get('http://[::1]:8080')).toBeUndefined()
    expect(daemon.log).not.toContain('"level":50')
  })
})
