import type { IpFamily } from '../net/ip-address.ts'
import type { Ruleset, TableChanges, TableName } from './objects.ts'

/** Which kernel part the tools work with: the old tables, or nf_tables. */
export type Variant = 'legacy' | 'nft'

/** What a restore cost. */
export interface RestoreResult {
  /** Of the text that was handed over. */
  readonly bytes: number
  /** How many times something was committed. */
  readonly transactions: number
  /** Milliseconds that iptables-restore worked, from the first rule that it was given, waiting for the lock included. */
  readonly ms: number
}

export interface RestoreOptions {
  readonly signal?: AbortSignal
  /** Called when all is with the kernel or the tool, which still works. Not when it fails before. */
  readonly onHandedOver?: () => void
}

/** Applies changes to the tables of one family. */
export interface Restorer {
  readonly family: IpFamily
  /**
   * Applies changes: one `iptables-restore --noflush --counters -w`. Nothing to do costs nothing. Throws IptablesError. Where
   * `changes` are yet to come, the tool starts meanwhile; it takes the lock with the first rule.
   */
  restore(
    changes: readonly TableChanges[] | Promise<readonly TableChanges[]>,
    options?: RestoreOptions,
  ): Promise<RestoreResult>
}

/** A tool that was started ahead and waits for changes, without the lock, for one restore. Disposing it before ends it. */
export interface StartedRestore extends Restorer, Disposable {}

/** The rules of one address family in one network namespace: the kernel's (`open-client.ts`) or the fake's (`fake-iptables.ts`). */
export interface IptablesClient extends Restorer {
  readonly variant: Variant
  /** Of the tools: `1.8.9`. */
  readonly version: string
  /** Reads whole tables; by default all that are in use. Throws IptablesError. */
  save(tables?: readonly TableName[]): Promise<Ruleset>
  /** Starts the tool ahead of a restore that is to be quick. If it ends before its time, the restore starts another. */
  startRestore(): StartedRestore
  /**
   * A number that nearly always changes when somebody changes a table, found out without reading it; undefined where
   * there is none (nf_tables has notifications instead).
   */
  mark(table: TableName): string | undefined
}
