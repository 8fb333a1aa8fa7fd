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
  /** What is not the same about the machines: `kernel 6.1.0, now 6.12.0`. */
  readonly machines: readonly string[]
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
  // Two that are infinitely far are as far as each other.
  moved.sort((a, b) => howFar(b) - howFar(a) || 0)
  const machines = differences(before, now)
  return { compared, agreeing, moved, notJudged, machines, onlyBefore: [...earlier.keys()], onlyNow }
}

function differences(before: BenchResults, now: BenchResults): string[] {
  const facts = ({ fairlead, machine }: BenchResults): Record<string, string | number> => {
    const { kernel, cpu, cpus, governor, hypervisor, memoryGb, node, versions } = machine
    return { fairlead, kernel, cpu, cpus, governor, hypervisor, memoryGb, node, ...versions }
  }
  const [was, is] = [facts(before), facts(now)]
  const names = [...new Set([...Object.keys(was), ...Object.keys(is)])].filter((name) => was[name] !== is[name])
  return names.map((name) => `${name} ${was[name] ?? 'none'}, now ${is[name] ?? 'none'}`)
}

function agree(a: Figure, b: Figure): boolean {
  if (a.kind === 'count') return a.value === b.value
  return a.low <= b.high && b.low <= a.high
}

function directionOf(before: Figure, now: Figure): Moved['direction'] {
  if (now.better === 'neither') return 'other'
  return now.value < before.value === (now.better === 'less') ? 'better' : 'worse'
}

function howFar(moved: Moved): number {
  const ratio = ratioOf(moved)
  return ratio === undefined ? Number.POSITIVE_INFINITY : Math.abs(Math.log(ratio))
}

/** Undefined between figures of which one is 0, or below: a slope, or a count of failures. */
function ratioOf({ before, now }: Moved): number | undefined {
  return before.value > 0 && now.value > 0 ? now.value / before.value : undefined
}

/** The comparison for people. */
export function formatComparison(comparison: Comparison): string {
  const { compared, agreeing, moved, notJudged, machines, onlyBefore, onlyNow } = comparison
  const share = (agreeing / compared) * 100
  const lines = [
    compared === 0
      ? 'no figure of both runs can be compared'
      : `${agreeing} of ${compared} figures agree within their intervals (${share.toFixed(1)} %)`,
    ...(machines.length > 0 ? [`not the same machine: ${machines.join('; ')}`] : []),
    ...(notJudged > 0 ? [`${notJudged} were measured too seldom to be judged`] : []),
    ...(onlyBefore.length > 0 ? [`${onlyBefore.length} figures are in the other run only`] : []),
    ...(onlyNow.length > 0 ? [`${onlyNow.length} figures are in this run only`] : []),
  ]
  if (moved.length > 0) {
    lines.push('moved beyond noise:', formatTable(['figure', 'before', 'now', 'ratio', ''], rowsOfMoved(comparison)))
  }
  return lines.join('\n')
}

/** What moved, a row each: figure, before, now, ratio, and whether that is better or worse. */
export function rowsOfMoved({ moved }: Comparison): string[][] {
  return moved.map((one) => [
    one.now.id,
    formatFigure(one.before),
    formatFigure(one.now),
    ratioOf(one) === undefined ? '' : `${ratioOf(one)?.toFixed(2)}x`,
    one.direction === 'other' ? '' : one.direction,
  ])
}
