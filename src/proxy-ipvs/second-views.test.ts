import { expect, test } from 'vitest'
import { commonBits, markOf } from './second-views.ts'

test.each([1, 0x4000, 0x8_0000, 0x10_0000, 0x8000_0000])(
  'markOf() gives each number a mark of its own, without the bit %i that asks for masquerade',
  (bit) => {
    const numbers = [...Array(70_000).keys(), 2 ** 19 - 1]
    const marks = numbers.map((n) => markOf(n, bit))
    expect(new Set(marks).size).toBe(numbers.length)
    const { mask, equals } = commonBits(bit)
    expect(marks.filter((mark) => (mark & bit) !== 0 || (mark & mask) >>> 0 !== equals)).toEqual([])
  },
)
