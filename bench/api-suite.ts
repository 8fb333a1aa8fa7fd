import { formatTable } from '../src/cli/table.ts'
import { runApi, type ApiResult } from './api.ts'
import type { Suite } from './suite.ts'

const endpointsAtMost = 50_000

/** The embedded API, and a source that follows it over TLS. */
export const apiSuite: Suite = {
  name: 'api',
  measures:
    'the embedded API: list, first snapshot of a source, 1000 changes a second, durable writes with 100 watchers',
  why: 'Whoever pairs with a control plane must not wait for it: neither nodes that follow, nor clients that write.',
  byDefault: false,
  heeds: ['services', 'endpoints'],
  estimate: ({ services }) => sizes(services).reduce((sum, n) => sum + 22 + n * 0.003, 0),
  async run({ options, recorder, progress, signal }) {
    for (const services of sizes(options.services)) {
      signal.throwIfAborted()
      const result = await runApi({ services, endpointsEach: options.endpoints }, (text) =>
        progress.say(`api: ${text}`),
      )
      const base = { services, endpoints: options.endpoints } as const
      const time = { ...base, better: 'less', unit: 'ms', kind: 'time' } as const
      recorder.add({ ...time, figure: 'list of all slices' }, result.list.ms)
      recorder.add({ ...time, figure: 'first snapshot of a source' }, result.source.firstSnapshotMs)
      recorder.add({ ...time, figure: 'commit to snapshot, p99' }, result.fromCommit.p99)
      recorder.add({ ...time, figure: 'write to snapshot, p99' }, result.fromWrite.p99)
      recorder.add(
        { ...base, figure: 'memory of the source, peak', unit: 'MB', kind: 'size', better: 'less' },
        result.source.peakRss / 1e6,
      )
      recorder.add(
        { ...base, figure: 'memory of the objects in the server', unit: 'MB', kind: 'size', better: 'less' },
        result.server.rss / 1e6,
      )
      for (const { watchers, writes, tookMs } of result.writes) {
        const labels = { watchers: String(watchers) }
        recorder.add(
          { ...base, figure: 'durable writes', unit: '/s', kind: 'rate', better: 'more', labels },
          (writes / tookMs) * 1000,
        )
      }
      if (services * options.endpoints >= endpointsAtMost) claim(result, recorder.claim.bind(recorder))
      recorder.print(format(result))
    }
  },
}

function sizes(services: readonly number[]): readonly number[] {
  return services.filter((n) => n > 0 && n <= 20_000)
}

/** What is promised of 10,000 Services with 50,000 endpoints. */
function claim(result: ApiResult, say: (text: string, holds: boolean, seen: string) => void): void {
  const { list, source, fromCommit, writes } = result
  const watched = writes.find(({ watchers }) => watchers >= 100)
  const rate = watched ? (watched.writes / watched.tookMs) * 1000 : 0
  say('a list takes at most 2 s', list.ms <= 2000, ms(list.ms))
  say('the first snapshot takes at most 2 s', source.firstSnapshotMs <= 2000, ms(source.firstSnapshotMs))
  say('at 1000 changes/s, p99 from event to snapshot is at most 20 ms', fromCommit.p99 <= 20, ms(fromCommit.p99))
  say('the source takes at most 150 MB', source.peakRss <= 150e6, mb(source.peakRss))
  const lossless =
    watched !== undefined && watched.watched === watched.writes * watched.watchers && watched.dropped === 0
  say(
    'at least 2000 durable writes/s with 100 watchers, each of which gets every event',
    rate >= 2000 && lossless,
    `${rate.toFixed(0)}/s, ${watched?.watched} events, ${watched?.dropped} watches dropped`,
  )
}

function format({
  services,
  endpoints,
  server,
  list,
  source,
  fromWrite,
  fromCommit,
  writes,
  ...rest
}: ApiResult): string {
  const rows = [
    [
      'objects written, one by one, 200 at a time',
      `${ms(server.seededMs)}, ${mb(server.rss)}, heap ${mb(server.heap)}`,
    ],
    ['list of all EndpointSlices', `${ms(list.ms)}, ${mb(list.bytes)}`],
    ['source: first snapshot', `${ms(source.firstSnapshotMs)}, CPU ${ms(source.cpuMs)}`],
    ['source: memory', `${mb(source.rss)}, peak ${mb(source.peakRss)}`],
    ['1000 changes/s: commit to snapshot', `${ms(fromCommit.p50)} / ${ms(fromCommit.p99)} / ${ms(fromCommit.max)}`],
    ['1000 changes/s: write to snapshot', `${ms(fromWrite.p50)} / ${ms(fromWrite.p99)} / ${ms(fromWrite.max)}`],
    ...writes.map(({ watchers, lanes, tookMs, cpuMs, p50, p99, watched, ...run }) => [
      `PUT over TLS, ${lanes} at a time, ${watchers} watchers`,
      `${((run.writes / tookMs) * 1000).toFixed(0)}/s, CPU ${((cpuMs * 1000) / run.writes).toFixed(0)} us each, ` +
        `p50 / p99 ${ms(p50)} / ${ms(p99)}, ${watched} events`,
    ]),
    ['server: RSS after all of it', mb(rest.serverRssAfter)],
  ]
  return `the embedded API, ${services} Services with ${endpoints} endpoints each\n${formatTable(['what', 'seen (p50 / p99 / max)'], rows)}`
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
