import type { TableState } from '../nftables/objects.ts'
import type { Change } from '../nftables/transaction.ts'

/** The changes that put a whole table in the place of what is there. Pure. */
export function replaceTable(table: TableState, { exists }: { readonly exists: boolean }): Change[] {
  return [
    ...(exists ? [{ op: 'delete-table' as const }] : []),
    { op: 'add-table', ...(table.comment !== undefined && { comment: table.comment }) },
    ...table.sets.map((set) => ({ op: 'add-set' as const, set })),
    ...table.sets.flatMap((set) => {
      const elements = table.elements.get(set.name)
      return elements && elements.size > 0 ? [{ op: 'add-elements' as const, set, elements }] : []
    }),
    ...table.chains.map(({ name, hook }) => ({ op: 'add-chain' as const, chain: { name, ...(hook && { hook }) } })),
    ...table.chains.flatMap(({ name, rules }) => rules.map((rule) => ({ op: 'add-rule' as const, chain: name, rule }))),
  ]
}
