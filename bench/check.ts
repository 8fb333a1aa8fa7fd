/**
 * `npm run bench:check`: counted work (bytes, messages, rules, elements of each change; rules that a first packet visits) must not grow beyond
 * bench/baseline.json. `--update` writes what is counted now. Times play no part.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { compareWork, countedWork, type Baseline, type BaselineDifference } from './baseline.ts'
import { abortedByUser, clearUpAtExit } from './clear-up.ts'
import { connectSuite } from './connect-suite.ts'
import { machineFacts } from './machine.ts'
import { parseOptions } from './options.ts'
import { programSuite } from './program-suite.ts'
import { resultsSchema, type BenchResults } from './results.ts'
import { dropRule } from './rounds.ts'
import { checkMachine, runSuites } from './run-suites.ts'

const file = new URL('baseline.json', import.meta.url)
const isUpdate = process.argv[2] === '--update'
if (process.argv.length > (isUpdate ? 3 : 2)) stop(`${process.argv[2]}: expected --update, or nothing`)
if (process.getuid?.() !== 0) stop('needs root: it counts in network namespaces of its own')

clearUpAtExit()
const signal = abortedByUser()
const results = await count()
const now = countedWork(results)
const failures = results.suites.flatMap((suite) => suite.failures)
for (const { what, reason } of failures) console.log(`failed: ${what}: ${reason}`)
if (isUpdate && failures.length === 0) {
  const kept = Object.entries(readBaseline()).filter(([id]) => isOfMissingMode(id))
  writeFileSync(file, `${JSON.stringify({ ...Object.fromEntries(kept), ...now }, undefined, 2)}\n`)
  console.log(`${Object.keys(now).length} counts are the baseline now`)
} else {
  const difference = compareWork(now, readBaseline(), { missingModes: Object.keys(results.missingModes) })
  report(difference)
  process.exitCode = failures.length + difference.grown.length + difference.missing.length > 0 ? 1 : 0
}

async function count(): Promise<BenchResults> {
  const argv = ['--quick', '--services', '10,500', '--rounds', '2', '--seed', '1']
  const parsed = parseOptions(argv, { suites: [], out: tmpdir() })
  if (parsed === 'help') throw new Error('no help was asked for')
  const wanted = { ...parsed, modes: ['nftables', 'iptables-legacy', 'iptables-nft', 'ipvs', 'userspace'] as const }
  const suites = [connectSuite, programSuite]
  const { options, missingModes, missing } = await checkMachine(suites, wanted)
  const done = await runSuites(suites, { options, missing, signal })
  const machine = await machineFacts()
  return { schema: resultsSchema, fairlead: '', machine, options, missingModes, dropRule, tookMs: 0, suites: done }
}

function readBaseline(): Baseline {
  return JSON.parse(readFileSync(file, 'utf8')) as Baseline
}

function isOfMissingMode(id: string): boolean {
  return Object.keys(results.missingModes).some((mode) => id.split(' | ').includes(mode))
}

function report({ grown, shrunk, unknown, missing }: BaselineDifference): void {
  for (const { id, from, to } of grown) console.log(`GROWN: ${id}: ${from} -> ${to}`)
  for (const id of missing) console.log(`GONE: ${id}`)
  for (const { id, from, to } of shrunk) console.log(`less: ${id}: ${from} -> ${to}`)
  for (const id of unknown) console.log(`new: ${id}: ${now[id]}`)
  const same = Object.keys(now).length - grown.length - shrunk.length - unknown.length
  console.log(
    `${same} counts as in the baseline, ${grown.length} grown, ${missing.length} gone, ${shrunk.length} less, ${unknown.length} new`,
  )
  if (shrunk.length + unknown.length > 0) console.log('npm run bench:check -- --update writes the baseline anew')
}

function stop(message: string): never {
  process.stderr.write(`bench:check: ${message}\n`)
  process.exit(2)
}
