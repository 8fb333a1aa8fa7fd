import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { servicesTable } from '../../test/fixtures/nftables/services-table.ts'
import { parseCidr } from '../net/cidr.ts'
import { diffTable } from './diff.ts'
import { formatTable, formatTransaction } from './format.ts'
import { addressRange, registerBytes } from './keys.ts'
import type { ChainHook, TableState } from './objects.ts'

test('formatTable() prints what nft lists', () => {
  const listing = readFileSync(new URL('../../test/fixtures/nftables/services.listing.txt', import.meta.url), 'utf8')
  expect(formatTable(servicesTable)).toBe(listing)
})

test('formatTable() prints as many elements as it is told, and counts the rest', () => {
  const text = formatTable(servicesTable, { maxElements: 1 })
  expect(text).toContain('elements = { 172.30.0.41 . tcp . 80 : f1a0:2,\n\t\t\t     ... 1 more }')
})

test('formatTransaction() writes commands that nft takes', () => {
  const { family, name } = servicesTable
  const text = formatTransaction({ family, table: name, changes: diffTable(undefined, servicesTable) })
  expect(text).toContain('add table inet fairlead-services { comment "x"; }')
  expect(text).toContain(
    'add chain inet fairlead-services output { type nat hook output priority -100; policy accept; }',
  )
  expect(text).toContain('add map inet fairlead-services classes { typeof meta priority : verdict; }')
  expect(text).toContain('add element inet fairlead-services nodeports-4 { tcp . 30080 : f1a1:2 }')
})

test.each<[ChainHook['hook'], number, string]>([
  ['prerouting', -100, 'dstnat'],
  ['prerouting', -95, 'dstnat + 5'],
  ['output', -100, '-100'],
  ['postrouting', 90, 'srcnat - 10'],
  ['forward', 5, 'filter + 5'],
  ['input', 300, '300'],
])('formatTable() names the priority at %s %i as nft does: %s', (hook, priority, words) => {
  const chains = [{ name: 'c', hook: { type: 'filter', hook, priority } as const, rules: [] }]
  const text = formatTable({ family: 'inet', name: 't', chains, sets: [], elements: new Map() })
  expect(text).toContain(`hook ${hook} priority ${words}; policy accept;`)
})

/** The listing of nft 1.0.6 for such sets. */
test('formatTable() breaks lines of elements where nft does', () => {
  const addresses = [1, 2, 3, 4, 5].map((n) => registerBytes({ number: n << 24 }))
  const marks = [3, 2, 1, 6, 5, 4].map((number) => registerBytes({ number }))
  const table: TableState = {
    family: 'inet',
    name: 't',
    chains: [],
    sets: [
      { name: 'a', key: ['ip saddr'] },
      { name: 'm', key: ['meta mark'] },
      { name: 'r', key: ['ip saddr'], interval: true },
    ],
    elements: new Map([
      ['a', new Map(addresses.map((key) => [key, '']))],
      ['m', new Map(marks.map((key) => [key, '']))],
      [
        'r',
        new Map([addressRange(parseCidr('10.0.0.0/8')), [registerBytes({ number: 1 }), registerBytes({ number: 3 })]]),
      ],
    ]),
  }
  expect(formatTable(table)).toBe(`table inet t {
	set a {
		typeof ip saddr
		elements = { 0.0.0.1, 0.0.0.2,
			     0.0.0.3, 0.0.0.4,
			     0.0.0.5 }
	}

	set m {
		typeof meta mark
		elements = { 0x00000001, 0x00000002, 0x00000003, 0x00000004, 0x00000005,
			     0x00000006 }
	}

	set r {
		typeof ip saddr
		flags interval
		elements = { 1.0.0.0-3.0.0.0, 10.0.0.0/8 }
	}
}
`)
})
