import { droppedRounds, figuresOf } from './estimates.ts'
import { formatFigure } from './format-figure.ts'
import { formatMachine } from './machine.ts'
import type { BenchResults } from './results.ts'

/** A summary to paste into an issue or a page: claims, and the headline figures of each suite. */
export function formatMarkdown(results: BenchResults): string {
  const { machine, fairlead, suites, missingModes } = results
  const { all, dropped, busyParts } = droppedRounds(suites)
  const lines = [
    `## fairlead bench, ${machine.date.slice(0, 10)}`,
    '',
    `fairlead ${fairlead}; ${formatMachine(machine)}; ${(results.tookMs / 60_000).toFixed(1)} minutes; ${dropped} of ${all} rounds dropped` +
      (busyParts.length > 0 ? `; busy machine (${busyParts.length} parts)` : ''),
  ]
  for (const { suite, claims, skipped, failures } of suites) {
    lines.push('', `### ${suite}`, '')
    for (const { text, holds, seen } of claims)
      lines.push(`- ${holds ? 'holds' : '**does not hold**'}: ${text}: ${seen}`)
    for (const { what, reason } of failures) lines.push(`- **failed**: ${what}: ${reason}`)
    for (const { what, reason } of skipped) lines.push(`- left out: ${what}: ${reason}`)
    lines.push(...headlines(results, suite))
  }
  for (const [mode, reason] of Object.entries(missingModes)) lines.push('', `Without mode ${mode}: ${reason}`)
  return `${lines.join('\n')}\n`
}

const headlineFigures: Readonly<Record<string, readonly string[]>> = {
  connect: ['SYN to SYN-ACK', 'round trip on one connection', 'connections with a request'],
  program: ['cold start: sync', 'one endpoint: sync', 'one endpoint: bytes to the kernel', 'memory after start'],
  update: ['event to first packet', 'failed connections during churn'],
  throughput: ['TCP throughput', 'CPU for a Gbit'],
  balance: ['chi-square p'],
  memory: ['daemon', 'kernel'],
}

/** Sizes down, modes across. */
function headlines(results: BenchResults, suite: string): string[] {
  const figures = figuresOf({ ...results, suites: results.suites.filter((one) => one.suite === suite) })
  const lines: string[] = []
  for (const name of headlineFigures[suite] ?? []) {
    const of = figures.filter(
      ({ figure, labels }) =>
        figure === name && ['last Service', undefined].includes(labels?.['target']) && labels?.['protocol'] !== 'udp',
    )
    if (of.length === 0) continue
    const modes = [...new Set(of.map(({ mode }) => mode ?? ''))]
    lines.push('', `${name}${suite === 'connect' ? ' (last Service, TCP)' : ''}`, '')
    lines.push(`| Services | ${modes.join(' | ')} |`, `| --- |${' --- |'.repeat(modes.length)}`)
    for (const [services, cells] of Map.groupBy(of, (figure) => figure.services ?? '')) {
      const row = modes.map((mode) => {
        const cell = cells.find((one) => (one.mode ?? '') === mode)
        return cell ? formatFigure(cell) : ''
      })
      lines.push(`| ${services} | ${row.join(' | ')} |`)
    }
  }
  return lines
}
