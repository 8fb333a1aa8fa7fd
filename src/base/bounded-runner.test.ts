import { describe, expect, it } from 'vitest'
import { BoundedRunner, type BoundedRunnerOptions } from './bounded-runner.ts'
import { FakeClock } from './clock.ts'

/** A runner whose runs last `duration` ms of fake time and note when they began. */
function recorded(options: Partial<BoundedRunnerOptions> & { duration?: number; failing?: () => boolean } = {}) {
  const clock = new FakeClock()
  const starts: string[] = []
  let running = 0
  const runner = new BoundedRunner({
    clock,
    minIntervalMs: 10,
    restFactor: 0,
    ...options,
    run: async (reason) => {
      expect(++running).toBe(1)
      starts.push(`${clock.monotonic()} ${reason}`)
      if (options.duration) await new Promise<void>((resolve) => clock.after(options.duration ?? 0, resolve))
      running--
      if (options.failing?.()) throw new Error('no')
    },
  })
  return { clock, starts, runner }
}

describe('BoundedRunner', () => {
  it('serves a lone request at once', async () => {
    const { clock, starts, runner } = recorded()
    await clock.advance(500)
    runner.request()
    await clock.advance(0)
    expect(starts).toEqual(['500 request'])
  })

  it('makes one run of the requests of one turn', async () => {
    const { clock, starts, runner } = recorded()
    runner.request()
    runner.request()
    await clock.advance(0)
    await clock.advance(100)
    expect(starts).toEqual(['0 request'])
  })

  it('paces a storm, counting the rest from the end of a run to the start of the next', async () => {
    const { clock, starts, runner } = recorded({ duration: 30 })
    for (let i = 0; i < 100; i++) {
      runner.request()
      await clock.advance(1)
    }
    expect(starts).toEqual(['0 request', '40 request', '80 request'])
  })

  it('lets an urgent request wait for the shortest rest only, once', async () => {
    const { clock, starts, runner } = recorded({ duration: 30, restFactor: 2 })
    runner.request()
    await clock.advance(31)
    runner.request()
    runner.request({ urgent: true })
    await clock.advance(40)
    runner.request({ urgent: true })
    await clock.advance(200)
    expect(starts).toEqual(['0 request', '40 request', '130 request'])
  })

  it('rests longer after a slow run', async () => {
    const { clock, starts, runner } = recorded({ duration: 30, restFactor: 2 })
    runner.request()
    await clock.advance(5)
    runner.request()
    await clock.advance(200)
    expect(starts).toEqual(['0 request', '90 request'])
  })

  it('rests no longer than maxRestMs, however slow a run was', async () => {
    const { clock, starts, runner } = recorded({ duration: 30_000, restFactor: 2 })
    runner.request()
    await clock.advance(5)
    runner.request()
    await clock.advance(60_000)
    expect(starts).toEqual(['0 request', '35000 request'])
  })

  it('runs once more for a request that came during a run', async () => {
    const { clock, starts, runner } = recorded({ duration: 30 })
    runner.request()
    await clock.advance(29)
    runner.request()
    await clock.advance(1000)
    expect(starts).toEqual(['0 request', '40 request'])
  })

  it('verifies when the max interval passed without a request', async () => {
    const { clock, starts, runner } = recorded({ maxIntervalMs: 1000 })
    runner.request()
    await clock.advance(2500)
    expect(starts).toEqual(['0 request', '1000 verify', '2000 verify'])
  })

  it('does not verify before the first request', async () => {
    const { clock, starts } = recorded({ maxIntervalMs: 1000 })
    await clock.advance(5000)
    expect(starts).toEqual([])
  })

  it('retries with backoff up to the maximum, and starts afresh after a success', async () => {
    let failing = true
    const errors: number[] = []
    const { clock, starts, runner } = recorded({
      retry: { firstMs: 100, maxMs: 300 },
      failing: () => failing,
      onError: (_error, next) => errors.push(next.retryInMs),
    })
    runner.request()
    await clock.advance(1000)
    expect(starts).toEqual(['0 request', '100 request', '300 request', '600 request', '900 request'])
    expect(errors).toEqual([100, 200, 300, 300, 300])
    expect(runner.failures).toBe(5)
    failing = false
    await clock.advance(300)
    expect(runner.failures).toBe(0)
    expect(runner.busy).toBe(false)
  })

  it('starts nothing after its signal, and lets the run in progress end', async () => {
    const abort = new AbortController()
    const { clock, starts, runner } = recorded({ duration: 30, signal: abort.signal })
    runner.request()
    await clock.advance(5)
    runner.request()
    abort.abort()
    await clock.advance(100)
    await runner.settled()
    expect(starts).toEqual(['0 request'])
  })
})
