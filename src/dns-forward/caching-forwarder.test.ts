import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { parseIp } from '../net/ip-address.ts'
import { CachingForwarder, type CachingForwarderOptions } from './caching-forwarder.ts'
import { parseName } from '../dns-message/name.ts'
import {
  addressSets,
  type Answer,
  emptyAnswer,
  extendedErrors,
  rcodes,
  recordTypes,
} from '../dns-message/record-set.ts'

const name = parseName('www.example.com')
const question = { name, type: recordTypes.A, class: 1 }
const plain = { dnssecOk: false, checkingDisabled: false }
const found = (ttl: number): Answer => ({
  ...emptyAnswer(0),
  answer: addressSets([parseIp('198.51.100.1')], { owner: name, ttl }),
})

/** `asked` counts the questions that went upstream; `says` is what comes back, undefined: nothing for ever. */
function setup(options: Partial<CachingForwarderOptions> = {}) {
  const clock = new FakeClock()
  const upstream = { asked: 0, says: found(20) as Answer | undefined }
  const forwarder = {
    isReturning: () => false,
    forward: () => {
      upstream.asked++
      return upstream.says ? Promise.resolve(upstream.says) : new Promise<Answer>(() => {})
    },
  }
  const cache = new CachingForwarder({ forwarder, clock, ...options })
  const ask = async () => await cache.forward(question, plain)
  return { clock, upstream, cache, ask }
}

describe('CachingForwarder', () => {
  test('CachingForwarder asks once, and counts the TTL down', async () => {
    const { clock, upstream, cache, ask } = setup()
    await ask()
    await clock.advance(15_000)
    expect(cache.forward(question, plain)).toMatchObject({ answer: [{ ttl: 5 }] })
    expect(upstream.asked).toBe(1)
    await clock.advance(5000)
    await ask()
    expect(upstream.asked).toBe(2)
    expect(cache.counters).toMatchObject({ hits: 1, misses: 2, answers: 1 })
  })

  test('CachingForwarder keeps answers with DNSSEC records apart', async () => {
    const { upstream, cache, ask } = setup()
    await ask()
    await cache.forward(question, { ...plain, dnssecOk: true })
    await cache.forward(question, { ...plain, checkingDisabled: true })
    await cache.forward({ ...question, type: recordTypes.AAAA }, plain)
    expect(upstream.asked).toBe(4)
  })

  test('CachingForwarder gives the old answer when nobody can say a new one, with 30 seconds and the reason', async () => {
    const { clock, upstream, cache, ask } = setup()
    await ask()
    await clock.advance(60_000)
    upstream.says = emptyAnswer(rcodes.SERVFAIL)
    const stale = { answer: [{ ttl: 30 }], extendedError: { code: extendedErrors.STALE_ANSWER } }
    expect(await ask()).toMatchObject(stale)
    // The failure is remembered for a second: no client waits for it again.
    expect(cache.forward(question, plain)).toMatchObject(stale)
    expect(upstream.asked).toBe(2)
    await clock.advance(1000)
    upstream.says = found(20)
    expect((await ask()).extendedError).toBeUndefined()
    expect(cache.counters.stale).toBe(2)
  })

  test('CachingForwarder gives the old answer after 1.8 s of silence', async () => {
    const { clock, upstream, ask } = setup()
    await ask()
    await clock.advance(60_000)
    upstream.says = undefined
    let answer: Answer | undefined
    void ask().then((value) => (answer = value))
    await clock.advance(1799)
    expect(answer).toBeUndefined()
    await clock.advance(1)
    expect(answer).toMatchObject({ answer: [{ ttl: 30 }] })
  })

  test('CachingForwarder takes a denial for an answer, whatever was known before', async () => {
    const { clock, upstream, ask } = setup()
    await ask()
    await clock.advance(60_000)
    upstream.says = emptyAnswer(rcodes.NXDOMAIN)
    expect((await ask()).rcode).toBe(rcodes.NXDOMAIN)
  })

  test('CachingForwarder remembers a failure for a second, and its own REFUSED not at all', async () => {
    const { clock, upstream, ask } = setup()
    upstream.says = emptyAnswer(rcodes.SERVFAIL)
    await ask()
    await ask()
    expect(upstream.asked).toBe(1)
    await clock.advance(1000)
    upstream.says = emptyAnswer(rcodes.REFUSED)
    await ask()
    await ask()
    expect(upstream.asked).toBe(3)
  })

  test('CachingForwarder renews what is asked for again, once, before it ends', async () => {
    const { clock, upstream, cache, ask } = setup()
    await ask()
    await ask()
    await clock.advance(18_500)
    expect(cache.counters.prefetches).toBe(0)
    await ask()
    await ask()
    await clock.advance(5000)
    expect(cache.forward(question, plain)).toMatchObject({ answer: [{ ttl: 15 }] })
    expect([upstream.asked, cache.counters.prefetches]).toEqual([2, 1])
  })

  test('CachingForwarder forgets all when other resolvers are asked', async () => {
    let servers = ['one']
    const { upstream, ask } = setup({ epoch: () => servers })
    await ask()
    await ask()
    servers = ['two']
    await ask()
    expect(upstream.asked).toBe(2)
  })
})
