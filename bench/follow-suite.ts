import { formatFollow, runFollow, type FollowResult } from './follow.ts'
import { machineFacts } from './machine.ts'
import type { Suite } from './suite.ts'

/** What it costs to follow an API server. */
export const followSuite: Suite = {
  name: 'follow',
  measures:
    'an API server with that many Services is followed: time, CPU and memory until the first snapshot, then the delay of each of 1000 changes a second',
  why: 'Before anything is programmed it must be known: this is the part of a change that happens before the kernel.',
  byDefault: false,
  heeds: ['services', 'endpoints'],
  estimate: ({ services }) => services.reduce((sum, n) => sum + 8 + n * 0.002, 0),
  async run({ options, recorder, progress, signal }) {
    const results: FollowResult[] = []
    for (const services of options.services.filter((n) => n > 0)) {
      signal.throwIfAborted()
      results.push(
        ...(await runFollow({ services, endpointsEach: options.endpoints }, (text) => progress.say(`follow: ${text}`))),
      )
    }
    for (const { by, services, ...result } of results) {
      const base = { better: 'less', services, endpoints: options.endpoints, labels: { by } } as const
      const time = { ...base, unit: 'ms', kind: 'time' } as const
      recorder.add({ ...time, figure: 'first snapshot' }, result.firstSnapshotMs)
      recorder.add({ ...time, figure: 'CPU until the first snapshot' }, result.cpuMs)
      recorder.add({ ...time, figure: 'longest stretch' }, result.longestStretchMs)
      recorder.add({ ...time, figure: 'delay of a change, p50' }, result.p50)
      recorder.add({ ...time, figure: 'delay of a change, p99' }, result.p99)
      recorder.add({ ...base, figure: 'memory, peak', unit: 'MB', kind: 'size' }, result.peakRss / 1e6)
    }
    recorder.print(formatFollow(await machineFacts(), results))
  },
}
