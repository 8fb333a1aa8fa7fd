import { type Clock, systemClock } from '../base/clock.ts'
import type { SourceView } from './control-api.ts'

/** Seconds of silence without an open watch until a source counts as lost: reconnecting after a restart of the server is shorter. */
const lostAfter = 30
/** Milliseconds that an answer is good for: it is asked for with every DNS query. */
const lookEvery = 1000

/** What says for how many seconds the worst of the followed API servers was not heard, or undefined while all are. */
export function createSourceSilence(
  views: () => readonly SourceView[],
  clock: Clock = systemClock,
): () => number | undefined {
  let lookedAt = -Infinity
  let seconds: number | undefined
  return () => {
    const now = clock.monotonic()
    if (now - lookedAt < lookEvery) return seconds
    lookedAt = now
    const ages = views().flatMap(({ resources }) =>
      resources.flatMap(({ connected, ageSeconds }) => (connected || ageSeconds === undefined ? [] : [ageSeconds])),
    )
    const longest = Math.max(0, ...ages)
    seconds = longest >= lostAfter ? longest : undefined
    return seconds
  }
}
