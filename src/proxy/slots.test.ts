import { assert, integer, property, uniqueArray } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { assignSlots, compileSlots, slotCounts, type Slots } from './slots.ts'

/** Endpoints 10.0.0.N from a text of numbers. */
const slots = (numbers: string): Slots =>
  numbers.split(' ').map((n) => ({ ip: parseIp(`10.0.0.${n}`), port: 80 as Port }))
const text = (of: Slots): string => of.map((e) => e.ip.slice('10.0.0.'.length)).join(' ')

describe('assignSlots', () => {
  it.each([
    { name: 'first time: the given order', previous: undefined, endpoints: '1 2 3', expected: '1 2 3' },
    { name: 'one replaced: only its slot', previous: '1 2 3 4 5', endpoints: '1 3 4 5 9', expected: '1 9 3 4 5' },
    { name: 'one gone: the last moves into the gap', previous: '1 2 3 4 5', endpoints: '1 3 4 5', expected: '1 5 3 4' },
    { name: 'the last gone: nothing moves', previous: '1 2 3', endpoints: '1 2', expected: '1 2' },
    { name: 'one more: at the end', previous: '3 1 2', endpoints: '0 1 2 3', expected: '3 1 2 0' },
    { name: 'all others', previous: '1 2', endpoints: '3 4 5', expected: '3 4 5' },
  ])('places: $name', ({ previous, endpoints, expected }) => {
    expect(text(assignSlots(previous === undefined ? undefined : slots(previous), slots(endpoints)))).toBe(expected)
  })

  it('returns the previous slots themselves when the endpoints are the same', () => {
    const previous = slots('3 1 2')
    expect(assignSlots(previous, slots('1 2 3'))).toBe(previous)
  })

  it('places every endpoint once and moves no more than it must, for any two sets', () => {
    const numbers = uniqueArray(integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 20 })
    assert(
      property(numbers, numbers, (a, b) => {
        const before = slots(a.join(' '))
        const after = assignSlots(before, slots(b.join(' ')))
        expect(text(after).split(' ').toSorted()).toEqual(b.map(String).toSorted())
        const mustChange = before.slice(0, b.length).filter((e) => !b.includes(Number(text([e])))).length
        const changed = after.filter((e, i) => i < before.length && e.ip !== before[i]?.ip).length
        expect(changed).toBe(mustChange)
      }),
    )
  })
})

describe('slotCounts', () => {
  it.each([
    { weights: [1, 1, 1], counts: [1, 1, 1] },
    { weights: [10, 20, 30], counts: [1, 2, 3] },
    { weights: [255, 1], counts: [255, 1] },
    { weights: [1000, 999, 1], counts: [128, 127, 1] },
    { weights: [65_535, 1, 1], counts: [255, 1, 1] },
  ])('gives $weights the slots $counts', ({ weights, counts }) => {
    expect(slotCounts(weights)).toEqual(counts)
  })
})

/** Endpoints 10.0.0.N from numbers and weights. */
const weighted = (weights: Readonly<Record<number, number>>): Slots =>
  Object.entries(weights).map(([n, weight]) => ({ ip: parseIp(`10.0.0.${n}`), port: 80 as Port, weight }))

describe('compileSlots', () => {
  const shared = { consistent: false, previous: undefined }

  it('repeats an endpoint by its weight, spread evenly, and not at all where weights are equal', () => {
    expect(text(compileSlots(weighted({ 1: 4, 2: 2 }), shared))).toBe('1 2 1')
    expect(text(compileSlots(weighted({ 1: 3, 2: 1 }), shared))).toBe('1 1 2 1')
    expect(text(compileSlots(weighted({ 1: 7, 2: 7 }), shared))).toBe('1 2')
  })

  it('keeps places when a weight changes', () => {
    const before = compileSlots(weighted({ 1: 3, 2: 1 }), shared)
    expect(text(compileSlots(weighted({ 1: 2, 2: 1 }), { consistent: false, previous: before }))).toBe('1 1 2')
    expect(compileSlots(weighted({ 1: 6, 2: 2 }), { consistent: false, previous: before })).toBe(before)
  })
})

describe('compileSlots that is consistent (Maglev)', () => {
  const table = (numbers: number[], previous?: Slots) =>
    compileSlots(slots(numbers.join(' ')), { consistent: true, previous })
  const count = (of: Slots, number: number) => of.filter((e) => e.ip === `10.0.0.${number}`).length

  it('is the same whatever came before, and returns the previous table itself when nothing changed', () => {
    const first = table([1, 2, 3])
    const elsewhere = table([1, 2, 3], table([1, 3]))
    expect(text(elsewhere)).toBe(text(first))
    expect(table([1, 2, 3], first)).toBe(first)
  })

  it('shares evenly, to one slot, and by weight', () => {
    const even = table([1, 2, 3])
    expect([1, 2, 3].map((n) => count(even, n)).toSorted((a, b) => a - b)).toEqual([83, 84, 84])
    const uneven = compileSlots(weighted({ 1: 3, 2: 1 }), { consistent: true, previous: undefined })
    expect(count(uneven, 1) / count(uneven, 2)).toBeCloseTo(3, 0)
  })

  it('moves few clients beside those of an endpoint that goes', () => {
    const numbers = Array.from({ length: 20 }, (_, i) => i + 1)
    const before = table(numbers)
    const after = table(numbers.filter((n) => n !== 7))
    const moved = before.filter((e, i) => e.ip !== '10.0.0.7' && e.ip !== after[i]?.ip).length
    expect(moved / before.length).toBeLessThan(0.1)
    expect(count(after, 7)).toBe(0)
  })
})
