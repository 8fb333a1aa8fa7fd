import { formatAttach, runAttach } from './attach.ts'
import { machineFacts } from './machine.ts'
import type { Suite } from './suite.ts'

/** What it costs to attach endpoints to a bridge. */
export const attachSuite: Suite = {
  name: 'attach',
  measures:
    'attach and detach of an endpoint, alone and many at once, with a published port and without, against scripts of ip(8) and the CNI reference plugins',
  why: 'A pod starts only when its network is there, and a node that restarts attaches all of them at once.',
  byDefault: false,
  heeds: ['rounds', 'many', 'many-rounds'],
  estimate: ({ rounds, many, manyRounds }) => Math.min(rounds, 10) * 1.2 + many * manyRounds * 0.12,
  async run({ options, recorder, progress }) {
    const { many, manyRounds } = options
    const result = await runAttach({ rounds: Math.min(options.rounds, 10), many, manyRounds }, (text) =>
      progress.say(`attach: ${text}`),
    )
    for (const { contender, endpoints, published, attachMs, detachMs } of result.figures) {
      const labels = { by: contender, port: published ? 'published' : 'none' }
      const key = { unit: 'ms', kind: 'time', better: 'less', endpoints, labels } as const
      recorder.addAll({ ...key, figure: 'attach' }, attachMs)
      recorder.addAll({ ...key, figure: 'detach' }, detachMs)
    }
    for (const [name, reason] of Object.entries(result.skipped)) recorder.skip(name, reason)
    recorder.print(formatAttach(await machineFacts(), result))
  },
}
