import { describe, expect, test } from 'vitest'
import { FakeClock } from '../base/clock.ts'
import { Busiest, SpaceSaving } from './busiest.ts'

describe('SpaceSaving', () => {
  test('SpaceSaving keeps every key that is frequent enough, whatever else passes, and says how wrong it may be', () => {
    const sketch = new SpaceSaving(10)
    // One in five is `hot`; the others are never the same twice.
    for (let i = 0; i < 1000; i++) sketch.add(i % 5 === 0 ? 'hot' : `once-${i}`, 1)
    expect(sketch.keys).toHaveLength(10)
    const hot = sketch.keys.find(({ key }) => key === 'hot')
    expect(hot?.count).toBeGreaterThanOrEqual(200)
    expect((hot?.count ?? 0) - (hot?.error ?? 0)).toBeLessThanOrEqual(200)
    expect(sketch.keys.filter(({ key }) => key !== 'hot').every(({ count }) => count <= 100)).toBe(true)
    expect(sketch.total).toBe(1000)
  })
})

describe('Busiest', () => {
  test('Busiest counts samples by what they stand for, the most frequent first', () => {
    const busiest = new Busiest()
    busiest.add('a', 64)
    busiest.add('b')
    busiest.add('b')
    expect(busiest.top(1).keys).toEqual([{ key: 'a', count: 64, error: 0 }])
    expect(busiest.top(9)).toMatchObject({ total: 66, keys: [{ key: 'a' }, { key: 'b', count: 2 }] })
  })

  test('Busiest forgets what is two windows old', async () => {
    const clock = new FakeClock()
    const busiest = new Busiest({ window: 1000, clock })
    busiest.add('old')
    await clock.advance(1100)
    busiest.add('new')
    expect(busiest.top(9)).toMatchObject({ seconds: 1.1, keys: [{ key: 'new' }, { key: 'old' }] })
    await clock.advance(1100)
    expect(busiest.top(9)).toMatchObject({ seconds: 1.1, total: 1, keys: [{ key: 'new' }] })
    await clock.advance(5000)
    expect(busiest.top(9)).toMatchObject({ seconds: 0, total: 0, keys: [] })
  })
})
