import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatTable } from '../src/cli/table.ts'
import { contenderNames, type Contender, type ContenderName } from './contender-names.ts'
import { startContender } from './contender.ts'
import { ControlPlane } from './control-plane.ts'
import { formatNumber } from './format-figure.ts'
import { clusterIp, endpoints, generateServices, sliceManifest, type ServiceSet } from './generate-services.ts'
import type { BenchOptions } from './options.ts'
import { median, quantile } from './statistics.ts'
import type { Suite, SuiteContext } from './suite.ts'
import { TrafficLab, type TrafficNode } from './traffic-lab.ts'
import type { TrafficTask } from './traffic-task.ts'

/** Seconds of connections during churn; endpoints change from second 1 on. */
const churnSeconds = 3
/** Events that are measured at most, and ms between them: each is to be a lone one, also for who waits a second after each sync. */
const mostEvents = { quick: 5, normal: 10, full: 10 } as const
const betweenEvents = 1200
/** Ours wait a tenth of that. */
const betweenOwnEvents = 500

/** How long changes take to be seen, and what they do to connections. */
export const updateSuite: Suite = {
  name: 'update',
  measures:
    'from the change at the API server to the first packet at the new endpoint; connections that fail or wait while a tenth of all Services changes and while a Service is rolled over',
  why: 'A change that is programmed late sends connections to endpoints that are gone. This is the delay that users see.',
  byDefault: true,
  heeds: ['services', 'endpoints', 'modes', 'peers', 'rounds', 'start-limit'],
  estimate: (options) =>
    sizesOf(options).reduce(
      (sum, n) =>
        sum +
        3 +
        n * 0.004 +
        contendersOf(options).length *
          (4 + (mostEvents[options.scale] * betweenEvents) / 1000 + n * 0.002 + churnSeconds * 2),
      0,
    ),
  async run(context) {
    const { options, progress, signal } = context
    const sizes = sizesOf(options)
    for (const [index, services] of sizes.entries()) {
      signal.throwIfAborted()
      progress.say(`update: ${services} Services: filling the API server`, index / sizes.length)
      await measureSize(context, services, (part) => (index + part) / sizes.length)
    }
    print(context)
  },
}

/** A proxy that follows the API server with a delay of seconds makes many sizes long: two of them with --quick. */
function sizesOf({ services, scale }: BenchOptions): number[] {
  const some = services.filter((n) => n >= 10)
  return scale === 'quick' ? some.filter((n) => n <= 1000) : some
}

function contendersOf(options: BenchOptions): ContenderName[] {
  return contenderNames(options).filter(({ mode }) => mode !== 'direct')
}

interface Stage {
  readonly context: SuiteContext
  readonly lab: TrafficLab
  readonly plane: ControlPlane
  readonly set: ServiceSet
  readonly folder: string
}

/** One contender after another: all of them follow the same API server, and would take each other's CPU. */
async function measureSize(context: SuiteContext, services: number, share: (part: number) => number): Promise<void> {
  const { options, recorder, progress, signal } = context
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'update-'))
  stack.defer(() => rmSync(folder, { recursive: true, force: true }))
  const set = { services, endpointsEach: options.endpoints }
  const manifests = join(folder, 'manifests')
  generateServices(manifests, set)
  const lab = stack.use(await TrafficLab.open(process.env['PATH'] ?? ''))
  const plane = stack.use(await ControlPlane.open(lab, { folder: join(folder, 'api'), manifests }))
  const stage = { context, lab, plane, set, folder }
  const contenders = context.random.shuffle(contendersOf(options))
  for (const [index, contender] of contenders.entries()) {
    const { name } = contender
    progress.say(`update: ${services} Services: ${name}`, share(index / contenders.length))
    try {
      using lane = await lab.addNode()
      await using running = await startContender(contender, {
        lab,
        lane,
        plane,
        folder: join(folder, name),
        options,
        signal,
      })
      await measureEvents(stage, { name, lane, running })
      await measureChurn(stage, { name, lane, running })
      await measureRollover(stage, { name, lane, running })
    } catch (error) {
      signal.throwIfAborted()
      recorder.fail(`${name}, ${services} Services`, error)
    }
  }
}

interface Standing {
  readonly name: string
  readonly lane: TrafficNode
  readonly running: Contender
}

/** The middle Service gets one endpoint, another one, the first again: each time until a connection reaches it. */
async function measureEvents(
  { context, lab, plane, set, folder }: Stage,
  { name, lane, running }: Standing,
): Promise<void> {
  const { recorder, options, signal } = context
  const index = set.services >> 1
  for (let round = -1; round < Math.min(options.rounds, mostEvents[options.scale]); round++) {
    signal.throwIfAborted()
    const address = `10.64.0.${round + 2}`
    const file = writeSlice(folder, { index, addresses: [address] })
    const found = lab.ask({ ...taskTo(lane, index), kind: 'until', answer: address, forMs: 30_000, pauseMs: 0.5 })
    // The client is at it before anything changes.
    await sleep((options.peers.length > 0 ? betweenEvents : betweenOwnEvents) + context.random.below(100))
    const { atNs } = await plane.change(file)
    const { foundAtNs, failures } = await found
    if (foundAtNs === undefined) throw new Error(running.ended() ?? 'a new endpoint was not reached within 30 s')
    if (round < 0) continue
    const key = { mode: name, services: set.services, endpoints: set.endpointsEach, better: 'less' } as const
    // A connection can begin before the answer of the API server is told to us.
    const ms = Math.max(0, Number(BigInt(foundAtNs) - BigInt(atNs)) / 1e6)
    recorder.add({ ...key, figure: 'event to first packet', unit: 'ms', kind: 'time' }, ms, { round })
    recorder.add({ ...key, figure: 'failed connections at a change', unit: '', kind: 'size' }, totalOf(failures), {
      round,
    })
  }
  await plane.change(writeSlice(folder, { index, addresses: endpoints(set, index) }))
}

/** Connections to the last Service, which does not change, while one endpoint of every tenth Service does. */
async function measureChurn({ context, lab, plane, set, folder }: Stage, { name, lane }: Standing): Promise<void> {
  const { recorder } = context
  const churned = Array.from({ length: set.services }, (_, index) => index).filter((index) => index % 10 === 0)
  const file = writeSlices(
    folder,
    churned.map((index) => ({
      index,
      addresses: [`10.65.${(index >> 8) & 255}.${index & 255}`, ...endpoints(set, index).slice(1)],
    })),
  )
  const back = writeSlices(
    folder,
    churned.map((index) => ({ index, addresses: endpoints(set, index) })),
  )
  const stream = lab.ask({ ...taskTo(lane, set.services - 1), kind: 'stream', forMs: churnSeconds * 1000, pauseMs: 1 })
  await sleep(1000)
  await plane.change(file)
  const { slowestMs = [], firstByteNs, failures } = await stream
  await plane.change(back)
  await sleep(500)
  const key = { mode: name, services: set.services, endpoints: set.endpointsEach, better: 'less' } as const
  for (const [tenth, ms] of slowestMs.entries())
    recorder.add({ ...key, figure: 'connection during churn', unit: 'ms', kind: 'time', better: 'neither' }, ms, {
      round: tenth,
    })
  recorder.add(
    { ...key, figure: 'first byte during churn, p99', unit: 'ms', kind: 'time' },
    quantile(firstByteNs, 0.99) / 1e6,
  )
  recorder.add({ ...key, figure: 'failed connections during churn', unit: '', kind: 'size' }, totalOf(failures))
}

/** Connections to a Service of which all endpoints are replaced, one after another; the old ones go on answering. */
async function measureRollover({ context, lab, plane, set, folder }: Stage, { name, lane }: Standing): Promise<void> {
  const index = 0
  const from = endpoints(set, index)
  const stream = lab.ask({ ...taskTo(lane, index), kind: 'stream', forMs: 500 + from.length * 300, pauseMs: 1 })
  for (let moved = 1; moved <= from.length; moved++) {
    await sleep(250)
    const addresses = from.map((address, k) => (k < moved ? `10.66.0.${k + 1}` : address))
    await plane.change(writeSlice(folder, { index, addresses }))
  }
  const { firstByteNs, failures } = await stream
  await plane.change(writeSlice(folder, { index, addresses: from }))
  const key = { mode: name, services: set.services, endpoints: set.endpointsEach, better: 'less' } as const
  const { recorder } = context
  recorder.add(
    { ...key, figure: 'failed connections during a rolling update', unit: '', kind: 'size' },
    totalOf(failures),
  )
  recorder.add(
    { ...key, figure: 'first byte during a rolling update, p99', unit: 'ms', kind: 'time' },
    quantile(firstByteNs, 0.99) / 1e6,
  )
}

function taskTo(lane: TrafficNode, index: number): Omit<TrafficTask, 'kind'> {
  return { netns: lane.client.path, protocol: 'tcp', ip: clusterIp(index), port: 80, count: 1, timeoutMs: 1000 }
}

interface Slice {
  readonly index: number
  readonly addresses: readonly string[]
}

function writeSlice(folder: string, slice: Slice): string {
  return writeSlices(folder, [slice])
}

function writeSlices(folder: string, slices: readonly Slice[]): string {
  const file = join(folder, `change-${slices.length}-${slices[0]?.addresses[0]}.yaml`)
  writeFileSync(file, slices.map(({ index, addresses }) => sliceManifest(index, addresses)).join('---\n'))
  return file
}

function totalOf(failures: Readonly<Record<string, number>>): number {
  return Object.values(failures).reduce((sum, count) => sum + count, 0)
}

function print({ recorder }: SuiteContext): void {
  const { series } = recorder.result()
  const groups = Map.groupBy(series, ({ mode, services }) => `${services} ${mode}`)
  const rows = [...groups].map(([name, of]) => {
    const values = (figure: string): readonly number[] => of.find((one) => one.figure === figure)?.values ?? []
    const events = values('event to first packet')
    const ms = (value: number | undefined): string => (value === undefined ? '' : `${formatNumber(value)} ms`)
    return [
      ...name.split(' '),
      ms(median(events)),
      ms(Math.max(...events)),
      ms(values('first byte during churn, p99')[0]),
      String(values('failed connections during churn')[0] ?? ''),
      String(values('failed connections during a rolling update')[0] ?? ''),
    ]
  })
  const head = [
    'Services',
    'mode',
    'event to first packet',
    'slowest',
    'p99 in churn',
    'failed in churn',
    'failed in rolling update',
  ]
  recorder.print(formatTable(head, rows))
  if (series.length === 0) return
  const failed = series
    .filter(({ figure }) => figure.startsWith('failed connections during'))
    .flatMap(({ values }) => values)
  recorder.claim(
    'no connection fails while endpoints change',
    failed.every((count) => count === 0),
    `${failed.reduce((sum, count) => sum + count, 0)} failed`,
  )
}
