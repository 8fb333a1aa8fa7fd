import { expect, test } from 'vitest'
import { isNewerVersion } from './resource-version.ts'

test.each([
  ['10', '9', true],
  ['9', '10', false],
  ['7', '7', false],
  // Beyond what a double can tell apart.
  ['9007199254740993', '9007199254740992', true],
  ['010', '9', undefined],
  ['abc', '9', undefined],
  ['', '9', undefined],
])('isNewerVersion: %s against %s is %s', (a, b, expected) => {
  expect(isNewerVersion(a, b)).toBe(expected)
})
