import { createHash } from 'node:crypto'
import { formatTable } from './format.ts'
import type { Chain, TableState } from './objects.ts'

const pattern = /^layout-[0-9a-f]{8}$/

/**
 * Adds an empty chain to the table whose name tells its rules and sets: `layout-a1b2c3d4`, from the SHA-256 of both in
 * text. The kernel does not change the comment of a table or chain that exists (nf_tables_updtable, nf_tables_updchain),
 * but a chain can be replaced in the same transaction as the rules that it stands for.
 */
export function withFingerprint(table: TableState): TableState {
  const { comment: _, ...rest } = table
  const chains = table.chains.filter((chain) => !isFingerprint(chain.name))
  const text = table.rulesKnownBy ?? formatTable({ ...rest, chains, elements: new Map() })
  const name = `layout-${createHash('sha256').update(text).digest('hex').slice(0, 8)}`
  return { ...table, chains: [{ name, rules: [] }, ...chains] }
}

/** The name of the table's fingerprint chain, if it has one. */
export function fingerprintOf(table: { readonly chains: readonly Pick<Chain, 'name'>[] }): string | undefined {
  return table.chains.find((chain) => isFingerprint(chain.name))?.name
}

function isFingerprint(chain: string): boolean {
  return pattern.test(chain)
}
