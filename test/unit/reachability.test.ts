import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { clients, formatCase, reachabilityCases, targets } from '../cases/reachability/reachability.ts'

const cases = reachabilityCases()

test.each(cases)('docs/bridge.md has the table that is tested: $title', (of) => {
  expect(readFileSync('docs/bridge.md', 'utf8')).toContain(formatCase(of))
})

test.each(cases)('each client has an expectation for each target: $title', ({ expect: rows }) => {
  for (const target of targets) {
    const row = rows[target]
    if (row) expect(Object.keys(row)).toEqual([...clients])
  }
})
