import type { ChainHook, NftFamily, TableState } from './objects.ts'
import type { Transaction, TransactionResult } from './transaction.ts'

/** A change of a table that somebody else made (NFNLGRP_NFTABLES). */
export interface ForeignChange {
  readonly family: NftFamily
  readonly table: string
  /** What the kernel says of the process that did it. */
  readonly process: { readonly pid: number; readonly name: string } | undefined
}

/** nf_tables of one network namespace: the kernel's (`open-client.ts`) or the fake (`fake-nftables.ts`). */
export interface NftClient extends Disposable {
  /**
   * Reads a whole table; undefined when there is none. Rules come back as a count only: `rules` of the chains hold
   * nothing that could be compared (see README), `ruleCounts` says how many there are.
   */
  read(family: NftFamily, table: string): Promise<ReadTable | undefined>
  /** Applies a transaction: all or nothing. Throws NftablesError, which names the change that was refused. */
  run(transaction: Transaction): Promise<TransactionResult>
  /** All tables of the namespace. */
  listTables(): Promise<readonly { readonly family: NftFamily; readonly name: string }[]>
  /** All chains of all tables, whoever made them, with what decides about packets that no rule of a base chain matched. */
  listChains(): Promise<readonly ListedChain[]>
  /**
   * Runs `work`, in which a program that we started changes tables which are none of ours, and does not listen meanwhile:
   * notifications of thousands of rules cost more than the rules. Listeners hear nothing of it, but `onLost` where there was another
   * number of transactions than `commits` says, since then somebody else was at it too, and where it failed after some.
   */
  quietly<T>(work: () => Promise<T>, commits: (result: T) => number): Promise<T>
  /** Calls `onChange` for each table that another process changed, and `onLost` when notifications were dropped. */
  watch(listener: { onChange(change: ForeignChange): void; onLost(): void }): void
}

export interface ReadTable extends TableState {
  readonly ruleCounts: ReadonlyMap<string, number>
}

/** A chain of any table: where it stands in the kernel, not its rules. */
export interface ListedChain {
  readonly family: NftFamily
  readonly table: string
  readonly name: string
  /** Undefined for a chain that is only jumped to, and for base chains of types and hooks that {@link ChainHook} does not name. */
  readonly hook: ChainHook | undefined
  /** What happens at the end of a base chain. */
  readonly policy: 'accept' | 'drop' | undefined
  /** A rule without any condition that ends every packet's way, if there is one: firewalld's last rule of forward, for example. */
  readonly refusesAll: 'drop' | 'reject' | undefined
}
