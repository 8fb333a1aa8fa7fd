import { describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { QueryFeed } from '../dns/query-feed.ts'
import type { LoggedQuery } from '../dns/query-log.ts'
import { createDnsServer } from '../dns/server.ts'
import { makePod, snapshotOf } from '../dns/testing.ts'
import { parseName } from '../dns-message/name.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import { readDns } from './dns-config.ts'
import { DnsInspection } from './dns-inspection.ts'
import { DnsTop } from './dns-top.ts'

const snapshot = snapshotOf(
  { 'shop/web': { ips: ['172.30.4.10'] }, 'data/db': { ips: ['172.30.4.20'] } },
  { pods: [makePod('shop/client', { ips: ['10.88.0.7'] })] },
)

/** An inspection of a server that listens nowhere and has nobody to ask. */
function start({ synced = true } = {}) {
  const config = readDns(ManifestReader.of({}), (path) => path)
  if (!config) throw new Error('DNS is on by default')
  const server = createDnsServer({ workers: 0, upstreams: [], resolvConf: '/dev/null', log: silentLog })
  server.update(snapshot, synced)
  const top = new DnsTop()
  const feed = new QueryFeed({ taps: [top] })
  const inspection = new DnsInspection()
  inspection.serve({ config, server, feed, top, sources: { current: snapshot, synced } })
  return { inspection, feed }
}

async function explain(words: Record<string, string>, options?: { synced: boolean }) {
  return await start(options).inspection.explain(new URLSearchParams(words))
}

describe('DnsInspection.explain()', () => {
  test('DnsInspection.explain() walks the search path of a pod up to the name that is found', async () => {
    const view = await explain({ name: 'db.data', from: 'shop/client' })
    expect(view).toMatchObject({
      client: '10.88.0.7',
      search: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
      outcome: 'found',
      questions: [
        { name: 'db.data.shop.svc.cluster.local.', rcode: 'NXDOMAIN', by: 'kubernetes', object: undefined },
        {
          name: 'db.data.svc.cluster.local.',
          rcode: 'NOERROR',
          records: ['db.data.svc.cluster.local. 5 A 172.30.4.20'],
          object: 'Service data/db',
        },
      ],
    })
  })

  test.each([
    // A last dot: no search path. Five dots: the name itself comes first.
    [{ name: 'web.shop.svc.cluster.local.', from: 'shop/client' }, 'found', 1],
    [{ name: 'a.b.c.d.e.f', from: 'shop/client' }, 'failed', 1],
    [{ name: 'web', from: '10.88.0.7' }, 'found', 1],
    [{ name: 'web.shop.svc.cluster.local' }, 'found', 1],
    [{ name: 'web', type: 'AAAA', from: 'shop/client' }, 'failed', 4],
    [{ name: 'web.shop.svc.cluster.local.', type: 'AAAA' }, 'no-records', 1],
    [{ name: 'nope.shop.svc.cluster.local.' }, 'no-such-name', 1],
    // Nobody can be asked.
    [{ name: 'www.example.com.' }, 'failed', 1],
  ])(
    'DnsInspection.explain() of %j: %s after %d questions',
    async (words: Record<string, string>, outcome, questions) => {
      const view = await explain(words)
      expect([view.outcome, view.questions.length]).toEqual([outcome, questions])
    },
  )

  test('DnsInspection.explain() says that the data is not complete yet', async () => {
    const view = await explain({ name: 'nope.shop.svc.cluster.local.' }, { synced: false })
    expect(view).toMatchObject({
      outcome: 'failed',
      questions: [{ rcode: 'SERVFAIL', error: expect.stringMatching(/^14: /) as string }],
    })
    expect(view.data).toMatch(/has not arrived yet/)
  })

  test.each([
    [{ name: '' }, /the name is empty/],
    [{ name: 'a..b' }, /"a\.\.b" is not a domain name/],
    [{ name: 'web', type: 'NOPE' }, /"NOPE" is not a record type/],
    [{ name: 'web', from: 'shop/ghost' }, /there is no pod "shop\/ghost"/],
  ])('DnsInspection.explain() refuses %j', async (words: Record<string, string>, message) => {
    await expect(explain(words)).rejects.toThrow(message)
  })

  test('DnsInspection says why there is nothing to ask', async () => {
    const inspection = new DnsInspection()
    await expect(inspection.explain(new URLSearchParams({ name: 'a' }))).rejects.toThrow('the daemon is starting')
    inspection.serve(undefined)
    expect(() => inspection.top(10)).toThrow('dns.enabled is false')
  })
})

test('DnsInspection.top() and log() see queries of the server, and name the pods that ask', () => {
  const { inspection, feed } = start()
  const lines: LoggedQuery[] = []
  const stop = inspection.log(new URLSearchParams({ rcode: 'NXDOMAIN' }), (line) => lines.push(line))
  const query = { client: '10.88.0.7', type: 1, from: 'kubernetes', tcp: false, seconds: 0 }
  feed.seen({ ...query, name: parseName('Web.shop.svc.cluster.local'), rcode: 0 })
  feed.seen({ ...query, name: parseName('nope.example'), rcode: 3 })
  stop()
  feed.seen({ ...query, name: parseName('later.example'), rcode: 3 })
  expect(lines.map(({ name }) => name)).toEqual(['nope.example.'])
  expect(inspection.top(2)).toMatchObject({
    queries: 3,
    notExisting: 2,
    clients: [{ client: '10.88.0.7', pod: 'shop/client', count: 3 }],
    missing: [{ count: 1 }, { count: 1 }],
  })
  expect(() => inspection.top(0)).toThrow('limit 0 is not from 1 to 256')
})
