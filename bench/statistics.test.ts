import { describe, expect, test } from 'vitest'
import { Random } from './random.ts'
import { bootstrapMedian, chiSquare, lineOverRounds, median, pairedRatio, quantile, theilSen } from './statistics.ts'

const seeded = (): { random: Random } => ({ random: new Random(1) })

test.each([
  { values: [1, 2, 3, 4], share: 0.5, expected: 2.5 },
  { values: [4, 1, 3, 2], share: 0.25, expected: 1.75 },
  { values: [10, 20, 30, 40, 50], share: 0.9, expected: 46 },
  { values: [7], share: 0.99, expected: 7 },
])('quantile $share of $values is $expected, as R and numpy have it', ({ values, share, expected }) => {
  expect(quantile(values, share)).toBeCloseTo(expected, 12)
})

test('median of nothing is no number', () => {
  expect(median([])).toBeNaN()
})

describe('bootstrapMedian', () => {
  test('of equal values has an interval without width', () => {
    expect(bootstrapMedian([3, 3, 3], seeded())).toEqual({ value: 3, low: 3, high: 3, times: 3 })
  })

  test('says the same for the same seed', () => {
    const values = [1, 5, 2, 8, 4, 9, 3]
    expect(bootstrapMedian(values, seeded())).toEqual(bootstrapMedian(values, seeded()))
  })

  test('holds the true median in about 95 of 100 samples', () => {
    const random = new Random(7)
    // The sum of 12 uniform numbers is nearly normal; its median is 6.
    const normal = (): number => Array.from({ length: 12 }, () => random.next()).reduce((a, b) => a + b, 0)
    let held = 0
    for (let i = 0; i < 300; i++) {
      const { low, high } = bootstrapMedian(Array.from({ length: 31 }, normal), { random, resamples: 200 })
      if (low <= 6 && 6 <= high) held++
    }
    expect(held / 300).toBeGreaterThan(0.9)
    expect(held / 300).toBeLessThan(0.99)
  })
})

test('pairedRatio does not see what hits both of a pair', () => {
  const drift = [1, 7, 3, 100, 2, 50]
  const { value, low, high } = pairedRatio(
    drift.map((factor) => [30 * factor, 20 * factor]),
    seeded(),
  )
  for (const number of [value, low, high]) expect(number).toBeCloseTo(1.5, 12)
})

describe('theilSen', () => {
  test('finds an exact line', () => {
    const { slope, intercept } = theilSen([0, 10, 1000, 5000].map((x) => ({ x, y: 20 + 0.008 * x })))
    expect(slope).toBeCloseTo(0.008, 12)
    expect(intercept).toBeCloseTo(20, 9)
  })

  test('is not moved by one size that went wrong', () => {
    const points = [0, 1000, 2000, 3000, 4000, 5000].map((x) => ({ x, y: x === 2000 ? 500 : 20 + 0.01 * x }))
    expect(theilSen(points).slope).toBeCloseTo(0.01, 6)
  })

  test('takes the middle of two slopes that weigh as much as all above and below', () => {
    // Slopes by weight: 0 (1), 0 (1), 1 (1), 1 (1): half of the weight is at 0.
    const points = [
      { x: 0, y: 0 },
      { x: 1, y: 0 },
      { x: 1, y: 1 },
      { x: 0, y: 0 },
    ]
    expect(theilSen(points).slope).toBe(0.5)
  })

  test('of one size has no slope', () => {
    expect(theilSen([{ x: 10, y: 1 }]).slope).toBeNaN()
  })
})

describe('lineOverRounds', () => {
  const sizes = [10, 1000, 5000]

  test('does not see what hits all sizes of a round', () => {
    const rounds = [0, 7, 300, 2, 50, 1].map((drift) => sizes.map((x) => ({ x, y: 20 + drift + 0.008 * x })))
    const { slope } = lineOverRounds(rounds, seeded())
    for (const number of [slope.value, slope.low, slope.high]) expect(number).toBeCloseTo(0.008, 10)
  })

  test('has an interval around 0 for noise without a slope in about 95 of 100 runs', () => {
    const random = new Random(3)
    let held = 0
    for (let run = 0; run < 200; run++) {
      const rounds = Array.from({ length: 31 }, () => sizes.map((x) => ({ x, y: 30 + random.next() })))
      const { slope } = lineOverRounds(rounds, { random, resamples: 200 })
      if (slope.low <= 0 && slope.high >= 0) held++
    }
    expect(held / 200).toBeGreaterThan(0.89)
    expect(held / 200).toBeLessThan(1)
  })
})

// Tables of the chi-square distribution: the upper 5 % begin at 3.841 (1 degree of freedom), 9.488 (4), 30.144 (19).
test.each([
  { degrees: 1, statistic: 3.841459, p: 0.05 },
  { degrees: 4, statistic: 9.487729, p: 0.05 },
  { degrees: 19, statistic: 30.143527, p: 0.05 },
  { degrees: 4, statistic: 0.710723, p: 0.95 },
  { degrees: 2, statistic: 13.815511, p: 0.001 },
])('chiSquare with $degrees degrees of freedom at $statistic is $p', ({ degrees, statistic, p }) => {
  // One count that is off by d in two cells gives 2 d^2 / e.
  const expected = Array.from({ length: degrees + 1 }, () => 100)
  const off = Math.sqrt((statistic * 100) / 2)
  const observed = expected.map((count, i) => (i === 0 ? count + off : i === 1 ? count - off : count))
  const result = chiSquare(observed, expected)
  expect(result.statistic).toBeCloseTo(statistic, 9)
  expect(result.p).toBeCloseTo(p, 5)
})

test('Random draws every number below its bound about as often', () => {
  const random = new Random(42)
  const counts = Array.from({ length: 10 }, () => 0)
  for (let i = 0; i < 10_000; i++) counts[random.below(10)]!++
  expect(
    chiSquare(
      counts,
      counts.map(() => 1000),
    ).p,
  ).toBeGreaterThan(0.001)
  expect(random.shuffle([1, 2, 3, 4, 5]).toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5])
})
