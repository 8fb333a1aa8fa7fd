import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { parseName } from '../dns-message/name.ts'
import { answererPlace } from './dns-counts.ts'
import { QueryFeed } from './query-feed.ts'
import { type LoggedQuery, parseClients, parseRcode, QueryLog, readQueryFilter } from './query-log.ts'
import { SampleRing } from './query-samples.ts'
import type { SeenQuery } from './seen-query.ts'

const query = (name: string, more: Partial<SeenQuery> = {}): SeenQuery => ({
  client: '10.88.0.7',
  name: parseName(name),
  type: 1,
  rcode: 0,
  from: 'kubernetes',
  tcp: false,
  seconds: 0.000_123_4,
  ...more,
})

const all = { clients: [], names: [], types: [], rcodes: [] }

describe('QueryLog', () => {
  test.each([
    ['all', {}, ['a.example.com.', 'b.example.org.', 'c.example.com.', 'd.example.com.']],
    ['clients', { clients: [parseClients('10.88.0.0/16')] }, ['a.example.com.', 'b.example.org.', 'c.example.com.']],
    ['one client', { clients: [parseClients('fd00::9')] }, ['d.example.com.']],
    ['names', { names: [parseName('example.com')] }, ['a.example.com.', 'c.example.com.', 'd.example.com.']],
    ['codes', { rcodes: [parseRcode('nxdomain')] }, ['b.example.org.']],
    ['types', { types: [28] }, ['c.example.com.']],
    ['all that is given', { types: [28], rcodes: [3] }, []],
  ])('QueryLog shows by %s', (_, filter, expected) => {
    const lines: LoggedQuery[] = []
    const log = new QueryLog({ ...readQueryFilter({ ...all, ...filter }), write: (line) => lines.push(line) })
    log.seen(query('a.example.com'))
    log.seen(query('b.example.org', { rcode: 3 }))
    log.seen(query('c.example.com', { type: 28 }))
    log.seen(query('d.example.com', { client: 'fd00::9' }))
    expect(lines.map(({ name }) => name)).toEqual(expected)
  })

  test('QueryLog shows one of so many of those that fit, and says so', () => {
    const lines: LoggedQuery[] = []
    const log = new QueryLog({ types: new Set([1]), oneIn: 3, write: (line) => lines.push(line) })
    for (let i = 0; i < 9; i++) log.seen(query(`n${i}.example`, { type: i % 3 === 0 ? 28 : 1 }))
    expect(lines).toMatchObject([{ name: 'n1.example.', oneIn: 3 }, { name: 'n5.example.' }])
    expect(lines[0]).toEqual({
      client: '10.88.0.7',
      name: 'n1.example.',
      type: 'A',
      rcode: 'NOERROR',
      by: 'kubernetes',
      proto: 'udp',
      ms: 0.123,
      oneIn: 3,
    })
  })
})

describe('QueryFeed', () => {
  test('QueryFeed brings samples of workers to those who want them, with their weight, and no longer than they want them', async () => {
    const clock = new FakeClock()
    const seen: [string, number][] = []
    using feed = new QueryFeed({ taps: [], clock })
    const ring = new SampleRing({ samples: 8 })
    feed.follow([ring])
    expect(ring.every).toBe(0)
    const stop = feed.add({ every: 4, seen: ({ from }, weight) => seen.push([from, weight]) })
    expect(ring.every).toBe(4)
    const wire = parseName('a.example').wire
    const fields = {
      type: 1,
      rcode: 0,
      answerer: answererPlace('kubernetes'),
      tcp: false,
      seconds: 0,
      address: Uint8Array.of(10, 0, 0, 1),
    }
    ring.write(wire, { start: 0, end: wire.length }, fields)
    feed.seen(query('b.example', { from: 'forward' }))
    await clock.advance(100)
    expect(seen).toEqual([
      ['forward', 1],
      ['kubernetes', 4],
    ])
    // Who wants all of them has his way.
    feed.add({ every: 1, seen: () => undefined })
    expect(ring.every).toBe(1)
    stop()
    feed.seen(query('c.example'))
    expect(seen).toHaveLength(2)
  })
})
