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
  for (const { table, lines } of transactions(changes, variant)) {
    piece += `*${table}\n`
    for (const some of lines) {
      piece += some
      if (piece.length < pieceLength) continue
      yield piece
      piece = ''
    }
    piece += 'COMMIT\n'
  }
  if (piece !== '') yield piece
}

interface RestoreTransaction {
  readonly table: TableName
  readonly lines: Iterable<string>
}

/** One for each table, and with the nft tools one for each block before it. */
function* transactions(changes: readonly TableChanges[], variant: Variant): Generator<RestoreTransaction> {
  for (const change of changes) {
    const { table, blocks = [] } = change
    if (variant === 'nft') {
      for (const block of blocks) yield { table, lines: chainLines(block) }
      if (!isEmptyBesideBlocks(change)) yield { table, lines: restoreLines(change) }
    } else if (!isEmptyChange(change)) {
      yield { table, lines: blocksThen(blocks, restoreLines(change)) }
    }
  }
}

function* blocksThen(blocks: Iterable<WantedChains>, rest: Iterable<string>): Generator<string> {
  for (const block of blocks) yield* chainLines(block)
  yield* rest
}

/** How many transactions a list of changes is. */
export function countTransactions(changes: readonly TableChanges[], variant: Variant): number {
  return [...transactions(changes, variant)].length
}

/** What a pipe holds. */
const pieceLength = 65_536

/** Whether nothing is to be done. */
export function isEmptyChange(change: TableChanges): boolean {
  return !change.blocks && isEmptyBesideBlocks(change)
}

function isEmptyBesideBlocks({ chains, prepend, append, remove, deleteChains }: TableChanges): boolean {
  return chains.size === 0 && ![prepend, append, remove, deleteChains].some((list) => list && list.length > 0)
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
 * Commands of one table, but for blocks. Chains come first, so that rules may name them in any order, and by name, because the nft
 * tools keep a sorted list: 1,000 Services take them three times as long otherwise.
 */
function* restoreLines(changes: TableChanges): Generator<string> {
  const { chains, prepend = [], append = [], remove = [], deleteChains = [] } = changes
  const names = [...chains.keys()].sort()
  // Named like this, a chain that exists is emptied; it must be before it can be removed.
  yield* declarations(deleteChains.length === 0 ? names : [...names, ...deleteChains].sort())
  for (const { chain, rule } of remove) yield `-D ${chain} ${rule}\n`
  yield* additions(chains, names)
  for (const { chain, rule } of prepend.toReversed()) yield `-I ${chain} 1 ${rule}\n`
  for (const { chain, rule } of append) yield `-A ${chain} ${rule}\n`
  for (const name of deleteChains) yield `-X ${name}\n`
}

function* chainLines(chains: WantedChains): Generator<string> {
  const names = [...chains.keys()].sort()
  yield* declarations(names)
  yield* additions(chains, names)
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
