import { describe, expect, test } from 'vitest'
import { answererPlace, DnsCounts, dnsCountSlots, type Exchange, rcodeName, secondBounds } from './dns-counts.ts'

const exchange: Exchange = {
  tcp: false,
  ipv6: false,
  type: 1,
  requestSize: 45,
  dnssecOk: false,
  rcode: 0,
  answerer: answererPlace('kubernetes'),
  responseSize: 120,
  seconds: 0.0001,
}

describe('DnsCounts', () => {
  test('DnsCounts adds up what several threads counted in shared memory', () => {
    const shared = new SharedArrayBuffer(dnsCountSlots * 8)
    const worker = new DnsCounts(new Float64Array(shared))
    const main = new DnsCounts()
    worker.add(exchange)
    worker.add({ ...exchange, type: 28, rcode: 3, dnssecOk: true })
    main.add({ ...exchange, tcp: true, ipv6: true, type: 65_280, rcode: 2, answerer: answererPlace('forward') })
    const total = DnsCounts.total([main, new DnsCounts(new Float64Array(shared))])
    expect(total.requests).toEqual([
      { proto: 'udp', family: '1', type: 'A', count: 1 },
      { proto: 'udp', family: '1', type: 'AAAA', count: 1 },
      { proto: 'tcp', family: '2', type: 'other', count: 1 },
    ])
    expect(total.responses).toEqual([
      { rcode: 'NOERROR', plugin: 'kubernetes', count: 1 },
      { rcode: 'SERVFAIL', plugin: 'forward', count: 1 },
      { rcode: 'NXDOMAIN', plugin: 'kubernetes', count: 1 },
    ])
    expect(total.dnssecOk).toBe(1)
    expect(total.requestSizes[0]?.sizes).toMatchObject({ sum: 90 })
    expect(total.responseSizes[1]?.sizes).toMatchObject({ sum: 120 })
  })

  test.each([
    [0, 0],
    [0.000_25, 0],
    [0.000_251, 1],
    [0.0005, 1],
    [0.001, 2],
    [8.192, 15],
    [8.2, 16],
    [100, 16],
  ])('DnsCounts puts %d seconds into bucket %d', (seconds, bucket) => {
    const counts = new DnsCounts()
    counts.add({ ...exchange, seconds })
    const { durations } = DnsCounts.total([counts])
    expect(durations.counts.indexOf(1)).toBe(bucket)
    expect(durations.sum).toBe(seconds)
    // What the bucket promises: at most its bound, and more than the one before.
    if (bucket < secondBounds.length) expect(seconds).toBeLessThanOrEqual(secondBounds[bucket] ?? 0)
    if (bucket > 0) expect(seconds).toBeGreaterThan(secondBounds[bucket - 1] ?? 0)
  })

  test('DnsCounts keeps what was no question apart', () => {
    const counts = new DnsCounts()
    counts.addMalformed({ tcp: false, rcode: 1, responseSize: 12 })
    counts.addDropped()
    counts.addError()
    expect(DnsCounts.total([counts])).toMatchObject({
      requests: [],
      responses: [{ rcode: 'FORMERR', plugin: '', count: 1 }],
      malformed: 1,
      dropped: 1,
      errors: 1,
    })
  })
})

test('rcodeName() names codes that have no name by their number', () => {
  expect([rcodeName(3), rcodeName(16), rcodeName(23)]).toEqual(['NXDOMAIN', 'BADVERS', 'RCODE23'])
})
