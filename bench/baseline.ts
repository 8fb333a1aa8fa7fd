import { figuresOf } from './estimates.ts'
import type { BenchResults } from './results.ts'

/** Counted work by the key of its figure (`series.ts`): bench/baseline.json. */
export type Baseline = Readonly<Record<string, number>>

/** What became of counted work. */
export interface BaselineDifference {
  /** More work than before: this is what fails. */
  readonly grown: readonly { readonly id: string; readonly from: number; readonly to: number }[]
  /** Less: the baseline can be written anew, so that it stays. */
  readonly shrunk: readonly { readonly id: string; readonly from: number; readonly to: number }[]
  /** Not in the baseline. */
  readonly unknown: readonly string[]
  /** In the baseline, of a mode that was measured, and not measured any more: as if it had grown. */
  readonly missing: readonly string[]
}

/** All counted work of a run. */
export function countedWork(results: BenchResults): Baseline {
  const counts = figuresOf(results).filter(({ kind }) => kind === 'count')
  return Object.fromEntries(
    counts.map(({ id, value }): [string, number] => [id, value]).toSorted(([a], [b]) => (a < b ? -1 : 1)),
  )
}

/** Compares counted work with the baseline. Modes that this machine does not have are passed over. */
export function compareWork(
  now: Baseline,
  baseline: Baseline,
  options: { readonly missingModes: readonly string[] },
): BaselineDifference {
  const both = Object.entries(now).flatMap(([id, to]) => {
    const from = baseline[id]
    return from === undefined || from === to ? [] : [{ id, from, to }]
  })
  const isPassedOver = (id: string): boolean => options.missingModes.some((mode) => id.split(' | ').includes(mode))
  return {
    grown: both.filter(({ from, to }) => to > from),
    shrunk: both.filter(({ from, to }) => to < from),
    unknown: Object.keys(now).filter((id) => baseline[id] === undefined),
    missing: Object.keys(baseline).filter((id) => now[id] === undefined && !isPassedOver(id)),
  }
}
