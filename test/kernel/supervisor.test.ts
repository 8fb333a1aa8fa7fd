import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { bindSocket, receiveFrom, socket } from '../../src/linux/libc.ts'
import { unixAddress } from '../../src/linux/notify-socket.ts'
import { patience } from '../lab/patience.ts'
import { DaemonProcess, launcher, Machine, machineObstacle, sleep } from './machine.ts'

const obstacle = machineObstacle()

/** What systemd's end of NOTIFY_SOCKET gets. */
class Notifications implements Disposable {
  readonly path: string
  readonly received: string[] = []
  readonly #fd = socket(1, 2 | 0o4000, 0)

  constructor(path: string) {
    this.path = path
    bindSocket(this.#fd, unixAddress(path))
  }

  /** Resolves with everything so far, once an assignment came. */
  async until(assignment: string): Promise<readonly string[]> {
    const deadline = performance.now() + patience(30_000)
    while (!this.received.includes(assignment)) {
      const bytes = Buffer.alloc(4096)
      const length = receiveFrom(this.#fd, bytes, Buffer.alloc(128))
      if (length !== undefined) this.received.push(...bytes.toString('utf8', 0, length).split('\n'))
      else if (performance.now() > deadline) throw new Error(`no ${assignment}: ${this.received.join(' ')}`)
      else await sleep(5)
    }
    return this.received.splice(0)
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

const service = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.80, ports: [{port: 80}]}
`
const config = (more = ''): string => `api: {enabled: false}\nsources: {files: [objects.yaml]}\n${more}`

describe.skipIf(obstacle)(`fairlead run under a service supervisor ${obstacle ?? ''}`, () => {
  test('says READY=1 when names and rules are there, reloads on demand, feeds the watchdog, and says STOPPING=1', async (context) => {
    if (obstacle) return context.skip(obstacle)
    await using machine = await Machine.create()
    using supervisor = new Notifications(join(machine.folder, 'notify'))
    machine.write('objects.yaml', service)
    const file = machine.write('fairlead.yaml', config())
    const environment = [`NOTIFY_SOCKET=${supervisor.path}`, 'WATCHDOG_USEC=1000000']
    const daemon = new DaemonProcess(machine.spawn('env', ...environment, launcher, 'run', '--config', file))

    const start = await supervisor.until('READY=1')
    expect(start).toContain('STATUS=waiting for start')
    expect(start).not.toContain('WATCHDOG=1')
    const [answer, rules] = await Promise.all([
      machine.run('dig', '+short', '+time=1', '+tries=1', '@10.96.0.10', 'web.default.svc.cluster.local'),
      machine.run('nft', 'list', 'ruleset'),
    ])
    expect(answer.stdout).toBe('10.96.0.80\n')
    expect(rules.stdout).toContain('10.96.0.80')
    await supervisor.until('WATCHDOG=1')
    await supervisor.until('WATCHDOG=1')

    machine.write('fairlead.yaml', config('services: {masqueradeAll: 1}\n'))
    const refused = await machine.fairlead('reload')
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/the configuration before goes on: .*services\.masqueradeAll: 1/)
    const after = await supervisor.until('RELOADING=1')
    expect([...after, ...(await supervisor.until('READY=1'))].join(' ')).toMatch(/MONOTONIC_USEC=\d+/)

    machine.write('fairlead.yaml', config('services: {masqueradeAll: true}\nhttp: {listen: 127.0.0.1:1}\n'))
    const taken = await machine.fairlead('reload', '--json')
    expect(JSON.parse(taken.stdout)).toEqual({ later: ['http'] })
    expect((await machine.fairlead('reload')).stdout).toContain('waits for the next start: http')

    expect(await daemon.end('SIGTERM')).toBe(0)
    await supervisor.until('STOPPING=1')
  })
})
