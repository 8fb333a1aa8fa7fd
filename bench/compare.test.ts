import { expect, test, vi } from 'vitest'
import { compareRuns, formatComparison } from './compare.ts'
import { exampleResults } from './example-results.ts'

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
