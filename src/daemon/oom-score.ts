import { writeFileSync } from 'node:fs'
import type { Log } from '../base/log.ts'

/** How likely the kernel is to end this process when memory runs out: -1000 (never) to 1000. A refusal is a warning. */
export function applyOomScore(score: number, log: Log): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', `${score}\n`)
  } catch (error) {
    log.warn({ err: error, oomScoreAdj: score }, 'oomScoreAdj cannot be set')
  }
}
