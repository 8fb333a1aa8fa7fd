import { expect, test } from 'vitest'
import { escapeWord } from './pod-unit.ts'

// systemd.service(5), "Command lines": "$$" is how a literal dollar sign is passed.
test.each([
  ['"$@"', '"$$@"'],
  ['${HOME}', '$${HOME}'],
  ['costs $$5', 'costs $$$$5'],
  ['plain', 'plain'],
])('escapeWord(%j) is %j', (word, escaped) => {
  expect(escapeWord(word)).toBe(escaped)
})
