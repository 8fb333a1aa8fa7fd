import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatTable } from '../src/cli/table.ts'
import { run, spawnIn } from '../src/linux/exec.ts'
import { contenderNames } from './contender-names.ts'
import { startContender } from './contender.ts'
import { ControlPlane } from './control-plane.ts'
import { readCpuTime } from './cpu-time.ts'
import { figuresOfSeries } from './estimates.ts'
import { formatFigure } from './format-figure.ts'
import { hasProgram } from './modes.ts'
import { runRounds, type Arm } from './rounds.ts'
import type { FigureKey } from './series.ts'
import type { Suite, SuiteContext } from './suite.ts'
import { TrafficLab, type TrafficNode } from './traffic-lab.ts'

const service = { ip: '10.96.1.9', endpoint: '10.128.9.1', port: 5201 } as const
const mostRounds = { quick: 3, normal: 10, full: 20 } as const

/** How much goes through. */
export const throughputSuite: Suite = {
  name: 'throughput',
  measures:
    'iperf3 through each mode and directly: one TCP stream, and UDP datagrams of 64 bytes; CPU time of the machine for each Gbit',
  why: 'Expected: the modes of the kernel are equal, for only first packets are matched. What copies in user space pays for every byte.',
  byDefault: true,
  heeds: ['modes', 'peers', 'rounds'],
  estimate: (options) => contenderNames(options).length * (2 + roundsOf(options) * 2.4),
  missing: async () => {
    const there = hasProgram('iperf3', process.env['PATH'] ?? '')
    return await Promise.resolve(there ? [] : ['iperf3 is not installed (Debian: apt-get install iperf3)'])
  },
  async run(context) {
    const { options, recorder, progress, random, signal } = context
    await using stack = new AsyncDisposableStack()
    const folder = mkdtempSync(join(tmpdir(), 'throughput-'))
    stack.defer(() => rmSync(folder, { recursive: true, force: true }))
    const manifests = join(folder, 'manifests')
    mkdirSync(manifests)
    writeFileSync(join(manifests, 'iperf3.yaml'), manifest())
    const lab = stack.use(await TrafficLab.open(process.env['PATH'] ?? ''))
    const plane = stack.use(await ControlPlane.open(lab, { folder: join(folder, 'api'), manifests }))
    const server = spawnIn(lab.backend, ['iperf3', '-s', '-B', service.endpoint, '-p', String(service.port)], {
      stdio: 'ignore',
    })
    stack.defer(() => void server.kill('SIGKILL'))
    const arms: Arm[] = []
    for (const contender of contenderNames(options)) {
      const { name, mode } = contender
      try {
        const lane = stack.use(await lab.addNode())
        const at = mode === 'direct' ? service.endpoint : service.ip
        // The port of the probe of peers is 80: these have their own.
        const running = stack.use(
          await startContender(contender, {
            lab,
            lane,
            plane,
            folder: join(folder, name),
            options,
            signal,
            probe: service,
          }),
        )
        arms.push({
          name,
          measure: async (round, { warmUp }) => {
            const ended = running.ended()
            if (ended !== undefined) throw new Error(ended)
            await measure(context, { lane, name, at, round, warmUp })
          },
        })
      } catch (error) {
        signal.throwIfAborted()
        recorder.fail(name, error)
      }
    }
    const rounds = roundsOf(options)
    await runRounds(arms, {
      part: 'throughput',
      rounds,
      // A second is long enough to warm up in.
      warmUp: 0,
      random,
      recorder,
      signal,
      onRound: (round) => progress.say(`throughput: round ${round + 1} of ${rounds}`, (round + 1) / rounds),
    })
    print(context)
  },
}

function roundsOf({ rounds, scale }: SuiteContext['options']): number {
  return Math.min(rounds, mostRounds[scale])
}

interface Once {
  readonly lane: TrafficNode
  readonly name: string
  readonly at: string
  readonly round: number
  readonly warmUp: boolean
}

async function measure({ recorder, signal }: SuiteContext, { lane, name, at, round, warmUp }: Once): Promise<void> {
  const key = { mode: name, better: 'more', kind: 'rate' } as const
  const add = (figure: Pick<FigureKey, 'figure' | 'unit'> & Partial<FigureKey>, value: number): void => {
    if (!warmUp) recorder.add({ ...key, ...figure }, value, { round })
  }
  const before = readCpuTime()
  const tcp = await iperf(lane, { at, flags: [], signal })
  const after = readCpuTime()
  const gbit = ((tcp.end.sum_received?.bytes ?? 0) * 8) / 1e9
  add({ figure: 'TCP throughput', unit: 'Gbit/s' }, (tcp.end.sum_received?.bits_per_second ?? 0) / 1e9)
  // Ticks of 10 ms.
  add({ figure: 'CPU for a Gbit', unit: 'ms', kind: 'time', better: 'less' }, ((after.busy - before.busy) * 10) / gbit)
  const udp = await iperf(lane, { at, flags: ['-u', '-b', '0', '-l', '64'], signal })
  const { packets = 0, lost_packets: lost = 0, seconds = 1 } = udp.end.sum ?? {}
  add({ figure: 'UDP datagrams of 64 bytes that arrive', unit: '/s' }, (packets - lost) / seconds)
}

/** What of iperf3's report is read. */
interface IperfReport {
  readonly error?: string
  readonly end: {
    readonly sum_received?: { readonly bytes: number; readonly bits_per_second: number }
    readonly sum?: { readonly packets: number; readonly lost_packets: number; readonly seconds: number }
  }
}

async function iperf(
  { client }: TrafficNode,
  { at, flags, signal }: { readonly at: string; readonly flags: readonly string[]; readonly signal: AbortSignal },
): Promise<IperfReport> {
  const argv = ['iperf3', '-c', at, '-p', String(service.port), '-t', '1', '-J', '--connect-timeout', '3000', ...flags]
  // The server takes one client at a time, and may not be done with the last one yet.
  for (let left = 5; ; left--) {
    const { stdout, stderr } = await run(argv, { netns: client, timeout: 20_000, signal })
    const report = JSON.parse(stdout) as IperfReport
    if (report.error === undefined) return report
    if (left === 0) throw new Error(`iperf3 ${flags.join(' ')}: ${report.error} ${stderr}`)
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
}

function manifest(): string {
  const ports = (['TCP', 'UDP'] as const).map((protocol) => ({
    name: protocol.toLowerCase(),
    protocol,
    port: service.port,
  }))
  const metadata = { name: 'iperf3', namespace: 'bench' }
  return [
    { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: service.ip, ports } },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'iperf3' } },
      addressType: 'IPv4',
      ports,
      endpoints: [{ addresses: [service.endpoint], conditions: { ready: true }, nodeName: 'node-1' }],
    },
  ]
    .map((object) => `${JSON.stringify(object)}\n`)
    .join('---\n')
}

function print({ recorder, options }: SuiteContext): void {
  const figures = figuresOfSeries(recorder.result(), options)
  const modes = [...new Set(figures.map(({ mode }) => mode ?? ''))]
  const names = [...new Set(figures.map(({ figure }) => figure))]
  const rows = modes.map((mode) => [
    mode,
    ...names.map((name) => {
      const found = figures.find((one) => one.mode === mode && one.figure === name)
      return found ? formatFigure(found) : ''
    }),
  ])
  recorder.print(formatTable(['mode', ...names], rows))
}
