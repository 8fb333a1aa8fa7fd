import { formatMachine } from './machine.ts'
import type { BenchResults } from './results.ts'

/** The run for people at a terminal. */
export function formatSummary(results: BenchResults): string {
  const lines = [`fairlead ${results.fairlead}, ${formatMachine(results.machine)}`]
  for (const { suite, texts, claims, skipped, failures } of results.suites) {
    lines.push('', `== ${suite}`)
    if (texts.length > 0) lines.push(texts.join('\n\n'))
    for (const { text, holds, seen } of claims) lines.push(`${holds ? 'holds   ' : 'DOES NOT'} ${text}: ${seen}`)
    for (const { what, reason } of skipped) lines.push(`left out: ${what}: ${reason}`)
    for (const { what, reason } of failures) lines.push(`FAILED: ${what}: ${reason}`)
  }
  for (const [mode, reason] of Object.entries(results.missingModes)) lines.push(`without mode ${mode}: ${reason}`)
  return lines.join('\n')
}
