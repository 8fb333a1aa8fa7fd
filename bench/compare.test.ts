import { expect, test, vi } from 'vitest'
import { compareRuns, formatComparison } from './compare.ts'
import { exampleResults } from './example-results.ts'
import { Recorder } from './recorder.ts'
import type { BenchResults } from './results.ts'

// Thousands of medians: some seconds on a busy machine.
vi.setConfig({ testTimeout: 60_000 })

test('compareRuns of two runs of the same thing agrees in nine of ten figures and more', () => {
  const { compared, agreeing } = compareRuns(exampleResults({ seed: 1 }), exampleResults({ seed: 2 }))
  expect(compared).toBeGreaterThan(50)
  expect(agreeing / compared).toBeGreaterThan(0.9)
})

test('compareRuns says what moved, which way, and nothing of what did not', () => {
  const comparison = compareRuns(exampleResults({ shift: 1.5, seed: 2 }), exampleResults({ seed: 1 }))
  const connect = comparison.moved.filter(({ now }) => now.suite === 'connect')
  expect(connect).toHaveLength(32)
  expect(new Set(connect.map(({ direction }) => direction))).toEqual(new Set(['worse']))
  expect(comparison.moved.some(({ now }) => now.suite === 'program')).toBe(false)
  expect(formatComparison(comparison)).toMatch(/connect \| SYN to SYN-ACK \| nftables \| 10 Services .* 1\.5\dx +worse/)
})

test('compareRuns takes counts by their value', () => {
  const before = exampleResults()
  const suites = before.suites.map((result) => ({
    ...result,
    series: result.series.map((one) =>
      one.kind === 'count' && one.mode === 'nftables' ? { ...one, values: one.values.map((value) => value + 1) } : one,
    ),
  }))
  const { moved } = compareRuns({ ...before, suites }, before)
  expect(new Set(moved.map(({ now }) => `${now.figure}, ${now.mode}`))).toEqual(
    new Set(['one endpoint: bytes to the kernel, nftables']),
  )
})

test('compareRuns says what is not the same about the machines', () => {
  const before = exampleResults()
  const machine = { ...before.machine, kernel: '6.1.0', versions: { nft: '1.0.6', iperf3: '3.12' } }
  expect(compareRuns(before, before).machines).toEqual([])
  const comparison = compareRuns({ ...before, machine }, before)
  expect(comparison.machines).toEqual(['kernel 6.12.0, now 6.1.0', 'iperf3 none, now 3.12'])
  expect(formatComparison(comparison)).toContain('not the same machine: kernel 6.12.0, now 6.1.0; iperf3 none')
})

test('formatComparison says so when two runs have nothing in common', () => {
  const now = exampleResults()
  expect(formatComparison(compareRuns(now, { ...now, suites: [] }))).toMatch(
    /^no figure of both runs can be compared\n\d+ figures are in this run only$/,
  )
})

test('compareRuns puts what came out of nothing first, and has no ratio to it', () => {
  const of = (failed: number, other: number): BenchResults => {
    const recorder = new Recorder('update')
    const key = { unit: '', kind: 'size', better: 'less', mode: 'nftables' } as const
    for (let round = 0; round < 5; round++) {
      recorder.add({ ...key, figure: 'other' }, other, { round })
      recorder.add({ ...key, figure: 'failed' }, failed, { round })
    }
    return { ...exampleResults(), suites: [recorder.result()] }
  }
  const text = formatComparison(compareRuns(of(3, 20), of(0, 10)))
  const rows = text.split('\n').slice(-2)
  expect(rows.map((row) => row.trim().split(/ {2,}/))).toEqual([
    ['update | failed | nftables', '0 (0 to 0)', '3 (3 to 3)', 'worse'],
    ['update | other | nftables', '10 (10 to 10)', '20 (20 to 20)', '2.00x', 'worse'],
  ])
})
