import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatTable } from '../src/cli/table.ts'
import { contenderNames } from './contender-names.ts'
import { startContender } from './contender.ts'
import { ControlPlane } from './control-plane.ts'
import { generateServices } from './generate-services.ts'
import type { BenchOptions } from './options.ts'
import { processesIn } from './peer.ts'
import type { Suite, SuiteContext } from './suite.ts'
import { TrafficLab } from './traffic-lab.ts'

/** What it takes to hold Services. */
export const memorySuite: Suite = {
  name: 'memory',
  measures:
    'memory of the proxy (RSS, and at its highest) and of the kernel after all Services are programmed from an API server',
  why: 'It is there on every node, and what it takes no pod can have.',
  byDefault: true,
  heeds: ['services', 'endpoints', 'modes', 'peers', 'start-limit'],
  estimate: (options) =>
    sizesOf(options).reduce((sum, n) => sum + 3 + n * 0.003 + contendersOf(options).length * (3 + n * 0.0015), 0),
  async run(context) {
    const { options, progress, signal, recorder } = context
    const rows: string[][] = []
    const sizes = sizesOf(options)
    for (const [index, services] of sizes.entries()) {
      signal.throwIfAborted()
      progress.say(`memory: ${services} Services`, index / sizes.length)
      rows.push(...(await measureSize(context, services)))
    }
    recorder.print(
      `${formatTable(['Services', 'mode', 'proxy MB', 'at its highest', 'kernel MB'], rows)}\nkernel: slab and vmalloc of the whole machine, after less before; what others do is in it.`,
    )
  },
}

/** With --quick, one size says enough, and not the largest. */
function sizesOf({ services, scale }: BenchOptions): number[] {
  const some = services.filter((n) => n > 0)
  return scale === 'quick' ? some.filter((n, i) => n <= 1000 || i === 0).slice(-1) : some
}

function contendersOf(options: BenchOptions): ReturnType<typeof contenderNames> {
  return contenderNames(options).filter(({ mode }) => mode !== 'direct')
}

async function measureSize({ options, recorder, signal, random }: SuiteContext, services: number): Promise<string[][]> {
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'memory-'))
  stack.defer(() => rmSync(folder, { recursive: true, force: true }))
  const manifests = join(folder, 'manifests')
  generateServices(manifests, { services, endpointsEach: options.endpoints })
  const lab = stack.use(await TrafficLab.open(process.env['PATH'] ?? ''))
  const plane = stack.use(await ControlPlane.open(lab, { folder: join(folder, 'api'), manifests }))
  const rows: string[][] = []
  for (const contender of random.shuffle(contendersOf(options))) {
    const { name } = contender
    try {
      using lane = await lab.addNode()
      const before = kernelMemory()
      await using _running = await startContender(contender, {
        lab,
        lane,
        plane,
        folder: join(folder, name),
        options,
        signal,
      })
      const kernel = kernelMemory() - before
      const sizes = processesIn(lane).map(residentSize)
      const total = (field: 'now' | 'highest'): number => sizes.reduce((sum, size) => sum + size[field], 0)
      const key = {
        unit: 'MB',
        kind: 'size',
        better: 'less',
        mode: name,
        services,
        endpoints: options.endpoints,
      } as const
      recorder.add({ ...key, figure: 'proxy' }, total('now'))
      recorder.add({ ...key, figure: 'proxy, at its highest' }, total('highest'))
      recorder.add({ ...key, figure: 'kernel' }, kernel)
      rows.push([String(services), name, ...[total('now'), total('highest'), kernel].map((mb) => mb.toFixed(1))])
    } catch (error) {
      signal.throwIfAborted()
      recorder.fail(`${name}, ${services} Services`, error)
    }
  }
  return rows
}

/** MB that the kernel cannot give back: unreclaimable slab, and vmalloc. */
function kernelMemory(): number {
  const text = readFileSync('/proc/meminfo', 'utf8')
  const kib = (name: string): number => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return ((kib('SUnreclaim') + kib('VmallocUsed')) * 1024) / 1e6
}

/** MB of a process: now, and at its highest. One that is gone has none. */
function residentSize(pid: number): { readonly now: number; readonly highest: number } {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8')
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
    return { now: (kib('VmRSS') * 1024) / 1e6, highest: (kib('VmHWM') * 1024) / 1e6 }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH')
      return { now: 0, highest: 0 }
    throw error
  }
}
