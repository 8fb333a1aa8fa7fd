import { describe, expect, test } from 'vitest'
import { FakeClock, systemClock } from './clock.ts'

describe('FakeClock', () => {
  test('advance() runs due timers in order of their time', async () => {
    const clock = new FakeClock()
    const seen: string[] = []
    clock.after(20, () => seen.push(`b ${clock.monotonic()}`))
    clock.after(10, () => seen.push(`a ${clock.monotonic()}`))
    clock.after(31, () => seen.push('never'))
    await clock.advance(30)
    expect(seen).toEqual(['a 10', 'b 20'])
    expect(clock.now().getTime()).toBe(30)
  })

  test('advance() runs a timer that another timer started', async () => {
    const clock = new FakeClock()
    const seen: number[] = []
    clock.after(10, () => clock.after(5, () => seen.push(clock.monotonic())))
    await clock.advance(20)
    expect(seen).toEqual([15])
  })

  test('after() does not call back once cancelled', async () => {
    const clock = new FakeClock()
    let calls = 0
    clock.after(10, () => calls++).cancel()
    await clock.advance(20)
    expect(calls).toBe(0)
  })
})

describe('systemClock', () => {
  test('after() calls back once', async () => {
    const before = systemClock.monotonic()
    await new Promise<void>((resolve) => systemClock.after(5, resolve))
    expect(systemClock.monotonic() - before).toBeGreaterThan(3)
  })
})
