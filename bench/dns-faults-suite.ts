import { once } from 'node:events'
import { fork } from 'node:child_process'
import { run } from '../src/linux/exec.ts'
import { createAnonymousNetns } from '../src/linux/netns.ts'
import type { FaultFigures } from './dns-faults.ts'
import { scriptBeside } from './script-beside.ts'
import { quantile } from './statistics.ts'
import type { Suite } from './suite.ts'

const secondsEach = { quick: 3, normal: 9, full: 18 } as const

/** Names while resolvers fail. */
export const dnsFaultsSuite: Suite = {
  name: 'dns-faults',
  measures:
    'names of the cluster and of the world while resolvers are dead, slow, lying, truncating, asking back, or losing packets',
  why: 'Names of the cluster must not depend on resolvers that are none of it.',
  byDefault: false,
  heeds: [],
  estimate: ({ scale }) => 8 * (secondsEach[scale] + 4),
  async run({ options, recorder, progress, signal }) {
    using netns = createAnonymousNetns()
    await run(['ip', 'link', 'set', 'lo', 'up'], { netns })
    const lines: string[] = []
    const figures: FaultFigures[] = []
    const child = netns.enter(() =>
      fork(scriptBeside(import.meta.url, 'dns-faults'), [String(secondsEach[options.scale])], {
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
        signal,
      }),
    )
    child.stdout?.setEncoding('utf8').on('data', (text: string) => lines.push(text))
    child.on('message', (message) => {
      figures.push(message as FaultFigures)
      progress.say(`dns-faults: ${(message as FaultFigures).fault}`, figures.length / 8)
    })
    const [code] = (await once(child, 'exit')) as [number | null]
    if (code !== 0) throw new Error(`dns-faults ended with exit code ${code}`)
    for (const { fault, clusterMs, wellMs, times, outsideMs, lost, right, wrong } of figures) {
      const labels = { fault }
      const time = { unit: 'ms', kind: 'time', better: 'less', labels } as const
      for (const [whose, ms] of [
        ['cluster', clusterMs],
        ['cluster while resolvers are well', wellMs],
        ['the world', outsideMs],
      ] as const) {
        if (ms.length === 0) continue
        recorder.add({ ...time, figure: `names of ${whose}, p50` }, quantile(ms, 0.5))
        recorder.add({ ...time, figure: `names of ${whose}, p99` }, quantile(ms, 0.99))
      }
      const claim = `${fault}: the p99 of names of the cluster is at most 1.5 times that of a server whose resolvers are well`
      recorder.claim(claim, times <= 1.5, `${times.toFixed(2)} times`)
      recorder.add({ figure: 'lost names of cluster', unit: '', kind: 'size', better: 'less', labels }, lost)
      recorder.add({ figure: 'right names of the world', unit: '%', kind: 'share', better: 'more', labels }, right)
      recorder.add({ figure: 'wrong names of the world', unit: '', kind: 'size', better: 'less', labels }, wrong)
    }
    recorder.print(lines.join('').trimEnd())
  },
}
