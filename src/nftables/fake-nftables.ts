import type { ForeignChange, ListedChain, NftClient, ReadTable } from './client.ts'
import { encodeTransaction } from './encode-transaction.ts'
import { FakeTable } from './fake-table.ts'
import { refusal, refusedError, tableChangedError, type RefusedChange } from './nftables-error.ts'
import type { NftFamily } from './objects.ts'
import type { Transaction, TransactionResult } from './transaction.ts'

/** Who a simulated change is by. */
export interface FakeProcess {
  readonly pid: number
  readonly name: string
}

/**
 * nf_tables in memory: refuses what the kernel refuses, with the kernel's errors. The contract test runs on this and on a
 * kernel. Beyond {@link NftClient} it lets a test be somebody else, and look at whole tables with their rules.
 */
export class FakeNftables implements NftClient {
  #tables = new Map<string, FakeTable>()
  #listeners: { onChange(change: ForeignChange): void; onLost(): void }[] = []
  /** Tables that were changed by somebody else since they were read. */
  readonly #stale = new Map<string, FakeProcess>()
  /** Changes by others while nobody listens; undefined: we listen. */
  #unheard: number | undefined
  /** All transactions that were applied, oldest first. */
  readonly transactions: Transaction[] = []
  /** Chains that other programs made and that our own objects cannot say, like those with a policy of drop. */
  foreignChains: readonly ListedChain[] = []

  async read(family: NftFamily, table: string): Promise<ReadTable | undefined> {
    const key = keyOf(family, table)
    this.#stale.delete(key)
    return await Promise.resolve(this.#tables.get(key)?.read())
  }

  async run(transaction: Transaction): Promise<TransactionResult> {
    const { changes } = transaction
    if (changes.length === 0) return await Promise.resolve({ bytes: 0, messages: 0, elements: 0, kernelMs: 0 })
    // Refuses what cannot be said to the kernel: wrong lengths, impossible matches.
    const { datagram, messages, elements } = encodeTransaction(transaction, { firstSeq: 1 })
    const key = keyOf(transaction.family, transaction.table)
    const by = this.#stale.get(key)
    if (by && changes[0]?.op !== 'delete-table') throw tableChangedError(transaction, `${by.name} (pid ${by.pid})`)
    this.#apply(transaction)
    this.#stale.delete(key)
    this.transactions.push(transaction)
    return { bytes: datagram.length, messages, elements, kernelMs: 0 }
  }

  async listTables(): Promise<readonly { readonly family: NftFamily; readonly name: string }[]> {
    return await Promise.resolve([...this.#tables.values()].map(({ family, name }) => ({ family, name })))
  }

  async listChains(): Promise<readonly ListedChain[]> {
    const tables = [...this.#tables.values()].flatMap((table) => table.listChains())
    return await Promise.resolve([...tables, ...this.foreignChains])
  }

  async quietly<T>(work: () => Promise<T>, commits: (result: T) => number): Promise<T> {
    this.#unheard = 0
    let expected: number | undefined
    try {
      const result = await work()
      expected = commits(result)
      return result
    } finally {
      const heard = this.#unheard
      this.#unheard = undefined
      if (heard !== 0 && heard !== expected) this.simulateLoss()
    }
  }

  watch(listener: { onChange(change: ForeignChange): void; onLost(): void }): void {
    this.#listeners.push(listener)
  }

  /** Applies a transaction as another process would: listeners hear of it, and who read the table before has to read again. */
  simulateForeignChange(transaction: Transaction, process: FakeProcess = { pid: 4242, name: 'nft' }): void {
    this.#apply(transaction)
    const { family, table } = transaction
    this.#stale.set(keyOf(family, table), process)
    if (this.#unheard !== undefined) {
      this.#unheard++
      return
    }
    for (const listener of this.#listeners) listener.onChange({ family, table, process })
  }

  /** As if the kernel had dropped notifications. */
  simulateLoss(): void {
    for (const listener of this.#listeners) listener.onLost()
  }

  [Symbol.dispose](): void {
    this.#listeners = []
  }

  /** Applies all changes or none. Throws NftablesError. */
  #apply(transaction: Transaction): void {
    const key = keyOf(transaction.family, transaction.table)
    // The table is copied, as cheaply as it can be: elements are only copied when they change.
    let table = this.#tables.get(key)?.fork()
    const refused: RefusedChange[] = []
    for (const change of transaction.changes) {
      const problem = ((): RefusedChange | undefined => {
        if (change.op === 'add-table') {
          table ??= new FakeTable(transaction.family, transaction.table, change.comment)
          return undefined
        }
        if (!table) return refusal(change, ENOENT)
        if (change.op === 'delete-table') {
          table = undefined
          return undefined
        }
        return table.apply(change)
      })()
      if (problem) refused.push(problem)
    }
    if (refused.length > 0) throw refusedError(transaction, refused)
    if (table) this.#tables.set(key, table)
    else this.#tables.delete(key)
  }
}

/** An empty nf_tables in memory. */
export function fakeNftables(): FakeNftables {
  return new FakeNftables()
}

const ENOENT = 2

function keyOf(family: NftFamily, table: string): string {
  return `${family} ${table}`
}
