/** The tables that hold rules of ours or of kubelet. */
export type TableName = 'filter' | 'nat' | 'mangle' | 'raw'

/** Rules of a chain, in order, as iptables-save prints them behind `-A CHAIN `. An array, or what makes them when they are read. */
export interface ChainRules extends Iterable<string> {
  readonly length: number
}

/** Whether two chains hold the same rules in the same order. */
export function sameRules(a: ChainRules, b: ChainRules): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  const others = b[Symbol.iterator]()
  for (const rule of a) if (rule !== others.next().value) return false
  return true
}

/** The chains that one table holds, by name. */
export type TableRules = ReadonlyMap<string, readonly string[]>

/** The chains that one table is to hold, by name. */
export type WantedChains = ReadonlyMap<string, ChainRules>

/** What iptables-save shows of one address family. Tables that were never used are not there. */
export type Ruleset = ReadonlyMap<TableName, TableRules>

/** Changes of one table; but for blocks, with the nft tools, iptables-restore applies them all or not at all. */
export interface TableChanges {
  readonly table: TableName
  /** Chains that are made, or emptied when they exist, and then filled. */
  readonly chains: WantedChains
  /**
   * Chains that do not exist yet, and that nobody is led to, in blocks that are not empty. They come before all else; their rules may name
   * chains that exist, or are of their own block or an earlier one. Both kinds of tools take blocks faster than all chains at once, and begin
   * with the first while the next is made. For the nft kind each block is a transaction of its own.
   */
  readonly blocks?: Iterable<WantedChains>
  /** Rules to put first in a chain that belongs to others, the first of them first. */
  readonly prepend?: readonly { readonly chain: string; readonly rule: string }[]
  /** Rules to put last in a chain that belongs to others. */
  readonly append?: readonly { readonly chain: string; readonly rule: string }[]
  /** Rules of ours to take out of a chain that belongs to others. */
  readonly remove?: readonly { readonly chain: string; readonly rule: string }[]
  /** Chains that are emptied and removed, after all else. */
  readonly deleteChains?: readonly string[]
}

/** XT_EXTENSION_MAXNAMELEN - 1: the longest name that a chain may have. */
export const maxChainName = 28
