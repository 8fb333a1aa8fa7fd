import { assert, integer, property, uniqueArray } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { assignSlots, type Slots } from './slots.ts'

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
