import { formatTable } from '../src/cli/table.ts'
import type { MachineFacts } from './machine.ts'
import { median } from './statistics.ts'
import type { MeasuredSync, ProgramResult, ToolPair } from './program.ts'

/** A mode that was not ready in time at a size. */
export interface ProgramMiss {
  readonly mode: string
  readonly services: number
  readonly endpointsEach: number
  readonly reason: string
}

/** The results as two tables for people: what each step took, and what is true of a whole run. */
export function formatProgram(
  machine: MachineFacts,
  results: readonly ProgramResult[],
  misses: readonly ProgramMiss[] = [],
): string {
  return `kernel ${machine.kernel}, ${machine.cpus} x ${machine.cpu}, Node ${machine.node}, load ${machine.load}

${formatSteps(results)}

${formatRuns(results, misses)}

sync: compile, send, commit; of it in the kernel or in iptables-restore. CPU: daemon and tools. Medians where there were several. cold
and restart: the first sync of a daemon, CPU since its start; restart: after kill -9. restore alone: iptables-restore of the same
rules without a daemon; how many times as long a first sync in turn with it took until it was committed (median of pairs), and the
whole start of the daemon, with Node and the reading of files.`
}

function formatSteps(results: readonly ProgramResult[]): string {
  const head = ['Services', 'mode', 'step', 'sync', 'of it kernel', 'CPU', 'sent', 'elements, rules']
  const rows = results.flatMap((result) => {
    const steps: readonly (readonly [string, readonly MeasuredSync[]])[] = [
      ['cold', [result.cold]],
      ['restart', [result.restart]],
      ['one endpoint', result.changes],
      ['one Service', result.additions],
      ['10 % churn', [result.churn]],
    ]
    return steps.map(([step, syncs], i) => [...(i === 0 ? nameOf(result) : ['', '']), step, ...cells(syncs)])
  })
  return formatTable(head, rows)
}

function formatRuns(results: readonly ProgramResult[], misses: readonly ProgramMiss[]): string {
  const head = ['Services', 'mode', 'memory', 'after changes', 'restore alone', 'first sync', 'whole start']
  const rows = results.map((result) => [
    ...nameOf(result),
    mb(result.rssAfterStart),
    mb(result.rssAfterChanges),
    ...(result.besideTool ? besideTool(result.besideTool) : ['', '', '']),
  ])
  for (const miss of misses) rows.push([...nameOf(miss), miss.reason])
  return formatTable(head, rows)
}

function nameOf({ services, endpointsEach, mode }: Pick<ProgramMiss, 'services' | 'endpointsEach' | 'mode'>): string[] {
  return [`${services} x ${endpointsEach}`, mode]
}

function besideTool(pairs: readonly ToolPair[]): string[] {
  const times = (pick: (pair: ToolPair) => number): string =>
    `${median(pairs.map((pair) => pick(pair) / pair.aloneMs)).toFixed(2)}x`
  return [
    time(median(pairs.map(({ aloneMs }) => aloneMs))),
    times(({ syncMs }) => syncMs),
    times(({ startMs }) => startMs),
  ]
}

function cells(syncs: readonly MeasuredSync[]): string[] {
  const middle = (pick: (sync: MeasuredSync) => number): number => median(syncs.map(pick))
  return [
    time(middle((s) => s.wallMs)),
    time(middle((s) => s.kernelMs)),
    `${middle((s) => s.cpuSeconds).toFixed(2)} s`,
    bytes(middle((s) => s.bytes)),
    String(middle((s) => s.elements)),
  ]
}

function time(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`
  return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`
}

function bytes(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} MB`
  return count >= 1e4 ? `${(count / 1e3).toFixed(0)} kB` : `${count} B`
}

function mb(count: number): string {
  return `${(count / 1e6).toFixed(0)} MB`
}
