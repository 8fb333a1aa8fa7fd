import type { Variant } from './client.ts'
import type { Ruleset, TableChanges, TableName, WantedChains } from './objects.ts'

/** Reads what iptables-save prints. Counters and policies are left out. */
export function parseSave(text: string): Ruleset {
  const tables = new Map<TableName, Map<string, string[]>>()
  let chains: Map<string, string[]> | undefined
  for (const line of linesOf(text)) {
    if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3)
      const chain = end < 0 ? line.slice(3) : line.slice(3, end)
      chains?.get(chain)?.push(end < 0 ? '' : line.slice(end + 1))
    } else if (line.startsWith(':')) {
      chains?.set(line.slice(1, line.indexOf(' ')), [])
    } else if (line.startsWith('*')) {
      const table = line.slice(1) as TableName
      chains = tables.get(table) ?? new Map<string, string[]>()
      tables.set(table, chains)
    }
  }
  return tables
}

function* linesOf(text: string): Generator<string> {
  let start = 0
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
    yield text.slice(start, end)
    start = end + 1
  }
}

/** What `iptables-restore --noflush` takes. Empty when there is nothing to do. */
export function formatRestore(changes: readonly TableChanges[], variant: Variant): string {
  return [...restorePieces(changes, variant)].join('')
}

/** {@link formatRestore} in pieces of some 64 KiB, each made when it is asked for. */
export function* restorePieces(changes: readonly TableChanges[], variant: Variant): Generator<string> {
  let piece = ''
  for (const change of changes) {
    if (isEmptyChange(change)) continue
    piece += `*${change.table}\n`
    for (const lines of restoreLines(change, variant)) {
      piece += lines
      if (piece.length < pieceLength) continue
      yield piece
      piece = ''
    }
    piece += 'COMMIT\n'
  }
  if (piece !== '') yield piece
}

/** What a pipe holds. */
const pieceLength = 65_536

/** Whether nothing is to be done. */
export function isEmptyChange({ chains, blocks, prepend, append, remove, deleteChains }: TableChanges): boolean {
  return (
    chains.size === 0 && !blocks && ![prepend, append, remove, deleteChains].some((list) => list && list.length > 0)
  )
}

/** How many transactions a list of changes is: one for each table, and with the nft tools one for each block. */
export function countTransactions(changes: readonly TableChanges[], variant: Variant): number {
  const ofTables = changes.filter((change) => !isEmptyChange(change))
  const blocks = variant === 'nft' ? ofTables.flatMap((change) => [...(change.blocks ?? [])]) : []
  return ofTables.length + blocks.length
}

/** Rules that a list of changes adds. */
export function countRules(changes: readonly TableChanges[]): number {
  let count = 0
  for (const { chains, blocks = [], prepend, append } of changes) {
    count += (prepend?.length ?? 0) + (append?.length ?? 0)
    for (const block of [chains, ...blocks]) for (const rules of block.values()) count += rules.length
  }
  return count
}

/**
 * Commands of one table. Chains come first, so that rules may name them in any order, and by name, because the nft tools keep
 * a sorted list: 1,000 Services take them three times as long otherwise.
 */
function* restoreLines(changes: TableChanges, variant: Variant): Generator<string> {
  const { chains, blocks = [], prepend = [], append = [], remove = [], deleteChains = [] } = changes
  const names = [...chains.keys()].sort()
  // Named like this, a chain that exists is emptied; it must be before it can be removed.
  const mentioned = deleteChains.length === 0 ? names : [...names, ...deleteChains].sort()
  yield* declarations(mentioned)
  for (const { chain, rule } of remove) yield `-D ${chain} ${rule}\n`
  for (const block of blocks) {
    const own = [...block.keys()].sort()
    yield* declarations(own)
    yield* additions(block, own)
    if (variant === 'nft') yield `COMMIT\n*${changes.table}\n`
  }
  yield* additions(chains, names)
  for (const { chain, rule } of prepend.toReversed()) yield `-I ${chain} 1 ${rule}\n`
  for (const { chain, rule } of append) yield `-A ${chain} ${rule}\n`
  for (const name of deleteChains) yield `-X ${name}\n`
}

function* declarations(names: readonly string[]): Generator<string> {
  for (const name of names) yield `:${name} - [0:0]\n`
}

function* additions(chains: WantedChains, names: readonly string[]): Generator<string> {
  for (const name of names) {
    const start = `-A ${name} `
    for (const rule of chains.get(name) ?? []) yield start + rule + '\n'
  }
}
