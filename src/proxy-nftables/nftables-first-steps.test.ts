import { describe, expect, it } from 'vitest'
import type { ReadTable } from '../nftables/client.ts'
import type { Change } from '../nftables/transaction.ts'
import { stepsFor } from './nftables-first-steps.ts'
import { sets } from './nftables-sets.ts'

const elements = (count: number, from = 0) =>
  new Map(Array.from({ length: count }, (_, i) => [`key ${from + i}`, 'data']))
const many: readonly Change[] = [
  { op: 'add-table' },
  { op: 'add-set', set: sets[4].endpoints },
  { op: 'add-chain', chain: { name: 'entrance', hook: { type: 'nat', hook: 'prerouting', priority: -100 } } },
  { op: 'add-chain', chain: { name: 'inner' } },
  { op: 'add-rule', chain: 'entrance', rule: { statements: [{ kind: 'goto', chain: 'inner' }] } },
  { op: 'add-rule', chain: 'inner', rule: { statements: [{ kind: 'drop' }] } },
  { op: 'add-elements', set: sets[4].endpoints, elements: elements(45_000) },
]
const table: ReadTable = {
  family: 'inet',
  name: 't',
  chains: [{ name: 'entrance', hook: { type: 'nat', hook: 'prerouting', priority: -100 }, rules: [] }],
  sets: [],
  elements: new Map(),
  ruleCounts: new Map(),
}
const summary = (steps: Iterable<readonly Change[]>) =>
  [...steps].map((step) =>
    step
      .map((change) => {
        if (change.op === 'add-elements') return `${change.elements.size} elements`
        if (change.op === 'add-chain') return change.chain.name
        return change.op === 'add-rule' ? `rule of ${change.chain}` : change.op
      })
      .join(', '),
  )

describe('stepsFor', () => {
  it('fills a table that no packet passes in portions, and hooks it in last', () => {
    const steps = [...stepsFor(undefined, many)]
    expect(summary(steps)).toEqual([
      'add-table, add-set, inner, rule of inner',
      '20000 elements',
      '20000 elements',
      '5000 elements',
      'entrance, rule of entrance',
    ])
    const added = steps.flat().flatMap((c) => (c.op === 'add-elements' ? [...c.elements] : []))
    expect(new Map(added)).toEqual(elements(45_000))
  })

  it('goes on so where an earlier start was interrupted', () => {
    const half = { ...table, chains: [{ name: 'inner', rules: [] }] }
    expect(summary(stepsFor(half, many))).toHaveLength(5)
  })

  it.each([
    ['a table that packets pass', table, many],
    ['changes that take something away', undefined, [...many, { op: 'delete-chain', chain: 'old' } as const]],
    [
      'little',
      undefined,
      [...many.slice(0, -1), { op: 'add-elements', set: sets[4].endpoints, elements: elements(5) }],
    ],
  ] as const)('changes %s in one transaction, rules before elements', (_name, current, changes) => {
    const steps = [...stepsFor(current, changes as readonly Change[])]
    expect(steps).toHaveLength(1)
    expect(steps[0]?.at(-1)?.op).toBe('add-elements')
  })
})
