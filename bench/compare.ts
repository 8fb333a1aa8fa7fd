import { formatTable } from '../src/cli/table.ts'
import { figuresOf, hasInterval, type Figure } from './estimates.ts'
import { formatFigure } from './format-figure.ts'
import type { BenchResults } from './results.ts'

/** Two runs of the same thing beside each other. */
export interface Comparison {
  /** Figures that both runs have with intervals, or as counts. */
  readonly compared: number
  /** Of them, those whose intervals overlap, or whose counts are equal. */
  readonly agreeing: number
  readonly moved: readonly Moved[]
  /** Figures with too few values in either run to be judged. */
  readonly notJudged: number
  readonly onlyBefore: readonly string[]
  readonly onlyNow: readonly string[]
}

/** A figure that moved beyond noise. */
export interface Moved {
  readonly before: Figure
  readonly now: Figure
  /** For the better, for the worse, or neither is better. */
  readonly direction: 'better' | 'worse' | 'other'
}

/** The share of figures that two runs of the same code on the same machine should agree in. */
export const agreementGoal = 0.9

/** Compares a run with an earlier one. */
export function compareRuns(now: BenchResults, before: BenchResults): Comparison {
  const earlier = new Map(figuresOf(before).map((figure) => [figure.id, figure]))
  const onlyNow: string[] = []
  const moved: Moved[] = []
  let [compared, agreeing, notJudged] = [0, 0, 0]
  for (const figure of figuresOf(now)) {
    const other = earlier.get(figure.id)
    earlier.delete(figure.id)
    if (!other) onlyNow.push(figure.id)
    else if (figure.kind !== 'count' && !(hasInterval(figure) && hasInterval(other))) notJudged++
    else {
      compared++
      if (agree(figure, other)) agreeing++
      else moved.push({ before: other, now: figure, direction: directionOf(other, figure) })
    }
  }
  moved.sort((a, b) => howFar(b) - howFar(a))
  return { compared, agreeing, moved, notJudged, onlyBefore: [...earlier.keys()], onlyNow }
}

function agree(a: Figure, b: Figure): boolean {
  if (a.kind === 'count') return a.value === b.value
  return a.low <= b.high && b.low <= a.high
}

function directionOf(before: Figure, now: Figure): Moved['direction'] {
  if (now.better === 'neither') return 'other'
  return now.value < before.value === (now.better === 'less') ? 'better' : 'worse'
}

function howFar({ before, now }: Moved): number {
  return Math.abs(Math.log(Math.abs(now.value / before.value)))
}

/** The comparison for people. */
export function formatComparison({ compared, agreeing, moved, notJudged, onlyBefore, onlyNow }: Comparison): string {
  const share = compared === 0 ? 0 : (agreeing / compared) * 100
  const lines = [
    `${agreeing} of ${compared} figures agree within their intervals (${share.toFixed(1)} %)`,
    ...(notJudged > 0 ? [`${notJudged} were measured too seldom to be judged`] : []),
    ...(onlyBefore.length > 0 ? [`${onlyBefore.length} figures are in the other run only`] : []),
    ...(onlyNow.length > 0 ? [`${onlyNow.length} figures are in this run only`] : []),
  ]
  if (moved.length > 0) {
    const rows = moved.map(({ before, now, direction }) => [
      now.id,
      formatFigure(before),
      formatFigure(now),
      `${(now.value / before.value).toFixed(2)}x`,
      direction === 'other' ? '' : direction,
    ])
    lines.push('moved beyond noise:', formatTable(['figure', 'before', 'now', 'ratio', ''], rows))
  }
  return lines.join('\n')
}
