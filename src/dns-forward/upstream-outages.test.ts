import { expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { UpstreamOutages } from './upstream-outages.ts'

test('UpstreamOutages speaks once of an outage and once of its end, and once a minute of a server that comes and goes', async () => {
  const clock = new FakeClock()
  const lines: string[] = []
  const note = (level: string) => (fields: object, text: string) => {
    lines.push(`${level} ${(fields as { upstream: string }).upstream} ${'error' in fields} ${text}`)
  }
  const outages = new UpstreamOutages({ clock, log: { ...silentLog, warn: note('warn'), info: note('info') } })
  outages.answers('a')
  outages.fails('a', undefined)
  outages.fails('a', new Error('refused'))
  outages.fails('b', new Error('refused'))
  outages.answers('a')
  outages.answers('a')
  expect(lines).toEqual([
    'warn a false This resolver does not answer; it is asked after all others',
    'warn b true This resolver does not answer; it is asked after all others',
    'info a false This resolver answers again',
  ])
  outages.fails('a', undefined)
  outages.answers('a')
  expect(lines).toHaveLength(3)
  await clock.advance(60_000)
  outages.fails('a', undefined)
  expect(lines).toHaveLength(4)
})
