import { describe, expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { agedAnswer, AnswerCache } from './answer-cache.ts'
import { parseName } from '../dns-message/name.ts'
import {
  addressSets,
  type Answer,
  emptyAnswer,
  nameSet,
  rcodes,
  recordTypes,
  soaSet,
} from '../dns-message/record-set.ts'
import { relevantAnswer } from './relevant-answer.ts'
import { printRecords } from '../dns-message/print-records.ts'

const owner = parseName('www.example.com')
const target = parseName('cdn.example.net')
const addresses = (ttl: number, name = owner) => addressSets([parseIp('198.51.100.1')], { owner: name, ttl })
const cname = (ttl: number) => nameSet(recordTypes.CNAME, [target], { owner, ttl })
const soa = (ttl: number, minimum: number) =>
  soaSet({ owner: parseName('example.com'), ttl, primary: owner, mailbox: owner, serial: 1, refresh: 2, retry: 3, expire: 4, minimum }) // prettier-ignore
const answer = (parts: Partial<Answer>): Answer => ({ ...emptyAnswer(0), ...parts })
const type = recordTypes.A

describe('AnswerCache', () => {
  test.each([
    ['the lowest TTL of an answer', answer({ answer: [cname(9), ...addresses(20, target)] }), 9],
    ['an hour at most', answer({ answer: addresses(90_000) }), 3600],
    ['no answer with a TTL of 0', answer({ answer: addresses(0) }), 0],
    ['a denial for the time of its SOA', answer({ rcode: rcodes.NXDOMAIN, authority: [soa(40, 60)] }), 40],
    ['a denial for the minimum of its SOA', answer({ rcode: rcodes.NXDOMAIN, authority: [soa(60, 40)] }), 40],
    ['half an hour of a denial at most', answer({ authority: [soa(90_000, 90_000)] }), 1800],
    ['no denial without an SOA', answer({ rcode: rcodes.NXDOMAIN }), 0],
    ['no alias that leads to nothing, without an SOA', answer({ answer: [cname(20)] }), 0],
    ['an alias that leads to nothing', answer({ answer: [cname(20)], authority: [soa(60, 60)] }), 20],
    ['no failure', answer({ rcode: rcodes.SERVFAIL, authority: [soa(60, 60)] }), 0],
  ])('AnswerCache keeps %s', (_what, value, seconds) => {
    const cache = new AnswerCache({ maxStale: 0 })
    cache.put('key', value, { now: 1000, type })
    const isKnown = (now: number) => cache.get('key', now) !== undefined
    expect([isKnown(1000), isKnown(1000 + seconds * 1000 - 1), isKnown(1000 + seconds * 1000)]).toEqual([
      seconds > 0,
      seconds > 0,
      false,
    ])
  })

  test('AnswerCache.get() gives an answer that is over, never a denial that is', () => {
    const cache = new AnswerCache({ maxStale: 60 })
    cache.put('yes', answer({ answer: addresses(5) }), { now: 0, type })
    cache.put('no', answer({ rcode: rcodes.NXDOMAIN, authority: [soa(5, 5)] }), { now: 0, type })
    expect(cache.get('yes', 64_999)?.freshUntil).toBe(5000)
    expect(cache.get('yes', 65_000)).toBeUndefined()
    expect(cache.get('no', 5000)).toBeUndefined()
    expect(cache.size).toMatchObject({ answers: 0, denials: 0, bytes: 0 })
  })

  test('AnswerCache lets go of what was used longest ago, and of no answer for a denial', () => {
    const cache = new AnswerCache({ maxEntries: 2 })
    const put = (key: string, value: Answer) => cache.put(key, value, { now: 0, type })
    put('a', answer({ answer: addresses(5) }))
    put('b', answer({ answer: addresses(5) }))
    cache.get('a', 1)
    put('c', answer({ answer: addresses(5) }))
    for (let i = 0; i < 10; i++) put(`no ${i}`, answer({ rcode: rcodes.NXDOMAIN, authority: [soa(5, 5)] }))
    expect(['a', 'b', 'c'].filter((key) => cache.get(key, 1))).toEqual(['a', 'c'])
    expect(cache.size).toMatchObject({ answers: 2, denials: 2 })
  })

  test('AnswerCache keeps to its octets, and counts them back to zero', () => {
    const cache = new AnswerCache({ maxBytes: 5000, maxStale: 0 })
    for (let i = 0; i < 100; i++) cache.put(`${i}`, answer({ answer: addresses(5) }), { now: 0, type })
    expect(cache.size.bytes).toBeGreaterThan(1000)
    expect(cache.size.bytes).toBeLessThanOrEqual(5000)
    for (let i = 0; i < 100; i++) cache.get(`${i}`, 5000)
    expect(cache.size).toMatchObject({ answers: 0, denials: 0, bytes: 0 })
  })

  test('agedAnswer() counts the TTL down and takes the authority away', () => {
    const cache = new AnswerCache()
    cache.put('key', { ...answer({ answer: addresses(20) }), authoritative: true }, { now: 0, type })
    const entry = cache.get('key', 7900)
    expect(entry && agedAnswer(entry, 7900)).toMatchObject({ authoritative: false, answer: [{ ttl: 13 }] })
  })
})

describe('relevantAnswer()', () => {
  const of = (sets: Answer['answer'], asked: number = type) =>
    printRecords(relevantAnswer(answer({ answer: sets }), { key: owner.key, type: asked }).answer)

  test('relevantAnswer() keeps the chain, puts it in order, and drops what nobody asked for', () => {
    const lie = addresses(20, parseName('bank.example'))
    expect(of([...lie, ...addresses(20, target), cname(20)])).toEqual(of([cname(20), ...addresses(20, target)]))
    expect(of([cname(20), ...addresses(20, target)])).toHaveLength(2)
  })

  test('relevantAnswer() follows no alias that was itself asked for, and ends in a circle', () => {
    expect(of([cname(20), ...addresses(20, target)], recordTypes.CNAME)).toHaveLength(1)
    const back = nameSet(recordTypes.CNAME, [owner], { owner: target, ttl: 5 })
    expect(of([cname(20), back])).toHaveLength(2)
  })
})
