import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatTable } from '../src/cli/table.ts'
import { run, RunError } from '../src/linux/exec.ts'
import { createAnonymousNetns, type Netns } from '../src/linux/netns.ts'
import { measureChanges } from './dns-changes.ts'
import { type DnsContender, startDnsContenders } from './dns-contenders.ts'
import { type QuestionKind, questionKinds, writeQuestions } from './dns-names.ts'
import { median } from './statistics.ts'
import type { BenchOptions } from './options.ts'
import { runRounds } from './rounds.ts'
import { quantile } from './statistics.ts'
import type { Suite, SuiteContext } from './suite.ts'

/** Rounds at most; each takes a minute. */
const mostRounds = { quick: 3, normal: 5, full: 15 } as const
const seconds = 2
/** Sockets that the load comes from: the kernel spreads them over the workers of a server. */
const clients = 16
/** Questions a second about Services that nobody has asked for yet: few, so that none waits for another one. */
const firstRate = 500
const clockTicks = 100

/** Names of a cluster, asked over UDP. */
export const dnsSuite: Suite = {
  name: 'dns',
  measures:
    'queries a second and CPU time per query of the DNS server, with one worker and two, beside Knot, Unbound, a plain Node server and --peer; memory',
  why: 'Every connection begins with a question, most of them with several that have no answer.',
  byDefault: false,
  heeds: ['services', 'endpoints', 'peers', 'rounds'],
  estimate: (options) =>
    sizesOf(options).length *
    (6 + options.peers.length) *
    (roundsOf(options) + 1) *
    questionKinds.length *
    (seconds + 0.3),
  async missing() {
    const lines: string[] = []
    for (const [program, advice] of [
      [['dnsperf', '-h'], 'apt-get install dnsperf'],
      [['knotd', '-V'], 'apt-get install knot'],
      [['kdig', '-V'], 'apt-get install knot-dnsutils'],
      [['unbound', '-V'], 'apt-get install unbound'],
    ] as const) {
      if (!(await hasProgram(program))) lines.push(`${program[0]} is missing: ${advice}`)
    }
    if (cpus().length < 2) lines.push('the load needs a CPU beside that of the servers')
    return lines
  },
  async run(context) {
    const results: SizeResult[] = []
    const sizes = sizesOf(context.options)
    for (const [i, services] of sizes.entries()) {
      const say = (text: string, part: number): void =>
        context.progress.say(`dns: ${services} Services, ${text}`, (i + part) / sizes.length)
      results.push(await measureSize(context, { services, say }))
    }
    conclude(context, results)
    await changes(context)
  },
}

function sizesOf({ services }: BenchOptions): number[] {
  const some = services.filter((n) => n > 0)
  return [...new Set([Math.min(...some), Math.min(10_000, Math.max(...some))])]
}

function roundsOf({ rounds, scale }: BenchOptions): number {
  return Math.min(rounds, mostRounds[scale])
}

interface SizeResult {
  readonly services: number
  /** By contender and kind of question: microseconds of CPU time per query, of each round. */
  readonly cpu: ReadonlyMap<string, ReadonlyMap<QuestionKind, readonly number[]>>
  readonly memory: ReadonlyMap<string, number>
}

async function measureSize(
  context: SuiteContext,
  { services, say }: { readonly services: number; readonly say: (text: string, part: number) => void },
): Promise<SizeResult> {
  const { options, recorder, random, signal } = context
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'bench-dns-'))
  stack.defer(() => rmSync(folder, { recursive: true, force: true }))
  const netns = stack.use(createAnonymousNetns())
  await run(['ip', 'link', 'set', 'lo', 'up'], { netns })
  say('servers start', 0)
  const { endpoints, peers } = options
  const world = { netns, folder, services, endpoints, peers, signal }
  const contenders = await startDnsContenders(world, stack)
  const questions = writeQuestions(folder, { services, random })
  const firsts: string[] = []
  // Every name once: fairlead finishes the answers of a Service when it is asked for the first time, caches fill.
  for (const contender of contenders) {
    const { name, port } = contender
    const { p99 } = await latencies(contender, { netns, file: questions.some, rate: firstRate, once: true })
    const figure = {
      mode: name,
      services,
      figure: 'first answer about a Service, p99',
      unit: 'ms',
      kind: 'time',
    } as const
    recorder.add({ ...figure, better: 'less' }, p99)
    firsts.push(`${name} ${p99.toFixed(2)}`)
    await run(['dnsperf', '-s', '127.0.0.1', '-p', String(port), '-d', questions.all, '-n', '1'], { netns })
  }
  recorder.print(`${services} Services, first answers, p99 ms: ${firsts.join('; ')}`)
  const cpu = new Map(contenders.map(({ name }) => [name, new Map<QuestionKind, number[]>()]))
  const best = new Map<string, number>()
  for (const [i, kind] of questionKinds.entries()) {
    say(kind, i / questionKinds.length)
    const arms = contenders.map((contender) => ({
      name: contender.name,
      async measure(round: number, { warmUp }: { readonly warmUp: boolean }) {
        const load = await askMany(contender, { netns, file: questions[kind] })
        if (warmUp) return
        const all = cpu.get(contender.name)
        all?.set(kind, [...(all.get(kind) ?? []), load.cpuUs])
        best.set(contender.name, Math.max(best.get(contender.name) ?? 0, load.perSecond))
        const base = { mode: contender.name, services, labels: { names: kind } }
        recorder.add({ ...base, figure: 'CPU per query', unit: 'us', kind: 'time', better: 'less' }, load.cpuUs, {
          round,
        })
        recorder.add({ ...base, figure: 'queries', unit: '/s', kind: 'rate', better: 'more' }, load.perSecond, {
          round,
        })
        recorder.add({ ...base, figure: 'lost', unit: '', kind: 'size', better: 'less' }, load.lost, { round })
      },
    }))
    const part = `${services} Services, ${kind}`
    await runRounds(arms, { part, rounds: roundsOf(options), random, recorder, signal })
  }
  const rows: (readonly string[])[] = []
  const memory = new Map<string, number>()
  for (const contender of contenders) {
    const { name } = contender
    const rate = Math.round((best.get(name) ?? 0) * 0.8)
    const late = await latencies(contender, { netns, file: questions['service names'], rate })
    const rss = residentMb(contender.pid)
    memory.set(name, rss)
    const base = { mode: name, services, better: 'less' } as const
    recorder.add({ ...base, figure: 'p99 at 80 % of the load', unit: 'ms', kind: 'time' }, late.p99)
    recorder.add({ ...base, figure: 'memory', unit: 'MB', kind: 'size' }, rss)
    const figures = questionKinds.map((kind) => median(cpu.get(name)?.get(kind) ?? []).toFixed(2))
    rows.push([
      String(services),
      name,
      ...figures,
      String(Math.round(best.get(name) ?? 0)),
      late.p99.toFixed(2),
      rss.toFixed(0),
    ])
  }
  const head = ['Services', 'server', ...questionKinds.map((kind) => `us, ${kind}`), 'best q/s', 'p99 ms at 80 %', 'MB']
  recorder.print(formatTable(head, rows))
  return { services, cpu, memory }
}

/** Endpoints change while answers are read: how long until all workers answer with a change, and whether any answer is wrong. */
async function changes({ options, recorder, progress }: SuiteContext): Promise<void> {
  const services = Math.max(...sizesOf(options))
  progress.say(`dns: ${services} Services, changes`, 1)
  const result = await measureChanges({ services, workers: 2, seconds: 4, perSecond: 1000 })
  const { changes, answers, p50, p99, max } = result
  const base = { mode: 'fairlead, 2 workers', services, unit: 'ms', kind: 'time', better: 'less' } as const
  recorder.add({ ...base, figure: 'change until visible, p50' }, p50)
  recorder.add({ ...base, figure: 'change until visible, p99' }, p99)
  const head = ['Services', 'changes', 'answers read', 'ms until visible: p50', 'p99', 'max', 'mixed', 'older', 'wrong']
  const cells = [services, changes, answers, p50.toFixed(2), p99.toFixed(2), max.toFixed(2)]
  recorder.print(formatTable(head, [[...cells, result.mixed, result.older, result.wrong].map(String)]))
  const text = `${services} Services, 1,000 changes a second: visible in every worker`
  recorder.claim(`${text} within 10 ms (p99)`, p99 <= 10, `${p99.toFixed(1)} ms`)
  const bad = result.mixed + result.older + result.wrong
  recorder.claim(`${text}, no answer mixed, older or wrong`, answers > 0 && bad === 0, `${bad} of ${answers}`)
}

/** The claims of docs/dns.md. */
function conclude({ recorder, options }: SuiteContext, results: readonly SizeResult[]): void {
  for (const { services, cpu } of results) {
    const ratio = (ours: string, theirs: string, kind: QuestionKind): number =>
      median(cpu.get(ours)?.get(kind) ?? []) / median(cpu.get(theirs)?.get(kind) ?? [])
    const claim = (ours: string, theirs: string, kind: QuestionKind, most: number): void => {
      const seen = ratio(ours, theirs, kind)
      if (Number.isNaN(seen)) return
      const text = `${services} Services, ${kind}: ${ours} needs at most ${most.toFixed(2)} times the CPU of ${theirs}`
      recorder.claim(text, seen <= most, `${seen.toFixed(2)} times`)
    }
    for (const kind of questionKinds) {
      for (const workers of ['1 worker', '2 workers']) claim(`fairlead, ${workers}`, `knot, ${workers}`, kind, 1)
      for (const { name } of options.peers) claim('fairlead, 1 worker', name, kind, 1 / 3)
    }
    claim('fairlead, 1 worker', 'dgram', 'service names', 1 / 1.5)
  }
  const [few, many] = [results[0], results.at(-1)]
  if (!few || !many || few === many) return
  const name = 'fairlead, 1 worker'
  const grown = (many.memory.get(name) ?? 0) - (few.memory.get(name) ?? 0)
  recorder.claim(
    `${many.services} Services take at most 40 MB over ${few.services}`,
    grown <= 40,
    `${grown.toFixed(0)} MB`,
  )
}

interface Load {
  readonly perSecond: number
  /** User and system time of the server per query, microseconds. */
  readonly cpuUs: number
  readonly lost: number
}

interface Asked {
  readonly netns: Netns
  readonly file: string
}

/** Asks as fast as dnsperf can, from the CPU that servers do not run on. */
async function askMany({ pid, port }: DnsContender, { netns, file }: Asked): Promise<Load> {
  const before = cpuTicks(pid)
  const { stdout } = await run([...dnsperf(port, file), '-S', '0'], { netns })
  const ticks = cpuTicks(pid) - before
  const completed = numberAfter(stdout, 'Queries completed')
  return {
    perSecond: numberAfter(stdout, 'Queries per second'),
    cpuUs: (ticks * 1e6) / clockTicks / completed,
    lost: numberAfter(stdout, 'Queries lost'),
  }
}

/** Asks so many times a second, and says how long answers took. */
async function latencies(
  { port }: DnsContender,
  { netns, file, rate, once = false }: Asked & { readonly rate: number; readonly once?: boolean },
): Promise<{ readonly p99: number }> {
  const { stdout } = await run([...dnsperf(port, file), '-Q', String(rate), '-v', ...(once ? ['-n', '1'] : [])], {
    netns,
  })
  const ms = [...stdout.matchAll(/^> \S+ \S+ \S+ ([\d.]+)$/gm)].map((match) => Number(match[1]) * 1000)
  return { p99: quantile(ms, 0.99) }
}

function dnsperf(port: number, file: string): string[] {
  return [
    'taskset',
    '-c',
    '1',
    'dnsperf',
    '-s',
    '127.0.0.1',
    '-p',
    String(port),
    '-d',
    file,
    '-l',
    String(seconds),
    '-c',
    String(clients),
  ]
}

function numberAfter(text: string, label: string): number {
  return Number(new RegExp(`${label}:\\s+([\\d.]+)`).exec(text)?.[1] ?? Number.NaN)
}

/** User and system time of a process with all of its threads, ticks (proc(5)). */
function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

function residentMb(pid: number): number {
  return (Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024) / 1e6
}

async function hasProgram(argv: readonly string[]): Promise<boolean> {
  try {
    await run(argv)
    return true
  } catch (error) {
    if (error instanceof RunError && error.code === 'ENOENT') return false
    throw error
  }
}
