import { describe, expect, test } from 'vitest'
import { servicesTable } from '../../test/fixtures/nftables/services-table.ts'
import type { ReadTable } from './client.ts'
import { diffTable } from './diff.ts'
import { fingerprintOf, withFingerprint } from './fingerprint.ts'
import { formatTransaction } from './format.ts'
import { registerBytes } from './keys.ts'
import type { TableState } from './objects.ts'
import type { Change } from './transaction.ts'

/** The table as a client would read it. */
function asRead(table: TableState): ReadTable {
  const { chains, ...rest } = withFingerprint(table)
  const ruleCounts = new Map(chains.map(({ name, rules }) => [name, rules.length]))
  return { ...rest, chains: chains.map((chain) => ({ ...chain, rules: [] })), ruleCounts }
}

/** A change as nft commands, family and table left out. */
function inWords(change: Change): string[] {
  const text = formatTransaction({ family: 'inet', table: 't', changes: [change] })
  return text.replaceAll('inet t ', '').split('\n')
}

const key = registerBytes({ number: 0xf1a00000 })
const layout = fingerprintOf(withFingerprint(servicesTable))

describe('diffTable', () => {
  test('diffTable() has nothing to do when nothing differs', () => {
    expect(diffTable(asRead(servicesTable), servicesTable)).toEqual([])
  })

  test.each([
    {
      name: 'an element that lacks',
      change: (table: TableState) => withElements(table, 'classes', [[registerBytes({ number: 9 }), 'goto refuse']]),
      expect: ['add element classes { 0:9 : goto refuse }'],
    },
    {
      name: 'an element with other data',
      change: (table: TableState) => withElements(table, 'classes', [[key, 'goto vip4-2']]),
      expect: ['delete element classes { f1a0:0 }', 'add element classes { f1a0:0 : goto vip4-2 }'],
    },
  ])('diffTable() changes $name and leaves rules alone', ({ change, expect: expected }) => {
    expect(diffTable(asRead(servicesTable), change(servicesTable)).flatMap(inWords)).toEqual(expected)
  })

  test('diffTable() rewrites the rules when one differs, and replaces the fingerprint', () => {
    const rules = [{ statements: [{ kind: 'drop' as const }] }]
    const chains = servicesTable.chains.map((chain) => (chain.name === 'refuse' ? { ...chain, rules } : chain))
    const lines = diffTable(asRead(servicesTable), { ...servicesTable, chains }).flatMap(inWords)
    expect(lines).toContain(`delete chain ${layout}`)
    expect(lines).toContain('add rule refuse drop')
    expect(lines.filter((line) => line.startsWith('flush chain')).length).toBe(servicesTable.chains.length)
    expect(lines.filter((line) => line.includes('element'))).toEqual([])
  })

  test.each([
    { name: 'a rule lacks', read: { ruleCounts: new Map() } },
    { name: 'the fingerprint lacks', read: { chains: asRead(servicesTable).chains.slice(1) } },
    { name: 'a set lacks', read: { sets: servicesTable.sets.slice(1) } },
  ])('diffTable() rewrites the rules when $name', ({ read }) => {
    const lines = diffTable({ ...asRead(servicesTable), ...read }, servicesTable).flatMap(inWords)
    expect(lines).toContain('add rule refuse reject')
  })

  test('diffTable() adds a chain that lacks, and leaves the rules of others alone', () => {
    const last = servicesTable.chains.at(-1)
    const read = { ...asRead(servicesTable), chains: asRead(servicesTable).chains.slice(0, -1) }
    const changes = diffTable(read, servicesTable)
    expect(new Set(changes.map((change) => ('chain' in change ? change.chain : '')))).toEqual(
      new Set([expect.objectContaining({ name: last?.name }), last?.name]),
    )
    expect(changes.filter(({ op }) => op === 'add-rule').length).toBe(last?.rules.length)
  })

  test('diffTable() takes rules before sets and chains, and brings them in the opposite order', () => {
    const empty: TableState = { ...servicesTable, chains: [], sets: [], elements: new Map() }
    const ops = (lines: readonly { op: string }[]) => [...new Set(lines.map(({ op }) => op))]
    expect(ops(diffTable(asRead(servicesTable), empty))).toEqual([
      'flush-chain',
      'delete-set',
      'delete-chain',
      'add-chain',
    ])
    expect(ops(diffTable(asRead(empty), servicesTable))).toEqual([
      'delete-chain',
      'add-chain',
      'add-set',
      'add-elements',
      'add-rule',
    ])
  })

  test('diffTable() creates anew a set of another type and a base chain with another hook', () => {
    const sets = servicesTable.sets.map((set) =>
      set.name === 'hairpin-4' ? { ...set, key: ['ip saddr'] as const } : set,
    )
    const chains = servicesTable.chains.map((chain) =>
      chain.hook ? { ...chain, hook: { ...chain.hook, priority: -90 } } : chain,
    )
    const lines = diffTable(asRead({ ...servicesTable, sets, chains }), servicesTable).flatMap(inWords)
    expect(lines).toContain('delete set hairpin-4')
    expect(lines).toContain('add set hairpin-4 { typeof ip saddr . ip daddr; }')
    expect(lines).toContain('delete chain output')
    expect(lines).toContain('add chain output { type nat hook output priority -100; policy accept; }')
  })
})

describe('withFingerprint', () => {
  test('withFingerprint() tells rules and sets apart, and not elements', () => {
    const print = (table: TableState) => fingerprintOf(withFingerprint(table))
    expect(layout).toMatch(/^layout-[0-9a-f]{8}$/)
    expect(print(withFingerprint(servicesTable))).toBe(layout)
    expect(print({ ...servicesTable, elements: new Map() })).toBe(layout)
    expect(print({ ...servicesTable, sets: servicesTable.sets.slice(1) })).not.toBe(layout)
    expect(print({ ...servicesTable, chains: servicesTable.chains.slice(1) })).not.toBe(layout)
  })
})

function withElements(table: TableState, set: string, entries: readonly (readonly [string, string])[]): TableState {
  const elements = new Map(table.elements)
  elements.set(set, new Map([...(elements.get(set) ?? []), ...entries]))
  return { ...table, elements }
}
