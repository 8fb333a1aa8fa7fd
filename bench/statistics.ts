import type { Random } from './random.ts'

/** An estimate and the interval that it is in with the stated confidence. */
export interface Estimate {
  readonly value: number
  readonly low: number
  readonly high: number
  /** Of how many values it was made. */
  readonly times?: number
}

/** A straight line through points: what one more Service costs, and what there is without any. */
export interface Line {
  readonly slope: Estimate
  readonly intercept: Estimate
}

/** How intervals are made. */
export interface BootstrapOptions {
  readonly random: Random
  /** @default 1000 */
  readonly resamples?: number
  /** @default 0.95 */
  readonly confidence?: number
}

/** The value that a share of all values is below, interpolated between neighbours (type 7 of R). NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  return quantileOfSorted(Float64Array.from(values).sort(), share)
}

/** The middle of the values; between two, half way. NaN of none. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/**
 * The median with its percentile bootstrap interval (Efron 1979): the medians of samples drawn from the sample, with
 * replacement. Of one value the interval is that value.
 */
export function bootstrapMedian(values: readonly number[], options: BootstrapOptions): Estimate {
  const estimate = bootstrap(median(values), options, (random) => {
    const drawn = new Float64Array(values.length)
    for (let i = 0; i < drawn.length; i++) drawn[i] = values[random.below(values.length)] ?? Number.NaN
    return quantileOfSorted(drawn.sort(), 0.5)
  })
  return { ...estimate, times: values.length }
}

/**
 * The median ratio of two figures of the same rounds: what the machine did besides hit both of a pair, and cancels out
 * (duet benchmarking, Bulej et al. 2020). `pairs` are [figure, baseline].
 */
export function pairedRatio(pairs: readonly (readonly [number, number])[], options: BootstrapOptions): Estimate {
  return bootstrapMedian(
    pairs.map(([figure, baseline]) => figure / baseline),
    options,
  )
}

/** A point of a line. */
export interface Point {
  readonly x: number
  readonly y: number
}

/**
 * A line through points by the weighted Theil-Sen estimator (Sen 1968; weights as Sievers 1978): the median of the slopes between all
 * pairs of points, each as heavy as its points are far apart. Less than two different x: NaN.
 */
export function theilSen(points: readonly Point[]): { readonly slope: number; readonly intercept: number } {
  const slopes: { value: number; weight: number }[] = []
  for (const [i, a] of points.entries()) {
    for (const b of points.slice(i + 1)) {
      if (a.x !== b.x) slopes.push({ value: (b.y - a.y) / (b.x - a.x), weight: Math.abs(b.x - a.x) })
    }
  }
  const slope = weightedMedian(slopes)
  return { slope, intercept: median(points.map(({ x, y }) => y - slope * x)) }
}

/**
 * The line of a run: each round has a line of its own, through points that were measured right after one another, so what the machine
 * did in that round is in the intercept and not in the slope. Medians over rounds, with their bootstrap intervals.
 */
export function lineOverRounds(rounds: readonly (readonly Point[])[], options: BootstrapOptions): Line {
  const lines = rounds.map(theilSen)
  return {
    slope: bootstrapMedian(
      lines.map(({ slope }) => slope),
      options,
    ),
    intercept: bootstrapMedian(
      lines.map(({ intercept }) => intercept),
      options,
    ),
  }
}

/**
 * How likely it is that counts differ from what is expected at least this much by chance (Pearson's chi-square test; the
 * p-value). Expected counts should be 5 or more.
 */
export function chiSquare(
  observed: readonly number[],
  expected: readonly number[],
): { readonly statistic: number; readonly p: number } {
  if (observed.length !== expected.length) throw new RangeError('as many expected as observed counts are needed')
  const statistic = observed.reduce((sum, count, i) => sum + (count - (expected[i] ?? 0)) ** 2 / (expected[i] ?? 0), 0)
  return { statistic, p: upperGamma((observed.length - 1) / 2, statistic / 2) }
}

function bootstrap(value: number, options: BootstrapOptions, resample: (random: Random) => number): Estimate {
  const { random, resamples = 1000 } = options
  return percentiles(
    value,
    Array.from({ length: resamples }, () => resample(random)),
    options,
  )
}

function percentiles(value: number, drawn: readonly number[], { confidence = 0.95 }: BootstrapOptions): Estimate {
  const sorted = Float64Array.from(drawn).sort()
  return {
    value,
    low: quantileOfSorted(sorted, (1 - confidence) / 2),
    high: quantileOfSorted(sorted, (1 + confidence) / 2),
  }
}

function weightedMedian(values: { readonly value: number; readonly weight: number }[]): number {
  const sorted = values.toSorted((a, b) => a.value - b.value)
  let left = sorted.reduce((sum, { weight }) => sum + weight, 0) / 2
  for (const [i, { value, weight }] of sorted.entries()) {
    left -= weight
    // Half of the weight below and half above: half way, as with the median. The lower one alone would tilt lines down.
    if (left === 0) return (value + (sorted[i + 1]?.value ?? value)) / 2
    if (left < 0) return value
  }
  return Number.NaN
}

function quantileOfSorted(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)] ?? Number.NaN
  const above = sorted[Math.ceil(at)] ?? Number.NaN
  return below + (above - below) * (at - Math.floor(at))
}

/** The regularized upper incomplete gamma function Q(a, x): its series below a + 1, its continued fraction above (Lentz). */
function upperGamma(a: number, x: number): number {
  if (x <= 0) return 1
  const scale = Math.exp(-x + a * Math.log(x) - logGamma(a))
  if (x < a + 1) {
    let term = 1 / a
    let sum = term
    for (let n = 1; n < 1000 && term > sum * 1e-15; n++) sum += term *= x / (a + n)
    return 1 - sum * scale
  }
  let b = x + 1 - a
  let c = 1e300
  let d = 1 / b
  let fraction = d
  for (let i = 1; i < 1000; i++) {
    const factor = -i * (i - a)
    b += 2
    d = 1 / (factor * d + b)
    c = b + factor / c
    fraction *= d * c
    if (Math.abs(d * c - 1) < 1e-15) break
  }
  return fraction * scale
}

/** ln Γ(x) for x > 0 (Lanczos, g = 7). */
function logGamma(x: number): number {
  const coefficients = [
    676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406, 12.507343278686905,
    -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7,
  ]
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x)
  const t = x + 6.5
  const sum = coefficients.reduce((total, c, i) => total + c / (x + i), 0.9999999999998099)
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum)
}
