import { describe, expect, test } from 'vitest'
import { parsePort } from './port.ts'

describe('parsePort()', () => {
  test.each([1, 80, 65_535])('takes %s', (value) => expect(parsePort(value)).toBe(value))

  test.each([0, -1, 65_536, 70_000, 1.5, Number.NaN, '80', null])('refuses %j and names it', (value) => {
    expect(() => parsePort(value)).toThrow(
      `${JSON.stringify(value)} is not a port (expected a whole number from 1 to 65535)`,
    )
  })
})
