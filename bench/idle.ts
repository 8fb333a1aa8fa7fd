import { setTimeout as sleep } from 'node:timers/promises'
import { ticksOf } from './cpu-time.ts'
import { processesIn } from './peer.ts'
import type { TrafficNode } from './traffic-lab.ts'

/** Standing proxies count as idle below this share of one CPU, all together. */
const idleShare = 0.05
/** An emulated machine takes longer. */
const secondsToSettle = 30 * Number(process.env['FAIRLEAD_TIME_SCALE'] ?? 1)

/** What stands by on a node. */
export interface Standby {
  readonly name: string
  readonly lane: TrafficNode
}

/** How much of one CPU was taken in the last second. */
export interface Idleness {
  readonly isIdle: boolean
  /** By all together. */
  readonly share: number
  /** Who took most of it. */
  readonly busiest: { readonly name: string; readonly share: number } | undefined
}

/**
 * Waits until all that runs on nodes is idle, for {@link secondsToSettle} at most: who stands by must not disturb who is measured.
 */
export async function awaitIdle(all: readonly Standby[], signal: AbortSignal): Promise<Idleness> {
  const processes = all.map(({ name, lane }) => ({ name, pids: processesIn(lane) }))
  const ticks = (): number[] => processes.map(({ pids }) => ticksOf(pids))
  for (let second = 1; ; second++) {
    const before = ticks()
    await sleep(1000, undefined, { signal })
    // Ticks of 10 ms.
    const shares = ticks().map((now, i) => (now - before[i]!) / 100)
    const share = shares.reduce((sum, one) => sum + one, 0)
    const most = Math.max(...shares)
    const name = processes[shares.indexOf(most)]?.name
    const isIdle = share < idleShare
    if (isIdle || second >= secondsToSettle)
      return { isIdle, share, busiest: name === undefined ? undefined : { name, share: most } }
  }
}
