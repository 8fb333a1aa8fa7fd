import type { ReadTable } from '../nftables/client.ts'
import type { Change } from '../nftables/transaction.ts'

/**
 * Elements of one transaction. The hash tables of nf_tables grow from a few thousand places, doubling in a worker of the
 * kernel, which comes late while a transaction runs: 600,000 elements at once take 5.6 s of kernel time, in steps of this
 * size 1.6 s.
 */
const stepElements = 20_000

/**
 * The transactions in which a table is filled that no packet passes yet: first sets and inner chains, whose rules name maps
 * while these are empty (the kernel looks at every element of a map that it binds), then elements, then the hooks. Until the
 * last one nothing is seen of it, so it is all or nothing to packets, as one transaction is. A table that packets pass is
 * changed in one.
 */
export function* stepsFor(current: ReadTable | undefined, changes: readonly Change[]): Generator<readonly Change[]> {
  const additive = changes.every(({ op }) => op.startsWith('add-'))
  const hooked = current?.chains.some((chain) => chain.hook) ?? false
  const count = changes.reduce((sum, change) => sum + (change.op === 'add-elements' ? change.elements.size : 0), 0)
  if (!additive || hooked || count <= stepElements) {
    yield rulesFirst(changes)
    return
  }
  const entrances = new Set(
    changes.flatMap((change) => (change.op === 'add-chain' && change.chain.hook ? [change.chain.name] : [])),
  )
  const isHook = (change: Change): boolean =>
    (change.op === 'add-chain' && entrances.has(change.chain.name)) ||
    (change.op === 'add-rule' && entrances.has(change.chain))
  yield changes.filter((change) => change.op !== 'add-elements' && !isHook(change))
  for (const change of changes) if (change.op === 'add-elements') yield* portions(change)
  yield changes.filter(isHook)
}

function* portions(change: Extract<Change, { op: 'add-elements' }>): Generator<readonly Change[]> {
  let elements = new Map<string, string>()
  for (const [key, data] of change.elements) {
    elements.set(key, data)
    if (elements.size < stepElements) continue
    yield [{ ...change, elements }]
    elements = new Map()
  }
  if (elements.size > 0) yield [{ ...change, elements }]
}

/** Rules before the elements of the maps that they name, for the same reason. */
function rulesFirst(changes: readonly Change[]): readonly Change[] {
  const isLate = (change: Change): boolean => change.op === 'add-elements'
  return [...changes.filter((change) => !isLate(change)), ...changes.filter(isLate)]
}
