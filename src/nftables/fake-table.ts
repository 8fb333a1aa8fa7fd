import type { ListedChain, ReadTable } from './client.ts'
import { parseVerdict } from './encode-elements.ts'
import { formatKey, kernelLength } from './fields.ts'
import { refusal, type RefusedChange } from './nftables-error.ts'
import type { Chain, Elements, NftFamily, NftSet, RegisterBytes, Rule, Statement } from './objects.ts'
import type { Change } from './transaction.ts'

/* errno.h */
const ENOENT = 2
const EBUSY = 16
const EEXIST = 17
const EINVAL = 22

interface FakeChain {
  readonly name: string
  readonly hook?: Chain['hook']
  rules: readonly Rule[]
}

interface FakeSet {
  readonly set: NftSet
  elements: Elements
  /** The elements are this table's own, not shared with the one that it was forked from. */
  owned: boolean
}

type InnerChange = Exclude<Change, { op: 'add-table' | 'delete-table' }>

/** One table of the fake, and what the kernel would say to each change of it. */
export class FakeTable {
  readonly family: NftFamily
  readonly name: string
  readonly comment: string | undefined
  readonly #chains = new Map<string, FakeChain>()
  readonly #sets = new Map<string, FakeSet>()

  constructor(family: NftFamily, name: string, comment: string | undefined) {
    this.family = family
    this.name = name
    this.comment = comment
  }

  /** A copy to change; elements are copied when they are changed. */
  fork(): FakeTable {
    const copy = new FakeTable(this.family, this.name, this.comment)
    for (const [name, chain] of this.#chains) copy.#chains.set(name, { ...chain })
    for (const [name, { set, elements }] of this.#sets) copy.#sets.set(name, { set, elements, owned: false })
    return copy
  }

  /** The table with its rules, which a kernel's client does not give. */
  read(): ReadTable {
    const chains = [...this.#chains.values()]
    const sets = [...this.#sets.values()]
    return {
      family: this.family,
      name: this.name,
      ...(this.comment !== undefined && { comment: this.comment }),
      chains: chains.map(({ name, hook, rules }) => ({ name, ...(hook && { hook }), rules })),
      sets: sets.map(({ set }) => set),
      elements: new Map(sets.map(({ set, elements }) => [set.name, new Map(elements)])),
      ruleCounts: new Map(chains.map(({ name, rules }) => [name, rules.length])),
    }
  }

  /** The chains as a listing of all tables has them. */
  listChains(): ListedChain[] {
    return [...this.#chains.values()].map(({ name, hook, rules }) => {
      const refusal = rules.find((rule) => rule.statements.every(({ kind }) => /^(counter|drop|reject)$/.test(kind)))
      const last = refusal?.statements.at(-1)?.kind
      return {
        family: this.family,
        table: this.name,
        name,
        hook,
        policy: hook && 'accept',
        refusesAll: last === 'drop' || last === 'reject' ? last : undefined,
      }
    })
  }

  /** Applies a change, or says why the kernel would refuse it. */
  apply(change: InnerChange): RefusedChange | undefined {
    switch (change.op) {
      case 'add-chain':
        return this.#addChain(change, change.chain)
      case 'delete-chain': {
        const chain = this.#chains.get(change.chain)
        if (!chain) return refusal(change, ENOENT)
        // Its own rules go with it.
        if (this.#isChainUsed(chain.name)) return refusal(change, EBUSY)
        this.#chains.delete(chain.name)
        return undefined
      }
      case 'flush-chain': {
        const chain = this.#chains.get(change.chain)
        if (!chain) return refusal(change, ENOENT)
        chain.rules = []
        return undefined
      }
      case 'add-rule':
        return this.#addRule(change)
      case 'add-set':
        return this.#addSet(change, change.set)
      case 'delete-set':
        if (!this.#sets.has(change.set)) return refusal(change, ENOENT)
        if (this.#isSetUsed(change.set)) return refusal(change, EBUSY)
        this.#sets.delete(change.set)
        return undefined
      case 'add-elements':
        return this.#addElements(change)
      case 'delete-elements':
        return this.#deleteElements(change)
      default:
        return change satisfies never
    }
  }

  #addChain(change: InnerChange, { name, hook }: Omit<Chain, 'rules'>): RefusedChange | undefined {
    const existing = this.#chains.get(name)
    if (!existing) {
      this.#chains.set(name, { name, ...(hook && { hook }), rules: [] })
      return undefined
    }
    // Without a hook the kernel takes the request as one to change nothing.
    if (hook && JSON.stringify(hook) !== JSON.stringify(existing.hook)) return refusal(change, EOPNOTSUPP)
    return undefined
  }

  #addRule(change: InnerChange & { op: 'add-rule' }): RefusedChange | undefined {
    const chain = this.#chains.get(change.chain)
    if (!chain) return refusal(change, ENOENT)
    for (const statement of change.rule.statements) {
      const target = jumpTarget(statement)
      if (target !== undefined) {
        const to = this.#chains.get(target)
        if (!to) return refusal(change, ENOENT)
        // Base chains are not jumped to (nf_tables: "chain is base").
        if (to.hook) return refusal(change, EOPNOTSUPP)
      }
      const lookup = lookupOf(statement)
      if (!lookup) continue
      const found = this.#sets.get(lookup.set)
      if (!found) return refusal(change, ENOENT)
      if (lookup.map !== (found.set.data !== undefined)) return refusal(change, EINVAL)
    }
    chain.rules = [...chain.rules, change.rule]
    return undefined
  }

  #addSet(change: InnerChange, set: NftSet): RefusedChange | undefined {
    const existing = this.#sets.get(set.name)
    if (!existing) {
      this.#sets.set(set.name, { set, elements: new Map(), owned: true })
      return undefined
    }
    return specOf(existing.set) === specOf(set) ? undefined : refusal(change, EEXIST)
  }

  #addElements(change: InnerChange & { op: 'add-elements' }): RefusedChange | undefined {
    const found = this.#sets.get(change.set.name)
    if (!found) return refusal(change, ENOENT)
    if (lengthsOf(found.set) !== lengthsOf(change.set)) {
      const [key] = change.elements.keys()
      return refusal(change, EINVAL, key === undefined ? {} : { key })
    }
    const elements = own(found)
    for (const [key, data] of change.elements) {
      if (found.set.data === 'verdict') {
        const { chain } = parseVerdict(data)
        if (chain !== undefined && !this.#chains.has(chain)) return refusal(change, ENOENT, { key })
      }
      const existing = elements.get(key)
      if (existing !== undefined && existing !== data) return refusal(change, EEXIST, { key })
      if (found.set.interval && existing === undefined && overlaps(elements, key, data)) {
        return refusal(change, EEXIST, { key })
      }
      elements.set(key, data)
    }
    return undefined
  }

  #deleteElements(change: InnerChange & { op: 'delete-elements' }): RefusedChange | undefined {
    const found = this.#sets.get(change.set.name)
    if (!found) return refusal(change, ENOENT)
    const elements = own(found)
    for (const key of change.elements.keys()) if (!elements.delete(key)) return refusal(change, ENOENT, { key })
    return undefined
  }

  #isChainUsed(name: string): boolean {
    const jumps = [...this.#chains.values()].flatMap(({ rules }) => rules).flatMap(({ statements }) => statements)
    if (jumps.some((statement) => jumpTarget(statement) === name)) return true
    return [...this.#sets.values()].some(
      ({ set, elements }) =>
        set.data === 'verdict' && [...elements.values()].some((verdict) => parseVerdict(verdict).chain === name),
    )
  }

  #isSetUsed(name: string): boolean {
    const rules = [...this.#chains.values()].flatMap((chain) => chain.rules)
    return rules.some(({ statements }) => statements.some((statement) => lookupOf(statement)?.set === name))
  }
}

const EOPNOTSUPP = 95

function own(found: FakeSet): Map<RegisterBytes, string> {
  if (!found.owned) found.elements = new Map(found.elements)
  found.owned = true
  return found.elements as Map<RegisterBytes, string>
}

/** Ranges of one field; the kernel looks at several fields in another way, and the fake not at all. */
function overlaps(elements: Elements, first: RegisterBytes, data: string): boolean {
  const last = data === '' ? first : data
  for (const [otherFirst, otherData] of elements) {
    const otherLast = otherData === '' ? otherFirst : otherData
    if (first <= otherLast && otherFirst <= last) return true
  }
  return false
}

/** The kernel looks at lengths alone: types are nft's. */
function lengthsOf({ key, data }: NftSet): string {
  return `${kernelLength(key)} ${data === undefined || data === 'verdict' ? data : kernelLength(data)}`
}

function specOf({ key, data, interval, dynamic }: NftSet): string {
  return `${formatKey(key)} : ${data === undefined || data === 'verdict' ? data : formatKey(data)} ${interval ?? false} ${dynamic?.size}`
}

function jumpTarget(statement: Statement): string | undefined {
  return statement.kind === 'jump' || statement.kind === 'goto' ? statement.chain : undefined
}

function lookupOf(statement: Statement): { readonly set: string; readonly map: boolean } | undefined {
  switch (statement.kind) {
    case 'in-set':
      return { set: statement.set, map: false }
    case 'vmap':
      return { set: statement.map, map: true }
    case 'dnat':
      return { set: statement.to.map, map: true }
    case 'set-priority':
      return typeof statement.to === 'number' || 'draw' in statement.to
        ? undefined
        : { set: statement.to.map, map: true }
    case 'set-mark':
      return typeof statement.to === 'number' ? undefined : { set: statement.to.map, map: true }
    case 'update':
    case 'delete':
      return { set: statement.map, map: true }
    default:
      return undefined
  }
}
