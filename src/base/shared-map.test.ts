import { assert, array, constantFrom, integer, property, record } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SharedMap } from './shared-map.ts'

const entries = (map: SharedMap<number>) => new Map([...map].sort(([a], [b]) => (a < b ? -1 : 1)))
const edits = array(
  record({
    set: array(record({ key: constantFrom('a', 'b', 'c', 'd', 'e', 'shop/web'), value: integer({ min: 0, max: 3 }) })),
    deleted: array(constantFrom('a', 'b', 'c', 'x')),
  }),
)

describe('SharedMap', () => {
  test('with() and Map agree after any edits, and older versions stay as they were', () => {
    assert(
      property(edits, (edits) => {
        let shared = SharedMap.empty<number>()
        const plain = new Map<string, number>()
        for (const { set, deleted } of edits) {
          const before = shared
          const frozen = entries(before)
          shared = shared.with(
            set.map((e) => [e.key, e.value]),
            deleted,
          )
          for (const { key, value } of set) plain.set(key, value)
          for (const key of deleted) plain.delete(key)
          expect(entries(before)).toEqual(frozen)
          expect(entries(shared)).toEqual(new Map([...plain].sort(([a], [b]) => (a < b ? -1 : 1))))
          expect(shared.size).toBe(plain.size)
        }
      }),
    )
  })

  test('changedKeys() names exactly the keys whose value differs', () => {
    assert(
      property(edits, edits, (first, second) => {
        const apply = (map: SharedMap<number>, list: typeof first) =>
          list.reduce(
            (map, e) =>
              map.with(
                e.set.map((e) => [e.key, e.value]),
                e.deleted,
              ),
            map,
          )
        const before = apply(SharedMap.empty<number>(), first)
        const after = apply(before, second)
        const keys = new Set([...before.keys(), ...after.keys()])
        const differ = [...keys].filter((key) => before.get(key) !== after.get(key))
        expect([...SharedMap.changedKeys(before, after)].sort()).toEqual(differ.sort())
      }),
    )
  })

  test.each([1, 64, 65, 1000])(
    'changedKeys() names them of the next version, and of the one after that: %d',
    (count) => {
      const numbers = (to: number, value: number) => Array.from({ length: to }, (_, i) => [`${i}`, value] as const)
      const first = SharedMap.from(numbers(1500, 0))
      const second = first.with(numbers(count, 1))
      const third = second.with([...numbers(count, 0), ['new', 0]], ['1499'])
      expect(SharedMap.changedKeys(first, second)).toEqual(new Set(numbers(count, 1).map(([key]) => key)))
      expect(SharedMap.changedKeys(second, third).size).toBe(count + 2)
      expect(SharedMap.changedKeys(first, third)).toEqual(new Set(['new', '1499']))
      expect(SharedMap.changedKeys(third, second).size).toBe(count + 2)
    },
  )

  test('with() returns the same map when nothing changes', () => {
    const map = SharedMap.from([['a', 1]])
    expect(map.with([['a', 1]], ['b'])).toBe(map)
  })

  test('changedKeys() sees a key whose value is undefined', () => {
    const before = SharedMap.empty<undefined>()
    expect(SharedMap.changedKeys(before, before.with([['a', undefined]]))).toEqual(new Set(['a']))
  })
})
