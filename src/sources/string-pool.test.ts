import { describe, expect, test } from 'vitest'
import { StringPool } from './string-pool.ts'

describe('StringPool', () => {
  test.each(['', 'web', 'a-name-longer-than-thirteen', 'größer als dreizehn ✓'])('intern() gives back %j', (text) => {
    const pool = new StringPool()
    expect(pool.intern(text)).toBe(text)
    expect(pool.intern(text)).toBe(text)
  })
})
