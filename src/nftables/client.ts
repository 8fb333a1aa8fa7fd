import type { NftFamily, TableState } from './objects.ts'
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
  /** Calls `onChange` for each table that another process changed, and `onLost` when notifications were dropped. */
  watch(listener: { onChange(change: ForeignChange): void; onLost(): void }): void
}

export interface ReadTable extends TableState {
  readonly ruleCounts: ReadonlyMap<string, number>
}
