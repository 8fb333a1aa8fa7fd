import {
  type ChainRules,
  sameRules,
  type TableChanges,
  type TableName,
  type TableRules,
  type WantedChains,
} from './objects.ts'

/** What a table of others must hold of ours. */
export interface WantedTable {
  readonly table: TableName
  /** Our chains, whole. */
  readonly chains: WantedChains
  /** Rules that chains of others must have, anywhere. Missing ones are put first, in this order. */
  readonly jumps: readonly { readonly chain: string; readonly rule: string }[]
  /** The same, but missing ones are put last. */
  readonly lastJumps?: readonly { readonly chain: string; readonly rule: string }[]
  /** Which chains are ours: those of them that are not wanted are removed. */
  readonly owns: (chain: string) => boolean
}

/** The changes that lead from what iptables-save showed (undefined: nothing) to what is wanted. Pure. */
export function diffTable(current: TableRules | undefined, wanted: WantedTable): TableChanges {
  const chains = changedChains(current, wanted.chains)
  const isMissing = ({ chain, rule }: { chain: string; rule: string }): boolean => !current?.get(chain)?.includes(rule)
  const prepend = wanted.jumps.filter(isMissing)
  const append = wanted.lastJumps?.filter(isMissing)
  const gone = [...(current?.keys() ?? [])].filter((name) => wanted.owns(name) && !wanted.chains.has(name))
  return { table: wanted.table, chains, prepend, ...(append && { append }), deleteChains: gone }
}

function changedChains(current: TableRules | undefined, wanted: WantedChains): WantedChains {
  // A first time has nothing to compare, and may have very many chains.
  if (![...(current?.keys() ?? [])].some((name) => wanted.has(name))) return wanted
  const chains = new Map<string, ChainRules>()
  for (const [name, rules] of wanted) {
    const there = current?.get(name)
    if (!there || !sameRules(there, rules)) chains.set(name, rules)
  }
  return chains
}

/**
 * Removes all chains that `owns` names, and every rule of other chains that leads to one of them. Pure.
 */
export function removalOf(table: TableName, current: TableRules, owns: (chain: string) => boolean): TableChanges {
  const deleteChains = [...current.keys()].filter(owns)
  const ours = new Set(deleteChains)
  const remove = [...current].flatMap(([chain, rules]) =>
    ours.has(chain) ? [] : rules.filter((rule) => leadsTo(rule, ours)).map((rule) => ({ chain, rule })),
  )
  return { table, chains: new Map(), remove, deleteChains }
}

function leadsTo(rule: string, chains: ReadonlySet<string>): boolean {
  const target = / -[jg] (\S+)$/.exec(` ${rule}`)?.[1]
  return target !== undefined && chains.has(target)
}
