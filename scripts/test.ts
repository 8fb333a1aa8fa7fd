/**
 * Runs the checks and test projects one after the other and ends in one line: `N passed, N failed, N skipped`.
 * What cannot run on this machine is skipped with its reason, and counted. What failed is named again right above that last line,
 * with what it said: nobody should have to look for it among thousands.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { countResults, formatCounts, formatResult, type Counts, type FlowResult } from '../test/conformance/report.ts'
import { guestObstacle } from '../test/vm/guest.ts'
import { cacheFolder, ensureKernel } from '../test/vm/kernel-package.ts'

interface Outcome {
  passed: number
  /** What failed, each with what it said. */
  failed: string[]
  /** Reason to how many. */
  skipped: Map<string, number>
}

interface VitestReport {
  testResults: {
    name: string
    status: string
    message?: string
    assertionResults: {
      status: string
      fullName: string
      failureMessages?: string[]
      meta?: { skipReason?: string }
    }[]
  }[]
}

const bin = (name: string): string => join('node_modules/.bin', name)
/** Runs the words after it in the guest. */
const guestRunner = ['test/vm/main.ts'] as const
const total: Outcome = { passed: 0, failed: [], skipped: new Map() }

/**
 * What runs in the guest of test/vm, beside all flow cases in mode ipvs: what this machine's kernel may not have. With FAIRLEAD_TEST_VM=1
 * also our start from nothing (doctor, hello) and the other modes' packets, because modules that load on demand and a kernel without
 * br_netfilter show there; FAIRLEAD_TEST_VM=0 leaves the guest out. All of the kernel project in the guest: `npm run test:vm -- src test`.
 */
const guestFiles =
  process.env['FAIRLEAD_TEST_VM'] === '1'
    ? ['test/vm', 'src/linux/sctp', 'src/ipvs', 'src/proxy']
    : ['test/vm/features', 'src/linux/sctp', 'src/ipvs', 'src/proxy-ipvs']

const steps: [string, () => void][] = [
  ['types', () => check('types', [bin('tsc'), '-p', '.'])],
  ['lint', () => check('lint', [bin('oxlint'), '--type-aware', 'src', 'test', 'bench', 'scripts'])],
  ['format', () => check('format', [bin('oxfmt'), '--check', 'src', 'test', 'bench', 'scripts'])],
  ['unit', () => vitest('unit')],
  ['kernel', () => (process.getuid?.() === 0 ? vitest('kernel') : skip('kernel tests need root'))],
  ['conformance in mode nftables', () => conformance('nftables')],
  ['conformance in mode iptables', () => conformance('iptables')],
  ['conformance in mode userspace', () => conformance('userspace')],
  ['fuzz of DNS', () => check('fuzz of DNS', [process.execPath, '--expose-gc', 'test/fuzz/dns-messages.ts'])],
  ['conformance of DNS', () => cases('of DNS', 'dns', ['test/conformance-dns/main.ts'])],
  ['vm', guest],
]

for (const [name, step] of steps) {
  const start = performance.now()
  process.stdout.write(`\n== ${name}\n`)
  step()
  process.stdout.write(`== ${name}: ${((performance.now() - start) / 1000).toFixed(1)} s\n`)
}

for (const [reason, count] of total.skipped) console.log(`skipped ${count}: ${reason}`)
const skipped = [...total.skipped.values()].reduce((a, b) => a + b, 0)
for (const what of total.failed) console.log(`FAILED: ${what}`)
console.log(`${total.passed} passed, ${total.failed.length} failed, ${skipped} skipped`)
process.exit(total.failed.length > 0 ? 1 : 0)

function check(name: string, argv: [string, ...string[]]): void {
  const { status } = spawnSync(argv[0], argv.slice(1), { stdio: 'inherit' })
  if (status === 0) total.passed++
  else fail(name)
}

function fail(what: string): void {
  total.failed.push(what)
  console.log(`FAILED: ${what}`)
}

function skip(reason: string, count = 1): void {
  total.skipped.set(reason, (total.skipped.get(reason) ?? 0) + count)
}

function guest(): void {
  const obstacle = whyNoGuest()
  if (obstacle !== undefined) return skip(`vm: ${obstacle}`)
  vitest('vm', ['--project', 'kernel', ...guestFiles], [...guestRunner, '--limit', '900'])
  cases('in mode ipvs', 'flows', [...flowRunner('ipvs'), '--warm'], [...guestRunner, '--limit', '900'])
}

function whyNoGuest(): string | undefined {
  if (process.env['FAIRLEAD_TEST_VM'] === '0') return 'FAIRLEAD_TEST_VM=0 leaves the guest out, and mode ipvs with it'
  if (process.getuid?.() !== 0) return 'needs root, to read what the tests read'
  const obstacle = guestObstacle()
  if (obstacle !== undefined) return obstacle
  try {
    ensureKernel(cacheFolder(process.env), console.log)
    return undefined
  } catch (error) {
    return `its kernel cannot be had: ${error instanceof Error ? error.message : String(error)}`
  }
}

function conformance(mode: string): void {
  cases(`in mode ${mode}`, 'flows', flowRunner(mode))
}

function flowRunner(mode: string): readonly string[] {
  return ['test/conformance/main.ts', '--mode', mode]
}

/** Case files: ours, and those of the contract where they lie beside the repository. A flow or query counts as a test. */
function cases(what: string, kind: 'flows' | 'dns', runner: readonly string[], guest: readonly string[] = []): void {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-test-'))
  const file = join(folder, 'results.json')
  const paths = [`test/cases/${kind}`, `../shared/cases/${kind}`].filter((path) => existsSync(path))
  const inGuest = guest.length > 0 ? [...guest, '--share', folder, process.execPath] : []
  const words = [...inGuest, ...runner, '--json', file, ...paths]
  try {
    spawnSync(process.execPath, words, { stdio: ['ignore', 'ignore', 'inherit'] })
    const lines = readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
    const results = lines.map((line) => JSON.parse(line) as FlowResult | Counts).filter((line) => 'flow' in line)
    for (const result of results) {
      if (result.result === 'ok') total.passed++
      else if (result.result === 'skip') skip(`conformance: ${result.reason ?? ''}`)
      else fail(`conformance ${what}: ${formatResult(result)}`)
    }
    console.log(formatCounts(countResults(results)))
  } catch (error) {
    fail(`conformance ${what}: no results: ${String(error)}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Runs a project, in the guest when there is a `runner` (whose option `--share` lets the report out). */
function vitest(project: string, more: readonly string[] = [], runner: readonly string[] = []): void {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-test-'))
  const file = join(folder, 'report.json')
  // Run by our own Node: the machine's may be too old for vitest.
  const words = [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--project',
    project,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
    ...more,
  ]
  const inGuest = [...runner, '--share', folder, process.execPath, ...words]
  const { status } = spawnSync(process.execPath, runner.length > 0 ? inGuest : words, { stdio: 'inherit' })
  const before = total.failed.length
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as VitestReport
    for (const suite of report.testResults) {
      if (suite.status === 'failed' && suite.assertionResults.length === 0)
        fail(`${suite.name}: ${suite.message ?? ''}`)
      for (const test of suite.assertionResults) {
        if (test.status === 'passed') total.passed++
        else if (test.status === 'failed')
          fail([`${suite.name}: ${test.fullName}`, ...(test.failureMessages ?? [])].join('\n'))
        else skip(`${project}: ${test.meta?.skipReason ?? whereItRuns(test.fullName) ?? test.fullName}`)
      }
    }
  } catch (error) {
    fail(`${project}: no report from vitest: ${String(error)}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
  // vitest also fails for what no test reports: an unhandled rejection, say.
  if (status !== 0 && total.failed.length === before) fail(`${project}: vitest ended with ${status ?? 'a signal'}`)
}

/** Where a test says in its title that it runs: `(where the kernel has IPVS: npm run test:vm)`. */
function whereItRuns(title: string): string | undefined {
  return /\((where [^()]*)\)/.exec(title)?.[1]
}
