import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatTable } from '../src/cli/table.ts'
import { run } from '../src/linux/exec.ts'
import { createNetns, type Netns } from '../src/linux/netns.ts'
import { openCniBridge, openCniChain } from './attach-cni.ts'
import { openFairlead } from './attach-fairlead.ts'
import { openIpScript } from './attach-ip.ts'
import type { MachineFacts } from './machine.ts'
import { median } from './statistics.ts'

/** What is to be attached: a namespace that exists. */
export interface Endpoint {
  /** Tells it from the others; addresses are made of it where the contender does not choose them. From 0. */
  readonly index: number
  readonly netns: Netns
  /** The port of the host (TCP) that shall lead to its port 80, over IPv4 and IPv6; undefined: none. */
  readonly hostPort: number | undefined
}

/** One way to attach endpoints to a bridge, dual stack, in a namespace that plays the host. */
export interface Contender extends AsyncDisposable {
  readonly name: string
  /** Whether it can do what `hostPort` asks for. */
  readonly publishes: boolean
  attach(endpoints: readonly Endpoint[]): Promise<void>
  detach(endpoints: readonly Endpoint[]): Promise<void>
}

/** Times in milliseconds, one for each round. */
export interface AttachFigures {
  readonly contender: string
  readonly endpoints: number
  readonly published: boolean
  readonly attachMs: readonly number[]
  readonly detachMs: readonly number[]
}

/** All figures, and which contenders could not run, with the reason. */
export interface AttachResult {
  readonly figures: readonly AttachFigures[]
  readonly skipped: Readonly<Record<string, string>>
}

/** How often what is measured. */
export interface AttachOptions {
  /** One endpoint alone. */
  readonly rounds: number
  /** Endpoints at once. */
  readonly many: number
  /** Of many at once; contenders that take longer than {@link patience} for one have no more. */
  readonly manyRounds: number
}

/** Milliseconds. */
const patience = 5000

/** Measures all contenders in turn, round by round, so that what the machine does besides hits all of them. */
export async function runAttach(options: AttachOptions, progress: (text: string) => void): Promise<AttachResult> {
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-bench-'))
  stack.defer(() => rmSync(folder, { recursive: true, force: true }))
  const contenders: Contender[] = []
  const skipped: Record<string, string> = {}
  const all = { fairlead: openFairlead, ip: openIpScript, cni: openCniChain, 'cni-bridge': openCniBridge }
  for (const [name, open] of Object.entries(all)) {
    const host = stack.use(createNetns(`flbench-${process.pid}-${name}`))
    await run(['ip', 'link', 'set', 'lo', 'up'], { netns: host })
    const opened = await open(host, join(folder, name))
    if (typeof opened === 'string') skipped[name] = opened
    else contenders.push(stack.use(opened))
  }
  const figures: AttachFigures[] = []
  for (const { endpoints, rounds } of [
    { endpoints: 1, rounds: options.rounds },
    { endpoints: options.many, rounds: options.manyRounds },
  ]) {
    for (const published of [false, true]) {
      const able = contenders.filter(({ publishes }) => publishes || !published)
      const times = able.map(() => ({ attachMs: [] as number[], detachMs: [] as number[] }))
      for (let round = 0; round < rounds; round++) {
        for (const [index, contender] of able.entries()) {
          if (isSlow(times[index]!)) continue
          const what = `${endpoints} endpoint${endpoints > 1 ? 's' : ''}${published ? ' with a port' : ''}`
          progress(`${what}, round ${round + 1} of ${rounds}: ${contender.name}`)
          const { attachMs, detachMs } = await measure(contender, { endpoints, published })
          times[index]!.attachMs.push(attachMs)
          times[index]!.detachMs.push(detachMs)
        }
      }
      for (const [index, { name }] of able.entries()) {
        figures.push({ contender: name, endpoints, published, ...times[index]! })
      }
    }
  }
  return { figures, skipped }
}

/** Namespaces are made before and deleted after: they cost everybody the same. */
async function measure(
  contender: Contender,
  { endpoints: count, published }: { endpoints: number; published: boolean },
): Promise<{ attachMs: number; detachMs: number }> {
  using stack = new DisposableStack()
  const endpoints = Array.from({ length: count }, (_, index): Endpoint => {
    const netns = createNetns(`flbench-${process.pid}-pod-${index}`)
    stack.defer(() => netns[Symbol.dispose]())
    return { index, netns, hostPort: published ? 20_000 + index : undefined }
  })
  const attachMs = await timed(() => contender.attach(endpoints))
  await expectAddresses(contender, endpoints, 2)
  const detachMs = await timed(() => contender.detach(endpoints))
  await expectAddresses(contender, endpoints, 0)
  return { attachMs, detachMs }
}

function isSlow({ attachMs, detachMs }: Pick<AttachFigures, 'attachMs' | 'detachMs'>): boolean {
  return (attachMs.at(-1) ?? 0) + (detachMs.at(-1) ?? 0) > patience
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

/** Figures of endpoints that do not work would be worth nothing. */
async function expectAddresses(contender: Contender, endpoints: readonly Endpoint[], count: number): Promise<void> {
  for (const { netns } of [endpoints[0]!, endpoints.at(-1)!]) {
    const { stdout } = await run(['ip', '-o', 'addr', 'show', 'scope', 'global'], { netns })
    const found = stdout.split('\n').filter((line) => line.includes('eth0')).length
    if (found !== count) throw new Error(`${contender.name}: ${found} addresses in a pod (expected ${count})`)
  }
}

/** The results as a table for people. */
export function formatAttach(machine: MachineFacts, { figures, skipped }: AttachResult): string {
  const rows = figures.map(({ contender, endpoints, published, attachMs, detachMs }) => {
    const ours = figures.find((one) => {
      return one.contender === 'fairlead' && one.endpoints === endpoints && one.published === published
    })
    const both = total({ attachMs, detachMs })
    return [
      `${endpoints}${published ? ' with port' : ''}`,
      contender,
      median(attachMs).toFixed(1),
      median(detachMs).toFixed(1),
      both.toFixed(1),
      ours ? `${(median(attachMs) / median(ours.attachMs)).toFixed(1)}x` : '',
      ours ? `${(median(detachMs) / median(ours.detachMs)).toFixed(1)}x` : '',
      ours ? `${(both / total(ours)).toFixed(1)}x` : '',
    ]
  })
  const heads = ['ENDPOINTS', 'BY', 'ATTACH MS', 'DETACH MS', 'BOTH MS', 'ATTACH', 'DETACH', 'BOTH']
  return [
    `${machine.cpu}, ${machine.cpus} CPUs, kernel ${machine.kernel}, Node ${machine.node}, load ${machine.load}`,
    formatTable(heads, rows),
    'Medians; the last three columns are times fairlead.',
    ...formatGoals(figures),
    ...Object.entries(skipped).map(([name, reason]) => `${name}: skipped (${reason})`),
  ].join('\n')
}

/** What fairlead promises, and whether this run keeps it. */
function formatGoals(figures: readonly AttachFigures[]): string[] {
  const lines: string[] = []
  for (const ours of figures.filter(({ contender }) => contender === 'fairlead')) {
    const { endpoints, published } = ours
    const what = `${endpoints} endpoint${endpoints > 1 ? 's' : ''}${published ? ' with a port' : ''}`
    const chain = figures.find((one) => {
      return one.contender === 'cni' && one.endpoints === endpoints && one.published === published
    })
    if (chain) {
      const ratios = {
        attach: median(chain.attachMs) / median(ours.attachMs),
        detach: median(chain.detachMs) / median(ours.detachMs),
        both: total(chain) / total(ours),
      }
      const list = Object.entries(ratios).map(([name, ratio]) => `${name} ${ratio.toFixed(1)}x`)
      lines.push(goal(`${what}: attached and detached 10x faster than by the plugin chain`, list, ratios.both >= 10))
    }
    if (endpoints === 200) {
      const ms = median(ours.attachMs)
      lines.push(goal(`${what} in one call in less than 500 ms`, [`${ms.toFixed(0)} ms`], ms < 500))
    }
  }
  return lines
}

function goal(text: string, figures: readonly string[], isKept: boolean): string {
  return `${isKept ? 'kept  ' : 'MISSED'} ${text}: ${figures.join(', ')}`
}

function total({ attachMs, detachMs }: Pick<AttachFigures, 'attachMs' | 'detachMs'>): number {
  return median(attachMs) + median(detachMs)
}
