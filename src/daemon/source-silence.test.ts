import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import type { ResourceView, SourceView } from './control-api.ts'
import { createSourceSilence } from './source-silence.ts'

const resource = (connected: boolean, ageSeconds: number | undefined): ResourceView => ({
  resource: 'services',
  synced: true,
  connected,
  objects: 0,
  ageSeconds,
  lists: 1,
  watches: 1,
  events: 0,
  failures: 0,
  auditFailures: 0,
  error: undefined,
})
const source = (...resources: ResourceView[]): SourceView => ({
  name: 'api',
  synced: true,
  objects: {},
  problems: 0,
  resources,
})

test.each([
  ['files only', [source()], undefined],
  ['an open watch that is quiet', [source(resource(true, 900))], undefined],
  ['a watch that was closed just now', [source(resource(false, 5))], undefined],
  ['a server that is not heard', [source(resource(true, 1), resource(false, 40)), source()], 40],
  ['a server that was never heard', [source(resource(false, undefined))], undefined],
])('createSourceSilence() looks at %s', (_what, views, seconds) => {
  expect(createSourceSilence(() => views)()).toBe(seconds)
})

test('createSourceSilence() looks once a second', async () => {
  const clock = new FakeClock()
  let looks = 0
  const silence = createSourceSilence(() => {
    looks++
    return [source(resource(false, 40))]
  }, clock)
  for (let i = 0; i < 100; i++) expect(silence()).toBe(40)
  await clock.advance(1000)
  silence()
  expect(looks).toBe(2)
})
