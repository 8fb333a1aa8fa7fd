import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { versionText } from '../src/cli/version.ts'
import { abortedByUser, clearUpAtExit } from './clear-up.ts'
import { agreementGoal, compareRuns, formatComparison } from './compare.ts'
import { formatMachine, machineFacts, whyTooBusy } from './machine.ts'
import { flagHelp, parseOptions } from './options.ts'
import { formatMarkdown } from './markdown.ts'
import { makeOutFolder } from './out-folder.ts'
import { formatReport } from './report.ts'
import { readResults, resultsSchema, type BenchResults } from './results.ts'
import { dropRule } from './rounds.ts'
import { checkMachine, chooseSuites, runSuites } from './run-suites.ts'
import { suites } from './suites.ts'
import { formatSummary } from './summary.ts'
import { BenchUsageError } from './usage-error.ts'

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof BenchUsageError)) throw error
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = 2
}

async function main(argv: readonly string[]): Promise<number> {
  const parsed = parseOptions(argv, { suites: suites.map(({ name }) => name), out: 'bench/out' })
  if (parsed === 'help') {
    console.log(help())
    return 0
  }
  if (process.getuid?.() !== 0) throw new BenchUsageError('needs root: it measures in network namespaces of its own')
  // Where Debian has iptables and others; cron, and su without -l, do not.
  process.env['PATH'] = `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`
  const before = parsed.compare === undefined ? undefined : readResults(parsed.compare)
  const chosen = chooseSuites(suites, parsed)
  const { options, missingModes, missing } = await checkMachine(chosen, parsed)
  const machine = await machineFacts()
  const busy = whyTooBusy(machine)
  if (busy !== undefined && machine.load > machine.cpus && !options.force)
    throw new BenchUsageError(`${busy} (--force measures all the same)`)
  if (busy !== undefined) process.stderr.write(`warning: ${busy}\n`)
  process.stderr.write(`${formatMachine(machine)}\n`)
  for (const [mode, reason] of Object.entries(missingModes)) process.stderr.write(`without mode ${mode}: ${reason}\n`)

  makeOutFolder(options.out)
  clearUpAtExit()
  const signal = abortedByUser()
  const began = performance.now()
  const done = await runSuites(chosen, { options, missing, signal })
  const tookMs = performance.now() - began
  const about = { fairlead: versionText(), machine, options, missingModes, dropRule, tookMs }
  const results: BenchResults = { schema: resultsSchema, ...about, suites: done }
  if (!signal.aborted) return publish(results, before)
  // The results of an earlier run stay where there are none.
  if (done.some(({ series }) => series.length > 0)) publish(results, undefined)
  process.exit(130)
}

/** Writes the files, prints the summary, and returns the exit code: 1 when something failed, 3 when too much moved. */
function publish(results: BenchResults, before: BenchResults | undefined): number {
  const { out, json } = results.options
  const comparison = before && compareRuns(results, before)
  const told =
    before && comparison ? { ...results, comparison: { before: before.machine.date, ...comparison } } : results
  writeFileSync(join(out, 'results.json'), `${JSON.stringify(told)}\n`)
  writeFileSync(join(out, 'summary.md'), formatMarkdown(results, comparison))
  writeFileSync(join(out, 'report.html'), formatReport(results, before))
  console.log(json ? JSON.stringify(told) : formatSummary(results))
  process.stderr.write(`${['report.html', 'summary.md', 'results.json'].map((file) => join(out, file)).join(', ')}\n`)
  if (comparison && !json) console.log(`\n== compared with ${before.machine.date}\n${formatComparison(comparison)}`)
  if (results.suites.some(({ failures }) => failures.length > 0)) return 1
  return comparison && comparison.agreeing < agreementGoal * comparison.compared ? 3 : 0
}

function help(): string {
  const lines = suites.map(({ name, measures, byDefault }) => `  ${name.padEnd(13)}${byDefault ? '' : '* '}${measures}`)
  return `npm run bench -- [SUITE...] [options], or fairlead bench

Suites (* only when it is named, or with \`all\`)
${lines.join('\n')}

${flagHelp}

Everything happens in network namespaces of its own; needs root. bench/README.md says what is measured, and how.`
}
