import type { ReadTable } from './client.ts'
import { formatKey } from './fields.ts'
import { fingerprintOf, withFingerprint } from './fingerprint.ts'
import type { Chain, Elements, NftSet, RegisterBytes, TableState } from './objects.ts'
import type { Change } from './transaction.ts'

export interface DiffOptions {
  /** Writes all rules anew even if the table's fingerprint says that they are the wanted ones. @default false */
  readonly rewriteRules?: boolean
}

/**
 * The changes that make the table what is desired, in an order that the kernel accepts: rules go before the sets and
 * chains that they name, elements of verdict maps before the chains that they lead to, and all is created in the opposite
 * order. No changes when nothing differs. Pure.
 *
 * Rules are not compared but rewritten, all in the one transaction, unless the kernel's table has the fingerprint of the
 * desired rules ({@link withFingerprint}, which is added here), all sets, and as many rules in each chain that it has. Then
 * chains that lack are added with theirs. Base chains that differ, and sets of other types, are deleted and created anew.
 */
export function diffTable(
  current: ReadTable | undefined,
  desired: TableState,
  options: DiffOptions = {},
): readonly Change[] {
  const wanted = withFingerprint(desired)
  if (!current) return createTable(wanted)
  return changeTable(current, wanted, options)
}

function createTable(wanted: TableState): Change[] {
  return [
    addTable(wanted),
    ...wanted.chains.map(addChain),
    ...wanted.sets.map((set): Change => ({ op: 'add-set', set })),
    ...wanted.sets.flatMap((set) => addElements(set, wanted.elements.get(set.name))),
    ...addRules(wanted.chains),
  ]
}

function changeTable(current: ReadTable, wanted: TableState, options: DiffOptions): Change[] {
  const chains = compareByName(current.chains, wanted.chains, sameHook)
  const sets = compareByName(current.sets, wanted.sets, sameSet)
  const keepRules =
    options.rewriteRules !== true &&
    fingerprintOf(current) === fingerprintOf(wanted) &&
    sets.missing.length === 0 &&
    chains.kept.every((chain) => current.ruleCounts.get(chain.name) === chain.rules.length)
  const flushed = keepRules ? chains.extra : current.chains
  const elements = sets.kept
    .filter((set) => !set.dynamic)
    .map((set) => ({
      set,
      ...compareElements(current.elements.get(set.name) ?? new Map(), wanted.elements.get(set.name) ?? new Map()),
    }))
  return [
    ...flushed.filter((chain) => current.ruleCounts.get(chain.name) !== 0).map(flushChain),
    ...elements.flatMap(({ set, extra }) => deleteElements(set, extra)),
    ...sets.extra.map(({ name }): Change => ({ op: 'delete-set', set: name })),
    ...chains.extra.map(({ name }): Change => ({ op: 'delete-chain', chain: name })),
    ...chains.missing.map(addChain),
    ...sets.missing.map((set): Change => ({ op: 'add-set', set })),
    ...sets.missing.flatMap((set) => addElements(set, wanted.elements.get(set.name))),
    ...elements.flatMap(({ set, missing }) => addElements(set, missing)),
    ...addRules(keepRules ? chains.missing : wanted.chains),
  ]
}

/** `extra` has what is not wanted, or not like this; what is to be replaced is in `extra` and in `missing`. */
function compareByName<T extends { readonly name: string }>(
  current: readonly T[],
  wanted: readonly T[],
  same: (a: T, b: T) => boolean,
): { readonly extra: readonly T[]; readonly missing: readonly T[]; readonly kept: readonly T[] } {
  const currentByName = new Map(current.map((one) => [one.name, one]))
  const kept = wanted.filter((one) => {
    const other = currentByName.get(one.name)
    return other !== undefined && same(other, one)
  })
  const names = new Set(kept.map((one) => one.name))
  return {
    kept,
    extra: current.filter((one) => !names.has(one.name)),
    missing: wanted.filter((one) => !names.has(one.name)),
  }
}

/** Elements by key and data. Other data for a key: the old element is deleted, for the kernel does not overwrite. */
function compareElements(
  current: Elements,
  wanted: Elements,
): { readonly extra: Elements; readonly missing: Elements } {
  const extra = new Map<RegisterBytes, string>()
  const missing = new Map<RegisterBytes, string>()
  for (const [key, data] of current) if (wanted.get(key) !== data) extra.set(key, data)
  for (const [key, data] of wanted) if (current.get(key) !== data) missing.set(key, data)
  return { extra, missing }
}

function sameHook(a: Chain, b: Chain): boolean {
  return a.hook?.type === b.hook?.type && a.hook?.hook === b.hook?.hook && a.hook?.priority === b.hook?.priority
}

function sameSet(a: NftSet, b: NftSet): boolean {
  return describeSet(a) === describeSet(b)
}

function describeSet({ key, data, interval, dynamic }: NftSet): string {
  const right = data === undefined ? '' : data === 'verdict' ? data : formatKey(data)
  return `${formatKey(key)} : ${right}${interval ? ' interval' : ''}${dynamic ? ` dynamic ${dynamic.size}` : ''}`
}

function addTable({ comment }: TableState): Change {
  return { op: 'add-table', ...(comment !== undefined && { comment }) }
}

function addChain({ name, hook }: Chain): Change {
  return { op: 'add-chain', chain: { name, ...(hook && { hook }) } }
}

function flushChain({ name }: Chain): Change {
  return { op: 'flush-chain', chain: name }
}

function addRules(chains: readonly Chain[]): Change[] {
  return chains.flatMap(({ name, rules }) => rules.map((rule): Change => ({ op: 'add-rule', chain: name, rule })))
}

function addElements(set: NftSet, elements: Elements | undefined): Change[] {
  return elements && elements.size > 0 ? [{ op: 'add-elements', set, elements }] : []
}

function deleteElements(set: NftSet, elements: Elements): Change[] {
  return elements.size > 0 ? [{ op: 'delete-elements', set, elements }] : []
}
