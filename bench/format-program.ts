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

const head = [
  'Services',
  'mode',
  'cold',
  'restart',
  'one endpoint',
  'one Service',
  '10 % churn',
  'RSS MB',
  'restore alone',
]

/** The results as a table for people: each cell is time, then what was sent. */
export function formatProgram(
  machine: MachineFacts,
  results: readonly ProgramResult[],
  misses: readonly ProgramMiss[] = [],
): string {
  const rows = results.map((result) => [
    `${result.services} x ${result.endpointsEach}`,
    result.mode,
    cell([result.cold]),
    cell([result.restart]),
    cell(result.changes),
    cell(result.additions),
    cell([result.churn]),
    `${mb(result.rssAfterStart)}/${mb(result.rssAfterChanges)}`,
    result.besideTool ? besideTool(result.besideTool) : '',
  ])
  for (const { services, endpointsEach, mode, reason } of misses)
    rows.push([`${services} x ${endpointsEach}`, mode, reason])
  return `kernel ${machine.kernel}, ${machine.cpus} x ${machine.cpu}, Node ${machine.node}, load ${machine.load}

${formatTable(head, rows)}

Each cell: the sync's time (compile, send, commit), of it in the kernel or in iptables-restore; CPU of daemon and tools; bytes;
elements or rules. Medians where there were several. cold and restart: the first sync of a daemon, CPU since its start;
restart: after kill -9. restore alone: iptables-restore of the same rules without a daemon; how many times as long a first sync in
turn with it took until it was committed (median of pairs), and the whole start of the daemon, with Node and the reading of files.`
}

function besideTool(pairs: readonly ToolPair[]): string {
  const times = (pick: (pair: ToolPair) => number): string =>
    `${median(pairs.map((pair) => pick(pair) / pair.aloneMs)).toFixed(2)}x`
  const alone = time(median(pairs.map(({ aloneMs }) => aloneMs)))
  return `${alone} (sync ${times(({ syncMs }) => syncMs)}, whole start ${times(({ startMs }) => startMs)})`
}

function cell(syncs: readonly MeasuredSync[]): string {
  const middle = (pick: (sync: MeasuredSync) => number): number => median(syncs.map(pick))
  const parts = [
    `${time(middle((s) => s.wallMs))} (${time(middle((s) => s.kernelMs))})`,
    `${middle((s) => s.cpuSeconds).toFixed(2)} s CPU`,
    bytes(middle((s) => s.bytes)),
    String(middle((s) => s.elements)),
  ]
  return parts.join(', ')
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
  return (count / 1e6).toFixed(0)
}
