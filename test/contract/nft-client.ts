import { describe, expect, test } from 'vitest'
import { parseIp } from '../../src/net/ip-address.ts'
import type { ForeignChange, NftClient } from '../../src/nftables/client.ts'
import { diffTable } from '../../src/nftables/diff.ts'
import { registerBytes } from '../../src/nftables/keys.ts'
import { isTableChanged, type NftablesError } from '../../src/nftables/nftables-error.ts'
import type { NftSet, Rule, TableState } from '../../src/nftables/objects.ts'
import type { Change, Transaction } from '../../src/nftables/transaction.ts'
import { servicesTable } from '../fixtures/nftables/services-table.ts'

/** A client under test, and another process that changes the same nf_tables. */
export interface NftClientUnderTest extends Disposable {
  readonly client: NftClient
  /** Undefined where nobody else can be played; the reason is in the name of the skipped tests. */
  readonly changeAsSomebodyElse?: (transaction: Transaction) => void
}

const table = { family: 'inet', table: 'contract' } as const

const ip = (last: number) => ({ ip: parseIp(`192.0.2.${last}`) })
const port = (port: number) => ({ port })
const number = (number: number) => ({ number })

const pair: NftSet = { name: 'pairs', key: ['ip saddr', 'ip daddr'] }
const marks: NftSet = { name: 'marks', key: ['ip daddr', 'th dport'], data: ['meta mark'] }
const verdicts: NftSet = { name: 'verdicts', key: ['meta mark'], data: 'verdict' }
const seen: NftSet = {
  name: 'seen',
  key: ['meta priority', 'ip saddr'],
  data: ['meta priority'],
  dynamic: { size: 100 },
}
const ranges: NftSet = { name: 'ranges', key: ['ip saddr'], interval: true }
const protocols: NftSet = { name: 'protocols', key: ['meta l4proto'] }

const rule = (...statements: Rule['statements']): Rule => ({ statements })
const elements = (...entries: [string, string][]) => new Map(entries)

/** Two plain chains, a base chain that jumps, and one set of each kind, each used or with an element. */
const base: readonly Change[] = [
  { op: 'add-table', comment: 'contract test' },
  { op: 'add-chain', chain: { name: 'plain' } },
  { op: 'add-chain', chain: { name: 'target' } },
  { op: 'add-chain', chain: { name: 'input', hook: { type: 'filter', hook: 'input', priority: 0 } } },
  ...[pair, marks, verdicts, ranges, protocols, seen].map((set): Change => ({ op: 'add-set', set })),
  { op: 'add-elements', set: marks, elements: elements([registerBytes(ip(1), port(80)), registerBytes(number(7))]) },
  { op: 'add-elements', set: verdicts, elements: elements([registerBytes(number(1)), 'goto target']) },
  { op: 'add-rule', chain: 'input', rule: rule({ kind: 'jump', chain: 'plain' }) },
  { op: 'add-rule', chain: 'plain', rule: rule({ kind: 'in-set', key: pair.key, set: 'pairs' }, { kind: 'accept' }) },
]

interface Row {
  readonly name: string
  readonly changes: readonly Change[]
  /** The error's message, or undefined when it is to be applied. */
  readonly refused?: string | RegExp
}

/** A chain that exists with another hook or priority: newer kernels (6.18) say EOPNOTSUPP, Debian's 6.1 EEXIST. */
const otherHook = /^add chain inet contract input: (EOPNOTSUPP|EEXIST)$/

const rows: readonly Row[] = [
  { name: 'adds what exists', changes: base.filter(({ op }) => op !== 'add-rule') },
  {
    name: 'deletes a chain that nobody uses',
    changes: [
      { op: 'add-chain', chain: { name: 'x' } },
      { op: 'delete-chain', chain: 'x' },
    ],
  },
  {
    name: 'refuses to delete a chain that a rule jumps to',
    changes: [
      { op: 'flush-chain', chain: 'plain' },
      { op: 'delete-chain', chain: 'plain' },
    ],
    refused: 'delete chain inet contract plain: EBUSY',
  },
  {
    name: 'refuses to delete a chain that an element leads to',
    changes: [{ op: 'delete-chain', chain: 'target' }],
    refused: 'delete chain inet contract target: EBUSY',
  },
  {
    name: 'deletes a chain after the element that leads to it',
    changes: [
      { op: 'delete-elements', set: verdicts, elements: elements([registerBytes(number(1)), '']) },
      { op: 'delete-chain', chain: 'target' },
    ],
  },
  {
    name: 'deletes a chain with its rules, and then the chain that they jumped to',
    changes: [
      { op: 'delete-chain', chain: 'input' },
      { op: 'delete-chain', chain: 'plain' },
    ],
  },
  {
    name: 'refuses to delete a chain that is not there',
    changes: [{ op: 'delete-chain', chain: 'nobody' }],
    refused: 'delete chain inet contract nobody: ENOENT',
  },
  {
    name: 'refuses to flush a chain that is not there',
    changes: [{ op: 'flush-chain', chain: 'nobody' }],
    refused: 'flush chain inet contract nobody: ENOENT',
  },
  {
    name: 'refuses a rule in a chain that is not there',
    changes: [{ op: 'add-rule', chain: 'nobody', rule: rule({ kind: 'accept' }) }],
    refused: 'add rule inet contract nobody: ENOENT',
  },
  {
    name: 'refuses a jump to a chain that is not there',
    changes: [{ op: 'add-rule', chain: 'plain', rule: rule({ kind: 'jump', chain: 'nobody' }) }],
    refused: 'add rule inet contract plain: ENOENT',
  },
  {
    name: 'refuses a jump to a base chain',
    changes: [{ op: 'add-rule', chain: 'plain', rule: rule({ kind: 'jump', chain: 'input' }) }],
    refused: 'add rule inet contract plain: EOPNOTSUPP',
  },
  {
    name: 'refuses a lookup in a set that is not there',
    changes: [{ op: 'add-rule', chain: 'plain', rule: rule({ kind: 'in-set', key: ['ip saddr'], set: 'nobody' }) }],
    refused: 'add rule inet contract plain: ENOENT',
  },
  {
    name: 'adds rules that fill a map, and draw numbers',
    changes: [
      {
        op: 'add-rule',
        chain: 'plain',
        rule: rule(
          { kind: 'set-priority', to: { draw: 'hash', key: ['ip saddr'], modulus: 7, seed: 1, offset: 0x100 } },
          { kind: 'set-priority', to: { draw: 'in-turn', modulus: 3, offset: 0 } },
          {
            kind: 'update',
            map: 'seen',
            key: [{ priorityMask: 0xff00 }, 'ip saddr'],
            data: ['meta priority'],
            timeoutSeconds: 60,
          },
        ),
      },
      {
        op: 'add-rule',
        chain: 'plain',
        rule: rule({ kind: 'delete', map: 'seen', key: ['meta priority', 'ip saddr'], data: ['meta priority'] }),
      },
    ],
  },
  {
    name: 'refuses to fill a map that is not there',
    changes: [
      {
        op: 'add-rule',
        chain: 'plain',
        rule: rule({ kind: 'update', map: 'nobody', key: ['ip saddr'], data: ['meta mark'], timeoutSeconds: 1 }),
      },
    ],
    refused: 'add rule inet contract plain: ENOENT',
  },
  {
    name: 'refuses a map that rules fill under the name of one that is not',
    changes: [{ op: 'add-set', set: { ...marks, dynamic: { size: 100 } } }],
    refused: 'add map inet contract marks: EEXIST',
  },
  {
    name: 'refuses to delete a set that a rule looks into',
    changes: [{ op: 'delete-set', set: 'pairs' }],
    refused: 'delete set inet contract pairs: EBUSY',
  },
  { name: 'deletes a set with elements', changes: [{ op: 'delete-set', set: 'marks' }] },
  {
    name: 'refuses to delete a set that is not there',
    changes: [{ op: 'delete-set', set: 'nobody' }],
    refused: 'delete set inet contract nobody: ENOENT',
  },
  {
    name: 'adds an element that exists with the same data',
    changes: [
      {
        op: 'add-elements',
        set: marks,
        elements: elements([registerBytes(ip(1), port(80)), registerBytes(number(7))]),
      },
    ],
  },
  {
    name: 'refuses an element that exists with other data, and names it',
    changes: [
      {
        op: 'add-elements',
        set: marks,
        elements: elements(
          [registerBytes(ip(2), port(80)), registerBytes(number(7))],
          [registerBytes(ip(1), port(80)), registerBytes(number(8))],
        ),
      },
    ],
    refused: 'add element inet contract marks { 192.0.2.1 . 80 }: EEXIST',
  },
  {
    name: 'replaces the data of an element by deleting it first',
    changes: [
      { op: 'delete-elements', set: marks, elements: elements([registerBytes(ip(1), port(80)), '']) },
      {
        op: 'add-elements',
        set: marks,
        elements: elements([registerBytes(ip(1), port(80)), registerBytes(number(8))]),
      },
    ],
  },
  {
    name: 'refuses to delete an element that is not there, and names it',
    changes: [
      {
        op: 'delete-elements',
        set: marks,
        elements: elements([registerBytes(ip(1), port(80)), ''], [registerBytes(ip(9), port(80)), '']),
      },
    ],
    refused: 'delete element inet contract marks { 192.0.2.9 . 80 }: ENOENT',
  },
  {
    name: 'refuses an element that leads to a chain that is not there',
    changes: [{ op: 'add-elements', set: verdicts, elements: elements([registerBytes(number(2)), 'goto nobody']) }],
    refused: 'add element inet contract verdicts { 0x00000002 }: ENOENT',
  },
  {
    name: 'refuses a set of another type under the same name',
    changes: [{ op: 'add-set', set: { name: 'pairs', key: ['ip saddr'] } }],
    refused: 'add set inet contract pairs: EEXIST',
  },
  {
    name: 'refuses elements of another length than the set has',
    changes: [
      {
        op: 'add-elements',
        set: { ...pair, key: ['ip6 saddr'] },
        elements: elements([registerBytes({ ip: parseIp('2001:db8::1') }), '']),
      },
    ],
    refused: 'add element inet contract pairs { 2001:db8::1 }: EINVAL',
  },
  {
    name: 'refuses a hook for a chain that has another',
    changes: [{ op: 'add-chain', chain: { name: 'input', hook: { type: 'filter', hook: 'output', priority: 0 } } }],
    refused: otherHook,
  },
  {
    name: 'refuses another priority for a chain',
    changes: [{ op: 'add-chain', chain: { name: 'input', hook: { type: 'filter', hook: 'input', priority: 7 } } }],
    refused: otherHook,
  },
  {
    name: 'refuses a hook for a chain that has none',
    changes: [{ op: 'add-chain', chain: { name: 'plain', hook: { type: 'filter', hook: 'input', priority: 7 } } }],
    refused: 'add chain inet contract plain: EOPNOTSUPP',
  },
  {
    name: 'adds a range that lies beside another',
    changes: [
      { op: 'add-elements', set: ranges, elements: elements([registerBytes(ip(0)), registerBytes(ip(7))]) },
      { op: 'add-elements', set: ranges, elements: elements([registerBytes(ip(8)), registerBytes(ip(8))]) },
    ],
  },
  {
    name: 'refuses a range that overlaps another',
    changes: [
      { op: 'add-elements', set: ranges, elements: elements([registerBytes(ip(0)), registerBytes(ip(7))]) },
      { op: 'add-elements', set: ranges, elements: elements([registerBytes(ip(4)), registerBytes(ip(9))]) },
    ],
    refused: 'add element inet contract ranges { 192.0.2.4-192.0.2.9 }: EEXIST',
  },
  {
    name: 'refuses to look into a map as into a set',
    changes: [
      { op: 'add-rule', chain: 'plain', rule: rule({ kind: 'vmap', key: ['ip saddr', 'ip daddr'], map: 'pairs' }) },
    ],
    refused: 'add rule inet contract plain: EINVAL',
  },
  {
    name: 'names all changes that were refused',
    changes: [
      { op: 'delete-set', set: 'nobody' },
      { op: 'add-chain', chain: { name: 'fine' } },
      { op: 'delete-chain', chain: 'nobody' },
    ],
    refused: 'delete set inet contract nobody: ENOENT; delete chain inet contract nobody: ENOENT',
  },
]

/** The rows that every {@link NftClient} has to satisfy. */
export function testNftClient(open: () => NftClientUnderTest, options: { readonly foreign: true | string }): void {
  const foreign = options.foreign === true ? test : test.skip
  const reason = options.foreign === true ? '' : ` (skipped: ${options.foreign})`

  describe('transactions', () => {
    test.each(rows)('run() $name', async ({ changes, refused }) => {
      using under = open()
      const { client } = under
      await client.run({ ...table, changes: base })
      const before = await client.read('inet', 'contract')
      const outcome = client.run({ ...table, changes })
      if (refused === undefined) {
        await outcome
        return
      }
      await expect(outcome.catch((error: NftablesError) => Promise.reject(new Error(plain(error))))).rejects.toThrow(
        typeof refused === 'string' ? new Error(refused) : refused,
      )
      expect(await client.read('inet', 'contract')).toEqual(before)
    })

    test('run() refuses changes of a table that is not there', async () => {
      using under = open()
      const outcome = under.client.run({ ...table, changes: [{ op: 'add-chain', chain: { name: 'x' } }] })
      await expect(outcome).rejects.toMatchObject({ code: 'ENOENT' })
    })

    test('run() deletes a table with all in it', async () => {
      using under = open()
      const { client } = under
      await client.run({ ...table, changes: base })
      await client.run({ ...table, changes: [{ op: 'delete-table' }] })
      expect(await client.read('inet', 'contract')).toBeUndefined()
      expect(await client.listTables()).toEqual([])
    })

    test('run() counts messages and elements', async () => {
      using under = open()
      expect(await under.client.run({ ...table, changes: base })).toMatchObject({
        messages: base.length + 2,
        elements: 2,
      })
      expect(await under.client.run({ ...table, changes: [] })).toMatchObject({ bytes: 0, messages: 0, elements: 0 })
    })
  })

  describe('reading', () => {
    test('read() gives back what was written', async () => {
      using under = open()
      const { client } = under
      const { family, name } = servicesTable
      await client.run({ family, table: name, changes: diffTable(undefined, servicesTable) })
      const read = await client.read(family, name)
      expect(read?.comment).toBe(servicesTable.comment)
      expect(read?.sets).toEqual(servicesTable.sets)
      expect(read?.elements).toEqual(servicesTable.elements)
      const own = read?.chains.filter((chain) => !chain.name.startsWith('layout-')) ?? []
      expect(own.map(({ name, hook }) => ({ name, hook }))).toEqual(
        servicesTable.chains.map(({ name, hook }) => ({ name, hook })),
      )
      for (const chain of servicesTable.chains) expect(read?.ruleCounts.get(chain.name)).toBe(chain.rules.length)
    })

    test('read() gives undefined for a table that is not there', async () => {
      using under = open()
      expect(await under.client.read('inet', 'contract')).toBeUndefined()
    })

    test('listTables() names families and tables', async () => {
      using under = open()
      await under.client.run({ ...table, changes: [{ op: 'add-table' }] })
      await under.client.run({ ...table, family: 'ip6', changes: [{ op: 'add-table' }] })
      expect(await under.client.listTables()).toEqual([
        { family: 'inet', name: 'contract' },
        { family: 'ip6', name: 'contract' },
      ])
    })
  })

  test('listChains() lists the chains of all tables, and which of them refuse everything', async () => {
    using under = open()
    const hook = { type: 'filter', hook: 'forward', priority: -5 } as const
    const add = (name: string, ...rules: readonly Rule[]): readonly Change[] => [
      { op: 'add-chain', chain: { name, hook } },
      ...rules.map((each): Change => ({ op: 'add-rule', chain: name, rule: each })),
    ]
    await under.client.run({
      ...table,
      changes: [
        { op: 'add-table' },
        { op: 'add-chain', chain: { name: 'plain' } },
        ...add('open', rule({ kind: 'counter' }, { kind: 'accept' })),
        ...add('drops', rule({ kind: 'jump', chain: 'plain' }), rule({ kind: 'counter' }, { kind: 'drop' })),
      ],
    })
    await under.client.run({
      ...table,
      family: 'ip6',
      changes: [
        { op: 'add-table' },
        ...add('sometimes', rule({ kind: 'match', left: 'iifname', op: '==', value: { name: 'x' } }, { kind: 'drop' })),
        ...add('rejects', rule({ kind: 'reject' })),
      ],
    })
    const base = { hook, policy: 'accept', refusesAll: undefined } as const
    expect(await under.client.listChains()).toEqual([
      { ...table, name: 'plain', hook: undefined, policy: undefined, refusesAll: undefined },
      { ...table, name: 'open', ...base },
      { ...table, name: 'drops', ...base, refusesAll: 'drop' },
      { ...table, family: 'ip6', name: 'sometimes', ...base },
      { ...table, family: 'ip6', name: 'rejects', ...base, refusesAll: 'reject' },
    ])
  })

  describe('diffTable()', () => {
    const { family, name } = servicesTable
    const fewer: TableState = {
      ...servicesTable,
      chains: servicesTable.chains.filter((chain) => chain.name === 'refuse'),
      sets: [
        ...servicesTable.sets.slice(0, 1),
        { name: 'hairpin-4', key: ['ip daddr'] },
        ...servicesTable.sets.slice(6),
      ],
      elements: new Map([
        [
          'local-pods-4',
          elements([registerBytes({ ip: parseIp('10.9.0.0') }), registerBytes({ ip: parseIp('10.9.0.7') })]),
        ],
        ['hairpin-4', elements([registerBytes(ip(1)), ''])],
        ['classes', elements([registerBytes(number(1)), 'goto refuse'])],
      ]),
    }
    test.each([
      { name: 'a table to less of it, with a set of another type', from: servicesTable, to: fewer },
      { name: 'a small table to a larger one', from: fewer, to: servicesTable },
      { name: 'a table to itself', from: servicesTable, to: servicesTable },
      { name: 'nothing to a table', from: undefined, to: servicesTable },
    ])('diffTable() brings $name', async ({ from, to }) => {
      using under = open()
      const { client } = under
      if (from) await client.run({ family, table: name, changes: diffTable(undefined, from) })
      await client.run({ family, table: name, changes: diffTable(await client.read(family, name), to) })
      const read = await client.read(family, name)
      expect(read?.elements).toEqual(to.elements)
      expect(diffTable(read, to)).toEqual([])
      expect(diffTable(read, to, { rewriteRules: true })).not.toEqual([])
      await client.run({ family, table: name, changes: diffTable(read, to, { rewriteRules: true }) })
      expect(diffTable(await client.read(family, name), to)).toEqual([])
    })
  })

  describe('somebody else', () => {
    foreign(`watch() tells of a change by another process, not of our own${reason}`, async () => {
      using under = open()
      const { client } = under
      const seen: ForeignChange[] = []
      client.watch({ onChange: (change) => seen.push(change), onLost: () => {} })
      await client.run({ ...table, changes: base })
      under.changeAsSomebodyElse?.({ ...table, changes: [{ op: 'flush-chain', chain: 'plain' }] })
      await expect.poll(() => seen.length).toBeGreaterThan(0)
      expect(seen).toEqual([{ family: 'inet', table: 'contract', process: { pid: expect.any(Number), name: 'nft' } }])
    })

    foreign(`run() refuses to change a table that another process changed since it was read${reason}`, async () => {
      using under = open()
      const { client } = under
      await client.run({ ...table, changes: base })
      await client.read('inet', 'contract')
      under.changeAsSomebodyElse?.({ ...table, changes: [{ op: 'flush-chain', chain: 'plain' }] })
      const changes: Change[] = [{ op: 'add-chain', chain: { name: 'late' } }]
      const error: unknown = await client.run({ ...table, changes }).catch((error: unknown) => error)
      expect(isTableChanged(error)).toBe(true)
      expect(String(error)).toContain('table inet contract was changed by nft (pid ')
      const read = await client.read('inet', 'contract')
      expect(read?.ruleCounts.get('plain')).toBe(0)
      await client.run({ ...table, changes })
    })

    foreign(`quietly() lets a program of ours change other tables unheard, and nobody else${reason}`, async () => {
      using under = open()
      const { client } = under
      const heard: string[] = []
      client.watch({ onChange: (change) => heard.push(change.table), onLost: () => heard.push('lost') })
      await client.run({ ...table, changes: base })
      const addTables = async (...tables: string[]): Promise<string> => {
        for (const name of tables) {
          under.changeAsSomebodyElse?.({ family: 'ip', table: name, changes: [{ op: 'add-table' }] })
        }
        return await Promise.resolve('done')
      }
      expect(
        await client.quietly(
          () => addTables('a', 'b'),
          () => 2,
        ),
      ).toBe('done')
      expect(heard).toEqual([])
      // Ours is as it was, and known to be.
      await client.run({ ...table, changes: [{ op: 'add-chain', chain: { name: 'late' } }] })
      await addTables('c')
      await expect.poll(() => heard).toEqual(['c'])
      await client.quietly(
        () => addTables('d', 'e'),
        () => 1,
      )
      expect(heard).toEqual(['c', 'lost'])
      const failing = async (): Promise<never> => {
        await addTables('f')
        throw new Error('half done')
      }
      await expect(client.quietly(failing, () => 1)).rejects.toThrow('half done')
      expect(heard).toEqual(['c', 'lost', 'lost'])
    })

    foreign(`run() goes on when another process changed another table${reason}`, async () => {
      using under = open()
      const { client } = under
      await client.run({ ...table, changes: base })
      await client.read('inet', 'contract')
      for (const other of ['a', 'b']) {
        under.changeAsSomebodyElse?.({ family: 'ip', table: other, changes: [{ op: 'add-table' }] })
      }
      await client.run({ ...table, changes: [{ op: 'add-chain', chain: { name: 'late' } }] })
      expect((await client.read('inet', 'contract'))?.ruleCounts.has('late')).toBe(true)
    })
  })
}

/** The message without the kernel's own words, which differ between versions. */
function plain(error: NftablesError): string {
  return error.message.replaceAll(/ \(kernel: [^)]*\)/g, '')
}
