import { formatProgram, type ProgramMiss } from './format-program.ts'
import { machineFacts } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { programModes, runProgram, type MeasuredSync, type ProgramMode, type ProgramResult } from './program.ts'
import { fewestValues } from './estimates.ts'
import type { Random } from './random.ts'
import type { Recorder } from './recorder.ts'
import type { FigureKey } from './series.ts'
import { median, pairedRatio } from './statistics.ts'
import type { Suite } from './suite.ts'

/** What it costs to program Services. */
export const programSuite: Suite = {
  name: 'program',
  measures:
    'cold start, restart, one endpoint changed, one Service added, a tenth of all changed: time, CPU, bytes and rules sent, memory',
  why: 'A cluster changes all the time. What is sent for one change must not depend on how many Services there are.',
  byDefault: true,
  heeds: ['services', 'endpoints', 'modes', 'rounds', 'start-limit'],
  estimate: (options) =>
    tasksOf(options).reduce((sum, { mode, services }) => {
      const turns = mode.startsWith('iptables-') ? toolRounds(options) * 4 : 0
      return sum + 4 + turns + services * (mode === 'iptables-nft' ? 0.006 : 0.0025)
    }, 0),
  async run({ options, recorder, progress, random, signal }) {
    const tasks = tasksOf(options)
    const results: ProgramResult[] = []
    const misses: ProgramMiss[] = []
    for (const [index, { mode, services }] of tasks.entries()) {
      signal.throwIfAborted()
      const say = (text: string): void => progress.say(`program: ${text}`, index / tasks.length)
      const set = { services, endpointsEach: options.endpoints }
      try {
        const result = await runProgram(
          {
            ...set,
            mode,
            rounds: Math.min(options.rounds, options.scale === 'quick' ? 5 : 10),
            toolRounds: toolRounds(options),
            startLimitMs: options.startLimitMs,
          },
          say,
        )
        results.push(result)
        record(recorder, result)
        compareWithTool(recorder, { ...result, random })
      } catch (error) {
        signal.throwIfAborted()
        recorder.fail(`${mode}, ${services} Services`, error)
        misses.push({ ...set, mode, reason: (error as Error).message })
      }
    }
    claimBytes(recorder)
    recorder.print(formatProgram(await machineFacts(), results, misses))
  },
}

function toolRounds({ scale, rounds }: BenchOptions): number {
  return scale === 'quick' ? 1 : Math.min(rounds, 9)
}

function tasksOf({ modes, services }: BenchOptions): { mode: ProgramMode; services: number }[] {
  const able = programModes.filter((mode) => modes.includes(mode))
  return services.filter((n) => n > 0).flatMap((n) => able.map((mode) => ({ mode, services: n })))
}

/** From the smallest size to the largest. */
function claimBytes(recorder: Recorder): void {
  const series = recorder.result().series.filter(({ figure }) => figure === 'one endpoint: bytes to the kernel')
  for (const [mode, of] of Map.groupBy(series, (one) => one.mode ?? '')) {
    const sizes = of.toSorted((a, b) => (a.services ?? 0) - (b.services ?? 0))
    const [first, last] = [sizes[0], sizes.at(-1)]
    if (!first || !last || first === last) continue
    const [least, most] = [first, last].map(({ values }) => median(values)) as [number, number]
    const seen = `${least} bytes at ${first.services} Services, ${most} at ${last.services}`
    if (mode === 'iptables-legacy')
      recorder.claim(
        `${mode}: for one changed endpoint the kernel takes the whole table anew, which grows with N`,
        most > 2 * least,
        seen,
      )
    else
      recorder.claim(`${mode}: what is sent for one changed endpoint does not depend on N`, most <= 1.2 * least, seen)
  }
}

function record(recorder: Recorder, result: ProgramResult): void {
  const { mode, services, endpointsEach: endpoints } = result
  const base = { mode, services, endpoints, better: 'less' } as const
  const time = (figure: string, unit = 'ms'): FigureKey => ({ ...base, figure, unit, kind: 'time' })
  const size = (figure: string): FigureKey => ({ ...base, figure, unit: 'MB', kind: 'size' })
  const steps: readonly (readonly [string, readonly MeasuredSync[], 'count' | 'size'])[] = [
    ['cold start', [result.cold], 'count'],
    ['restart', [result.restart], 'count'],
    ['one endpoint', result.changes, 'count'],
    ['one Service', result.additions, 'count'],
    // How many syncs it takes depends on how fast the files are read.
    ['10 % churn', [result.churn], 'size'],
  ]
  for (const [step, syncs, kind] of steps) {
    recorder.addAll(
      time(`${step}: sync`),
      syncs.map((sync) => sync.wallMs),
    )
    recorder.addAll(
      time(`${step}: in the kernel`),
      syncs.map((sync) => sync.kernelMs),
    )
    recorder.addAll(
      time(`${step}: CPU`),
      syncs.map((sync) => sync.cpuSeconds * 1000),
    )
    const counts = { bytes: 'bytes', messages: 'messages', elements: 'elements or rules' } as const
    for (const [field, unit] of Object.entries(counts)) {
      const key = { ...base, figure: `${step}: ${unit}`, unit: field === 'bytes' ? 'bytes' : '', kind }
      recorder.addAll(
        key,
        syncs.map((sync) => sync[field as keyof typeof counts]),
      )
    }
  }
  // The tools of nf_tables do not say what they send; userspace sends nothing.
  const toKernel = result.tableBytes === undefined ? result.changes.map(({ bytes }) => bytes) : [result.tableBytes]
  if (mode !== 'iptables-nft' && mode !== 'userspace') {
    recorder.addAll({ ...base, figure: 'one endpoint: bytes to the kernel', unit: 'bytes', kind: 'count' }, toKernel)
  }
  recorder.add(time('cold start: until committed'), result.cold.commitMs)
  recorder.add(time('cold start: until ready'), result.startMs)
  recorder.add(size('memory after start'), result.rssAfterStart / 1e6)
  recorder.add(size('memory after changes'), result.rssAfterChanges / 1e6)
  const pairs = result.besideTool ?? []
  recorder.addAll(
    time('iptables-restore alone'),
    pairs.map(({ aloneMs }) => aloneMs),
  )
  recorder.addAll(
    time('cold start in turn with it: until committed'),
    pairs.map(({ syncMs }) => syncMs),
  )
}

/** How much longer than a proxy's rules need by themselves its first sync may take. */
const toolGoal = 1.2

function compareWithTool(
  recorder: Recorder,
  { mode, services, endpointsEach: endpoints, besideTool, random }: ProgramResult & { readonly random: Random },
): void {
  if (!besideTool) return
  const ratio = pairedRatio(
    besideTool.map(({ syncMs, aloneMs }) => [syncMs, aloneMs] as const),
    { random },
  )
  const base = { mode, services, endpoints, kind: 'time', better: 'less', unit: 'x' } as const
  recorder.derive({ ...base, figure: 'first sync against iptables-restore alone' }, ratio)
  const seen = `${ratio.value.toFixed(2)} (${ratio.low.toFixed(2)} to ${ratio.high.toFixed(2)}), ${besideTool.length} pairs`
  const text = `${mode}: the first sync takes at most ${toolGoal} times as long as iptables-restore of the same rules by itself`
  if (besideTool.length >= fewestValues) recorder.claim(`${text}, ${services} Services`, ratio.value <= toolGoal, seen)
}
