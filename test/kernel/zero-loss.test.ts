import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { patience } from '../lab/patience.ts'
import { machineObstacle, sleep, type DaemonProcess } from './machine.ts'
import {
  describeStorm,
  elsewhere,
  podAddresses,
  service,
  slice,
  StormMachine,
  type StormEndpoint,
  type StormResult,
} from './storm-machine.ts'

/*
 * What a change costs those who connect meanwhile: nothing. Two clients (a neighbour and a pod) keep connecting to a cluster IP
 * and a node port, and keep 25 connections each, while endpoints come and go, while the daemon restarts or is killed, and while
 * the mode changes. In the userspace mode the daemon carries the bytes, so its end ends connections: its probe says so.
 *
 * FAIRLEAD_LOSS_SERVICES=10000 is the same among 10,000 Services, FAIRLEAD_LOSS_TOOLS=legacy or =nft with that kind of iptables tools.
 */
const obstacle = machineObstacle()
const services = Number(process.env['FAIRLEAD_LOSS_SERVICES'] ?? 2000)
const tools = process.env['FAIRLEAD_LOSS_TOOLS']
const limit = patience(120_000 + services * 60)

const modes = ['nftables', 'iptables', 'userspace'] as const

describe.skipIf(obstacle !== undefined)(`zero loss${obstacle ? ` (skipped: ${obstacle})` : ''}`, () => {
  let storm: StormMachine
  let daemon: DaemonProcess

  beforeAll(async () => {
    storm = await StormMachine.create(services)
    // kubelet's chain decides which tools are used.
    if (tools) await storm.machine.run(`iptables-${tools}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
  }, limit)
  // One that goes on would follow the configuration of the next.
  afterEach(() => daemon.end('SIGKILL'))
  afterAll(() => storm[Symbol.asyncDispose]())

  /** An iptables mode that nothing came before keeps connections by its own chains. */
  const held = (mode: string): unknown =>
    expect.toBeOneOf(mode === 'iptables' ? [[mode], [mode, 'anchor']] : [[mode, 'anchor']])
  const report = (what: string, result: StormResult): void => {
    console.log(`zero loss, ${services} Services, ${what}: ${describeStorm(result)}`)
    expect.soft(result.connects, `new connections: ${what}`).toBeGreaterThan(50)
    expect.soft(result.exchanges, `answers over long connections: ${what}`).toBeGreaterThan(50)
  }
  const expectNone = (what: string, result: StormResult): void => {
    report(what, result)
    expect.soft({ failed: result.failed, broken: result.broken }, what).toEqual({ failed: [], broken: [] })
  }

  test.each(modes)(
    'in mode %s: endpoints come and go, the daemon restarts, and is killed',
    { timeout: limit },
    async (mode) => {
      // From the second mode on, this start also takes over from the mode before.
      const start = async (): Promise<void> => void (daemon = await storm.startDaemon(mode))
      await start()
      await expect
        .poll(() => storm.traces(), { timeout: patience(30_000 + services * 10), interval: 200 })
        .toEqual(held(mode))

      expectNone(`mode ${mode}, churn of endpoints`, await storm.during(() => churn(storm)))

      for (const [signal, what] of [
        ['SIGTERM', 'restart of the daemon'],
        ['SIGKILL', 'kill -9 and start'],
      ] as const) {
        const result = await storm.during(async () => {
          await daemon.end(signal)
          await start()
        })
        if (mode !== 'userspace') expectNone(`mode ${mode}, ${what}`, result)
        else {
          report(`mode ${mode}, ${what}`, result)
          const [begin, end] = result.during
          const late = result.failed.filter(({ at, until }) => until < begin || at > end)
          expect.soft(late, 'failed although the daemon runs').toEqual([])
        }
      }
      await daemon.end('SIGTERM')
    },
  )

  test('the mode is switched: iptables, nftables, userspace, iptables', { timeout: limit }, async () => {
    daemon = await storm.startDaemon('iptables')
    await expect
      .poll(() => storm.traces(), { timeout: patience(30_000 + services * 10), interval: 200 })
      .toEqual(held('iptables'))
    const seen: (readonly string[])[] = []
    const times: string[] = []
    const result = await storm.during(async () => {
      for (const mode of ['nftables', 'userspace', 'iptables']) {
        const begin = Date.now()
        expect(await storm.machine.fairlead('mode', 'set', mode)).toMatchObject({ code: 0, stdout: `${mode}\n` })
        times.push(`${mode} in ${Date.now() - begin} ms`)
        seen.push(await storm.traces())
      }
    })
    expectNone(`iptables -> ${times.join(' -> ')}`, result)
    expect(seen).toEqual([
      ['nftables', 'anchor'],
      ['userspace', 'anchor'],
      ['iptables', 'anchor'],
    ])
  })

  test('a start in another mode takes over: the file decides, not the command before', { timeout: limit }, async () => {
    const result = await storm.during(async () => {
      await daemon.end('SIGTERM')
      daemon = await storm.startDaemon('nftables')
      await expect
        .poll(() => storm.traces(), { timeout: patience(30_000 + services * 10), interval: 200 })
        .toEqual(['nftables', 'anchor'])
    })
    expectNone('iptables, then a start in nftables', result)
  })
})

/** Ready endpoints come and go in the slices, serving ones drain, Services come and go; until it was in the kernel a few times. */
async function churn(storm: StormMachine): Promise<void> {
  const syncs = async (): Promise<number> => (await storm.machine.status())?.services?.syncs ?? 0
  const before = await syncs()
  const end = Date.now() + patience(2000)
  for (let n = 0; Date.now() < end || (await syncs()) < before + 3; n++) {
    storm.setEndpoints(someEndpoints(n))
    // Another Service that comes and goes, and one whose endpoints are others each time.
    const other = n % 3 === 0 ? '' : `---\n${service(65_000)}---\n${slice(65_000, elsewhere(n))}`
    storm.write('others.yaml', `${service(64_000)}---\n${slice(64_000, elsewhere(n + 7))}${other}`)
    await sleep(100)
  }
  storm.setEndpoints(podAddresses.map((ip) => ({ ip })))
}

/** From one to six pods, others each time; all of them answer, also those that are not among them any more. */
function someEndpoints(n: number): readonly StormEndpoint[] {
  const count = 1 + ((n * 5) % podAddresses.length)
  return Array.from({ length: count }, (_, i) => {
    const ip = podAddresses[(n * 7 + i) % podAddresses.length] ?? ''
    const draining = i > 0 && (n + i) % 4 === 0
    return draining ? { ip, conditions: { ready: false, serving: true, terminating: true } } : { ip }
  })
}
