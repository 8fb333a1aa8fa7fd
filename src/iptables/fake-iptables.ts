import type { IpFamily } from '../net/ip-address.ts'
import type { IptablesClient, RestoreOptions, RestoreResult, StartedRestore, Variant } from './client.ts'
import { failure } from './iptables-error.ts'
import { maxChainName, type Ruleset, type TableChanges, type TableName } from './objects.ts'
import { countTransactions, formatRestore } from './save-format.ts'

/** The chains that a table has by itself. */
export const builtInChains: Readonly<Record<TableName, readonly string[]>> = {
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  raw: ['PREROUTING', 'OUTPUT'],
}

type Tables = Map<TableName, Map<string, string[]>>

/**
 * iptables in memory: takes what the tools take and refuses what they refuse of it (chains that are missing, in use or too
 * long in name). Rules are kept as they are given: it does not know what matches mean. See test/contract/iptables-client.ts.
 */
export class FakeIptables implements IptablesClient {
  readonly family: IpFamily
  readonly variant: Variant
  readonly version = '1.8.9'
  /** What was restored so far, each as text. */
  readonly restored: string[] = []
  /** How many tools were started ahead and wait. */
  waiting = 0
  readonly #tables: Tables = new Map()
  #changes = 0

  constructor(family: IpFamily, variant: Variant = 'legacy') {
    this.family = family
    this.variant = variant
  }

  save(tables: readonly TableName[] = []): Promise<Ruleset> {
    for (const table of tables) tableOf(this.#tables, table)
    const wanted = tables.length === 0 ? [...this.#tables.keys()] : tables
    return Promise.resolve(new Map(wanted.map((name) => [name, new Map(this.#tables.get(name))])))
  }

  async restore(
    changes: readonly TableChanges[] | Promise<readonly TableChanges[]>,
    { onHandedOver }: RestoreOptions = {},
  ): Promise<RestoreResult> {
    const known = await changes
    const text = formatRestore(known, this.variant)
    const transactions = countTransactions(known, this.variant)
    if (text === '') return { bytes: 0, transactions, ms: 0 }
    this.apply(text)
    onHandedOver?.()
    this.restored.push(text)
    return { bytes: Buffer.byteLength(text), transactions, ms: 0 }
  }

  startRestore(): StartedRestore {
    this.waiting++
    let waits = true
    const end = (): void => {
      if (waits) this.waiting--
      waits = false
    }
    return {
      family: this.family,
      restore: async (changes, options) => {
        if (!waits) throw new Error('this iptables-restore was given its changes already')
        try {
          return await this.restore(changes, options)
        } finally {
          end()
        }
      },
      [Symbol.dispose]: end,
    }
  }

  mark(table: TableName): string | undefined {
    return this.variant === 'nft' ? undefined : `${table} ${this.#changes}`
  }

  /** Applies the text of an iptables-restore --noflush, as somebody else would. Throws IptablesError. */
  apply(text: string): void {
    let table: TableName | undefined
    let draft: Map<string, string[]> = new Map()
    for (const [index, line] of text.split('\n').entries()) {
      const refuse = (reason: string): never => {
        const stderr = `iptables-restore: line ${index + 1} failed: ${reason}`
        throw failure(['iptables-restore'], { code: 1, signal: null, stderr }, text)
      }
      if (line === '' || line.startsWith('#')) continue
      if (line.startsWith('*')) {
        table = line.slice(1) as TableName
        if (!Object.hasOwn(builtInChains, table)) refuse(`no table ${table}`)
        draft = new Map([...tableOf(this.#tables, table)].map(([chain, rules]) => [chain, [...rules]]))
      } else if (table === undefined) refuse('no table')
      else if (line === 'COMMIT') {
        this.#tables.set(table, draft)
        this.#changes++
        table = undefined
      } else applyLine(draft, { table, line, refuse })
    }
  }
}

function applyLine(
  draft: Map<string, string[]>,
  { table, line, refuse }: { table: TableName; line: string; refuse: (reason: string) => never },
): void {
  const isBuiltIn = (chain: string): boolean => builtInChains[table].includes(chain)
  if (line.startsWith(':')) {
    const chain = line.slice(1, line.indexOf(' '))
    if (chain.length > maxChainName) refuse(`chain name "${chain}" too long (must be under 29 chars)`)
    draft.set(chain, [])
    return
  }
  const [, command = '', chain = '', rest = ''] = /^(-[AIDX]) (\S+)(?: (.*))?$/.exec(line) ?? []
  const rules = draft.get(chain) ?? refuse(`no chain ${chain}`)
  switch (command) {
    case '-A':
      rules.push(checkTarget(draft, rest, refuse))
      break
    case '-I':
      rules.unshift(checkTarget(draft, rest.replace(/^1 ?/, ''), refuse))
      break
    case '-D': {
      const at = rules.indexOf(rest)
      if (at < 0) refuse('Bad rule (does a matching rule exist in that chain?)')
      rules.splice(at, 1)
      break
    }
    case '-X':
      if (isBuiltIn(chain) || rules.length > 0) refuse('Directory not empty')
      if ([...draft.values()].some((some) => some.some((rule) => targetOf(rule) === chain))) refuse('Too many links')
      draft.delete(chain)
      break
    default:
      refuse('not understood')
  }
}

function checkTarget(draft: Map<string, string[]>, rule: string, refuse: (reason: string) => never): string {
  const target = targetOf(rule)
  if (target !== undefined && !knownTargets.has(target) && !draft.has(target)) {
    refuse(`Couldn't load target \`${target}'`)
  }
  return rule
}

function targetOf(rule: string): string | undefined {
  return /(?:^| )-[jg] (\S+)/.exec(rule)?.[1]
}

const knownTargets = new Set(['ACCEPT', 'DROP', 'RETURN', 'REJECT', 'DNAT', 'SNAT', 'MASQUERADE', 'REDIRECT', 'MARK'])

function tableOf(tables: Tables, name: TableName): Map<string, string[]> {
  let table = tables.get(name)
  if (!table) tables.set(name, (table = new Map(builtInChains[name].map((chain) => [chain, []]))))
  return table
}
