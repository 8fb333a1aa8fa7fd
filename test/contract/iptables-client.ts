import { describe, expect, test } from 'vitest'
import type { IptablesClient } from '../../src/iptables/client.ts'
import { diffTable, removalOf } from '../../src/iptables/diff.ts'
import { IptablesError } from '../../src/iptables/iptables-error.ts'
import type { TableChanges } from '../../src/iptables/objects.ts'

/** A client under test, with tables that nobody has used. */
export interface IptablesClientUnderTest extends Disposable {
  readonly client: IptablesClient
}

const rules = (client: IptablesClient, count: number): string[] =>
  Array.from({ length: count }, (_, i) => {
    const address = client.family === 4 ? `192.0.2.${i + 1}/32` : `2001:db8::${(i + 1).toString(16)}/128`
    return `-d ${address} -p tcp -m comment --comment "ns/svc:p${i} cluster IP" -m tcp --dport 80 -j TARGET`
  })

const nat = (client: IptablesClient, count = 2): TableChanges => ({
  table: 'nat',
  chains: new Map([
    ['DISPATCH', rules(client, count)],
    ['TARGET', []],
  ]),
  prepend: [
    { chain: 'OUTPUT', rule: '-m comment --comment "first of two" -j DISPATCH' },
    { chain: 'OUTPUT', rule: '-m comment --comment second -j TARGET' },
  ],
})

const refusals: readonly { readonly name: string; readonly change: (client: IptablesClient) => TableChanges }[] = [
  {
    name: 'a rule that leads nowhere',
    change: () => ({ table: 'nat', chains: new Map([['A', ['-j NOWHERE']]]) }),
  },
  {
    name: 'to remove a chain that a rule leads to',
    change: () => ({ table: 'nat', chains: new Map(), deleteChains: ['TARGET'] }),
  },
  {
    name: 'to take out a rule that is not there',
    change: () => ({ table: 'nat', chains: new Map(), remove: [{ chain: 'OUTPUT', rule: '-j ACCEPT' }] }),
  },
  {
    name: 'a chain whose name is longer than 28 characters',
    change: () => ({ table: 'nat', chains: new Map([['KUBE-SEP-ABCDEFGHIJKLMNOPQRST', []]]) }),
  },
]

/** What every {@link IptablesClient} does: the same on the fake and on the kernel with either kind of tools. */
export function testIptablesClient(open: () => Promise<IptablesClientUnderTest>): void {
  describe('IptablesClient', () => {
    test('takes changes that are yet to come, and says when it has them', async () => {
      using under = await open()
      const { client } = under
      const { promise, resolve } = Promise.withResolvers<readonly TableChanges[]>()
      const happened: string[] = []
      const restored = client.restore(promise, { onHandedOver: () => void happened.push('handed over') })
      setImmediate(() => {
        happened.push('made')
        resolve([nat(client)])
      })
      expect((await restored).bytes).toBeGreaterThan(100)
      expect(happened).toEqual(['made', 'handed over'])
      expect((await client.save(['nat'])).get('nat')?.get('DISPATCH')).toEqual(rules(client, 2))
      await client.restore(Promise.resolve([]))
      const failing = new Error('cannot be made')
      await expect(client.restore(Promise.reject(failing))).rejects.toBe(failing)
      expect((await client.save(['nat'])).get('nat')?.get('DISPATCH')).toEqual(rules(client, 2))
    })

    test('a tool that was started ahead waits without the lock, and writes what it is given once', async () => {
      using under = await open()
      const { client } = under
      using started = client.startRestore()
      await client.restore([nat(client, 1)])
      const failing = new Error('cannot be made')
      using unlucky = client.startRestore()
      await expect(unlucky.restore(Promise.reject(failing))).rejects.toBe(failing)
      client.startRestore()[Symbol.dispose]()
      expect((await client.save(['nat'])).get('nat')?.get('DISPATCH')).toEqual(rules(client, 1))
      const wanted = { table: 'nat', chains: new Map([['DISPATCH', rules(client, 3)]]) } as const
      const { bytes, transactions } = await started.restore([wanted])
      expect(bytes).toBeGreaterThan(100)
      expect(transactions).toBe(1)
      await expect(started.restore([wanted])).rejects.toThrow('already')
      expect((await client.save(['nat'])).get('nat')?.get('DISPATCH')).toEqual(rules(client, 3))
    })

    test('shows what it was given, text for text, so that a second diff is empty', async () => {
      using under = await open()
      const { client } = under
      const change = nat(client)
      await client.restore([change])
      const saved = await client.save(['nat'])
      expect(saved.get('nat')?.get('DISPATCH')).toEqual(rules(client, 2))
      expect(saved.get('nat')?.get('OUTPUT')).toEqual(change.prepend?.map(({ rule }) => rule))
      const wanted = { table: 'nat', chains: change.chains, jumps: change.prepend ?? [], owns: () => false } as const
      const again = diffTable(saved.get('nat'), wanted)
      expect(again).toEqual({ table: 'nat', chains: new Map(), prepend: [], deleteChains: [] })
      expect(await client.restore([again])).toEqual({ bytes: 0, transactions: 0, ms: 0 })
    })

    test('makes blocks of chains before all else, in an order in which rules find what they name', async () => {
      using under = await open()
      const { client } = under
      await client.restore([{ table: 'nat', chains: new Map([['TARGET', ['-j RETURN']]]) }])
      const blocks = [
        new Map([
          ['Z', ['-j Y', '-j TARGET']],
          ['Y', ['-j RETURN']],
        ]),
        new Map([['A', ['-j Z']]]),
      ]
      const chains = new Map([
        ['DISPATCH', ['-j A', '-j Z']],
        ['TARGET', ['-j Y']],
      ])
      const { transactions } = await client.restore([{ table: 'nat', chains, blocks }])
      expect(transactions).toBe(client.variant === 'nft' ? 3 : 1)
      const table = (await client.save(['nat'])).get('nat')
      for (const [name, made] of [...chains, ...blocks.flatMap((block) => [...block])])
        expect(table?.get(name), name).toEqual(made)
    })

    test('replaces the chains of a restore and leaves the others', async () => {
      using under = await open()
      const { client } = under
      await client.restore([nat(client, 3)])
      await client.restore([{ table: 'nat', chains: new Map([['TARGET', ['-j RETURN']]]) }])
      await client.restore([{ table: 'nat', chains: new Map([['DISPATCH', rules(client, 1)]]) }])
      const table = (await client.save(['nat'])).get('nat')
      expect(table?.get('DISPATCH')).toEqual(rules(client, 1))
      expect(table?.get('TARGET')).toEqual(['-j RETURN'])
    })

    test('removes chains with the rules that lead to them', async () => {
      using under = await open()
      const { client } = under
      await client.restore([nat(client)])
      const before = (await client.save(['nat'])).get('nat') ?? new Map()
      await client.restore([removalOf('nat', before, (chain) => chain === 'DISPATCH' || chain === 'TARGET')])
      const after = (await client.save(['nat'])).get('nat')
      expect([...(after?.keys() ?? [])].sort()).toEqual(['INPUT', 'OUTPUT', 'POSTROUTING', 'PREROUTING'])
      expect(after?.get('OUTPUT')).toEqual([])
    })

    test.each(refusals)('refuses $name, and changes nothing', async ({ change }) => {
      using under = await open()
      const { client } = under
      await client.restore([nat(client)])
      const before = await client.save(['nat'])
      await expect(client.restore([change(client)])).rejects.toThrow(IptablesError)
      expect(await client.save(['nat'])).toEqual(before)
    })

    test('has another mark after a change, where it has marks', async () => {
      using under = await open()
      const { client } = under
      await client.restore([nat(client)])
      const before = client.mark('nat')
      expect(client.mark('nat')).toBe(before)
      await client.restore([{ table: 'nat', chains: new Map([['TARGET', ['-j RETURN']]]) }])
      if (client.variant === 'legacy') expect(client.mark('nat')).not.toBe(before)
      else expect(before).toBeUndefined()
    })
  })
}
