import { readCpuTime, type CpuTime } from './cpu-time.ts'
import type { Random } from './random.ts'
import type { Recorder } from './recorder.ts'

/** One of the things that are compared. */
export interface Arm {
  readonly name: string
  /** Measures once, and tells the recorder under this round's number. `warmUp`: nothing is to be recorded. */
  measure(round: number, options: { readonly warmUp: boolean }): Promise<void>
}

/** How often, and what for. */
export interface RoundsOptions {
  readonly part: string
  readonly rounds: number
  /** Rounds before the first that counts. @default 1 */
  readonly warmUp?: number
  readonly random: Random
  readonly recorder: Recorder
  readonly signal: AbortSignal
  readonly onRound?: (round: number) => void
}

/** The rule by which rounds are dropped: shares of the machine's CPU time that others may take. */
export const dropRule = { steal: 0.02, foreign: 0.25 } as const

/**
 * Runs all arms in every round, in an order that is drawn anew each time, so that what the machine does besides hits all of
 * them. An arm that throws is recorded as failed and left out from then on.
 */
export async function runRounds(arms: readonly Arm[], options: RoundsOptions): Promise<void> {
  const { part, rounds, warmUp = 1, random, recorder, signal } = options
  const alive = new Set(arms)
  for (let round = -warmUp; round < rounds && alive.size > 0; round++) {
    const order = random.shuffle([...alive])
    const before = readCpuTime()
    for (const arm of order) {
      signal.throwIfAborted()
      try {
        await arm.measure(Math.max(round, 0), { warmUp: round < 0 })
      } catch (error) {
        signal.throwIfAborted()
        alive.delete(arm)
        recorder.fail(`${arm.name}, ${part}`, error)
      }
    }
    if (round < 0) continue
    recorder.addRound({ round, part, order: order.map(({ name }) => name), ...disturbance(before, readCpuTime()) })
    options.onRound?.(round)
  }
}

/** What others took between two readings, and by which rule that is too much. */
export function disturbance(
  before: CpuTime,
  after: CpuTime,
): { readonly steal: number; readonly foreign: number; readonly dropped?: string } {
  const total = after.total - before.total
  if (total <= 0) return { steal: 0, foreign: 0 }
  const steal = (after.steal - before.steal) / total
  const foreign = Math.max(0, after.busy - before.busy - (after.own - before.own)) / total
  const dropped =
    steal > dropRule.steal
      ? `steal above ${dropRule.steal * 100} %`
      : foreign > dropRule.foreign
        ? `other processes above ${dropRule.foreign * 100} % of the CPUs`
        : undefined
  return { steal, foreign, ...(dropped !== undefined && { dropped }) }
}
