import { setTimeout as sleep } from 'node:timers/promises'
import { ticksOf } from './cpu-time.ts'
import { processesIn } from './peer.ts'
import type { TrafficNode } from './traffic-lab.ts'

/** Standing proxies count as idle below this share of one CPU, all together. */
const idleShare = 0.05
const secondsToSettle = 30

/**
 * Waits until all that runs on nodes is idle, half a minute at most: who stands by must not disturb who is measured. Resolves with the share
 * of one CPU that all of them took together in the last second.
 */
export async function awaitIdle(
  nodes: readonly TrafficNode[],
  signal: AbortSignal,
): Promise<{ readonly share: number; readonly isIdle: boolean }> {
  const pids = nodes.flatMap(processesIn)
  let share = 0
  for (let second = 0; second < secondsToSettle; second++) {
    const before = ticksOf(pids)
    await sleep(1000, undefined, { signal })
    // Ticks of 10 ms.
    share = (ticksOf(pids) - before) / 100
    if (share < idleShare) break
  }
  return { share, isIdle: share < idleShare }
}
