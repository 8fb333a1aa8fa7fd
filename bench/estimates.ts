import type { BenchOptions } from './options.ts'
import { Random } from './random.ts'
import type { SuiteResult } from './recorder.ts'
import type { BenchResults } from './results.ts'
import { keyOf, type FigureKey, type Series } from './series.ts'
import { bootstrapMedian, type Estimate } from './statistics.ts'

/** A figure of a run, as it is reported. */
export interface Figure extends FigureKey, Estimate {
  readonly suite: string
  /** See {@link keyOf}. */
  readonly id: string
}

/** Fewer values than this say nothing about how much a figure varies: it has no interval, and is not judged, nor is what was worked out of them. */
export const fewestValues = 5

/** All figures of a run: medians over rounds that count, with 95 % bootstrap intervals, and what suites worked out. */
export function figuresOf({ suites, options }: BenchResults): Figure[] {
  return suites.flatMap((result) => {
    const { suite } = result
    const derived = result.derived.map((one): Figure => ({ ...one, suite, id: keyOf(suite, one) }))
    return inOrder([...figuresOfSeries(result, options), ...derived], options)
  })
}

/** Rounds measure in an order that is drawn; people read the modes in the order of the options, and small sizes first. */
export function inOrder<T extends FigureKey>(figures: readonly T[], { modes, peers }: BenchOptions): T[] {
  const names = ['', ...modes, ...peers.map(({ name }) => name)]
  const place = ({ mode = '' }: T): number => names.indexOf(mode) + (names.includes(mode) ? 0 : names.length + 1)
  return figures.toSorted((a, b) => place(a) - place(b) || (a.services ?? 0) - (b.services ?? 0))
}

/** What one suite measured. */
export function figuresOfSeries(result: SuiteResult, { seed }: { readonly seed: number }): Figure[] {
  const random = new Random(seed)
  const { suite } = result
  return countingSeries(result).map(({ rounds: _rounds, values, raw: _raw, ...key }): Figure => {
    return { ...key, suite, id: keyOf(suite, key), ...bootstrapMedian(values, { random }) }
  })
}

/** What was measured, without the rounds that a rule dropped. */
export function countingSeries(result: SuiteResult): Series[] {
  const counts = countingRounds(result)
  return result.series.map((series) => {
    const { rounds, values, raw, ...key } = series
    if (key.kind === 'count') return series
    const kept = [...rounds.keys()].filter((i) => counts(key.services, rounds[i] ?? 0))
    const of = <T>(all: readonly T[]): T[] => kept.flatMap((i) => all.slice(i, i + 1))
    return { ...key, rounds: of(rounds), values: of(values), ...(raw && { raw: of(raw) }) }
  })
}

/** Whether a figure of some rounds that count, or what was worked out of them, has an interval that says something. */
export function hasInterval({ kind, times }: Figure): boolean {
  return kind !== 'count' && (times === undefined || times >= fewestValues)
}

/**
 * Which rounds count: those that no rule dropped. Where a rule dropped more than half of a part, nothing is left to compare with: all of
 * them count then, and the report says that the machine was busy. A part is a number of Services, or the whole suite.
 */
function countingRounds({ rounds }: SuiteResult): (services: number | undefined, round: number) => boolean {
  const parts = Map.groupBy(rounds, ({ part }) => part)
  const dropped = new Map<string, Set<number>>()
  for (const [part, all] of parts) {
    const gone = all.filter((round) => round.dropped !== undefined)
    if (gone.length <= all.length / 2) dropped.set(part, new Set(gone.map(({ round }) => round)))
  }
  const [whole] = parts.size === 1 ? dropped.values() : []
  return (services, round) => (whole ?? dropped.get(`${services} Services`))?.has(round) !== true
}

/** How many rounds there were, how many were dropped, and in which parts that would have been too many. */
export function droppedRounds(suites: readonly SuiteResult[]): { all: number; dropped: number; busyParts: string[] } {
  const rounds = suites.flatMap(({ suite, rounds }) =>
    rounds.map((round) => ({ ...round, part: round.part === suite ? suite : `${suite}, ${round.part}` })),
  )
  const parts = Map.groupBy(rounds, ({ part }) => part)
  let dropped = 0
  const busyParts: string[] = []
  for (const [part, all] of parts) {
    const gone = all.filter((round) => round.dropped !== undefined).length
    if (gone > all.length / 2) busyParts.push(part)
    else dropped += gone
  }
  return { all: rounds.length, dropped, busyParts }
}
