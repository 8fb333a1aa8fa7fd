import type { Chain, Elements, NftFamily, NftSet, Rule } from './objects.ts'

/** One change of a table. Changes of a transaction are applied in order, all or none. */
export type Change =
  /** Creates the table; one that exists is kept. */
  | { readonly op: 'add-table'; readonly comment?: string }
  /** Deletes the table and all in it. */
  | { readonly op: 'delete-table' }
  /** Creates the chain without rules; one that exists is kept. */
  | { readonly op: 'add-chain'; readonly chain: Omit<Chain, 'rules'> }
  | { readonly op: 'delete-chain'; readonly chain: string }
  /** Deletes the chain's rules. */
  | { readonly op: 'flush-chain'; readonly chain: string }
  /** Appends a rule. */
  | { readonly op: 'add-rule'; readonly chain: string; readonly rule: Rule }
  | { readonly op: 'add-set'; readonly set: NftSet }
  | { readonly op: 'delete-set'; readonly set: string }
  /** Adds elements; a key that exists must have the same data, or the kernel refuses (EEXIST): delete it first. */
  | { readonly op: 'add-elements'; readonly set: NftSet; readonly elements: Elements }
  /** Deletes elements by key; one that is not there is refused (ENOENT). */
  | { readonly op: 'delete-elements'; readonly set: NftSet; readonly elements: Elements }

/** Changes of one table, applied as one nf_tables transaction. */
export interface Transaction {
  readonly family: NftFamily
  readonly table: string
  readonly changes: readonly Change[]
}

/** What a transaction cost. */
export interface TransactionResult {
  readonly bytes: number
  readonly messages: number
  /** Set and map elements added or deleted. */
  readonly elements: number
  /** Milliseconds that the kernel worked on it. */
  readonly kernelMs: number
}
