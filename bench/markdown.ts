import { rowsOfMoved, type Comparison } from './compare.ts'
import { droppedRounds, figuresOf, type Figure } from './estimates.ts'
import { formatFigure } from './format-figure.ts'
import { formatMachine } from './machine.ts'
import type { BenchResults } from './results.ts'

/** A summary to paste into an issue or a page: claims, and the headline figures of each suite. */
export function formatMarkdown(results: BenchResults, comparison?: Comparison): string {
  const { machine, fairlead, suites, missingModes } = results
  const { all, dropped, busyParts } = droppedRounds(suites)
  const lines = [
    `## fairlead bench, ${machine.date.slice(0, 10)}`,
    '',
    plain(
      `fairlead ${fairlead}; ${formatMachine(machine)}; ${(results.tookMs / 60_000).toFixed(1)} minutes; ${dropped} of ${all} rounds dropped` +
        (busyParts.length > 0 ? `; busy machine (${busyParts.length} parts)` : ''),
    ),
  ]
  const figures = figuresOf(results)
  for (const { suite, claims, skipped, failures, texts } of suites) {
    lines.push('', `### ${suite}`, '')
    for (const { text, holds, seen } of claims)
      lines.push(`- ${holds ? 'holds' : '**does not hold**'}: ${plain(`${text}: ${seen}`)}`)
    for (const { what, reason } of failures) lines.push(`- **failed**: ${plain(`${what}: ${reason}`)}`)
    for (const { what, reason } of skipped) lines.push(`- left out: ${plain(`${what}: ${reason}`)}`)
    const names = headlineFigures[suite]
    if (names)
      lines.push(
        ...headlines(
          figures.filter((figure) => figure.suite === suite),
          names,
        ),
      )
    else for (const text of texts) lines.push('', '```', text, '```')
  }
  for (const [mode, reason] of Object.entries(missingModes)) lines.push('', plain(`Without mode ${mode}: ${reason}`))
  if (comparison) lines.push(...compared(comparison))
  return `${lines.join('\n').replaceAll(/\n{3,}/g, '\n\n')}\n`
}

/** By suite; those that are not here show their own tables. */
const headlineFigures: Readonly<Record<string, readonly string[]>> = {
  connect: ['SYN to SYN-ACK', 'round trip on one connection', 'connections with a request'],
  program: ['cold start: sync', 'one endpoint: sync', 'one endpoint: bytes to the kernel', 'memory after start'],
  update: ['event to first packet', 'failed connections during churn', 'failed connections during a rolling update'],
  throughput: ['TCP throughput', 'UDP datagrams of 64 bytes that arrive', 'CPU for a Gbit'],
  balance: ['chi-square p', 'clients that Maglev moved'],
  memory: ['proxy', 'kernel'],
}

/** A table for each figure: sizes and labels down, modes across. */
function headlines(figures: readonly Figure[], names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const of = figures.filter(
      ({ figure, labels }) =>
        figure === name && ['last Service', undefined].includes(labels?.['target']) && labels?.['protocol'] !== 'udp',
    )
    if (of.length === 0) return []
    const modes = [...new Set(of.map(({ mode }) => mode ?? ''))]
    const rows = Map.groupBy(of, rowOf)
    const isOfConnect = of.some(({ labels }) => labels?.['target'] !== undefined)
    return [
      '',
      `${name}${isOfConnect ? ' (last Service, TCP)' : ''}`,
      '',
      row([of.some(({ services }) => services !== undefined) ? 'Services' : '', ...modes.map(plain)]),
      row(['---', ...modes.map(() => '---')]),
      ...[...rows].map(([first, cells]) => {
        const found = modes.map((mode) => cells.find((one) => (one.mode ?? '') === mode))
        return row([plain(first), ...found.map((cell) => (cell ? formatFigure(cell) : ''))])
      }),
    ]
  })
}

function rowOf({ services, labels }: Figure): string {
  const { target: _target, protocol: _protocol, ...rest } = labels ?? {}
  return [...(services === undefined ? [] : [String(services)]), ...Object.values(rest)].join(', ')
}

function compared(comparison: Comparison): string[] {
  const { compared: all, agreeing, machines } = comparison
  const rows = rowsOfMoved(comparison)
  return [
    '',
    '### compared with the other run',
    '',
    `${agreeing} of ${all} figures agree within their intervals.`,
    ...(machines.length > 0 ? ['', plain(`Not the same machine: ${machines.join('; ')}`)] : []),
    ...(rows.length > 0
      ? ['', row(['moved beyond noise', 'before', 'now', 'ratio', '']), row(Array.from({ length: 5 }, () => '---'))]
      : []),
    ...rows.map((cells) => row(cells.map(plain))),
  ]
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

/** Text in one line in which Markdown sees nothing else. */
function plain(text: string): string {
  return text
    .replaceAll(/\s+/g, ' ')
    .trim()
    .replaceAll(/[\\`*<|]/g, (char) => `\\${char}`)
}
