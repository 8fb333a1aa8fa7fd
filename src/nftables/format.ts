import { networkOf, parseCidr } from '../net/cidr.ts'
import { ipFromBytes } from '../net/ip-address.ts'
import { dataTypes, fieldOf, formatKey, paddedLength, type Field } from './fields.ts'
import {
  formatBits,
  formatField,
  formatNumber,
  formatRegisterBytes,
  hex32,
  splitRegisterBytes,
} from './format-value.ts'
import type {
  Chain,
  ChainHook,
  Draw,
  Elements,
  MatchValue,
  NftSet,
  RegisterBytes,
  Rule,
  Statement,
  TableState,
} from './objects.ts'
import type { Change, Transaction } from './transaction.ts'

export interface FormatOptions {
  /** How many elements of a set are printed at most. @default Infinity */
  readonly maxElements?: number
}

/** A table in nft's syntax, as `nft list table` (1.0.6) prints it, element order and line breaks included. */
export function formatTable(table: TableState, options: FormatOptions = {}): string {
  const head = table.comment === undefined ? [] : [`\tcomment ${quote(table.comment)}`]
  const sets = table.sets.map((set) => formatSet(set, table.elements.get(set.name) ?? new Map(), options))
  const blocks = [...sets, ...table.chains.map(formatChain)]
  return `table ${table.family} ${table.name} {\n${[...head, blocks.join('\n\n')].join('\n')}\n}\n`
}

/** A transaction as nft commands, one a line, elements at most `maxElements` a set. */
export function formatTransaction(transaction: Transaction, options: FormatOptions = {}): string {
  const place = `${transaction.family} ${transaction.table}`
  return transaction.changes.flatMap((change) => changeLines(change, place, options)).join('\n')
}

function changeLines(change: Change, place: string, options: FormatOptions): string[] {
  const at = (verb: string, ...words: string[]): string =>
    [verb, place, ...words].filter((word) => word !== '').join(' ')
  switch (change.op) {
    case 'add-table':
      return [at('add table', change.comment === undefined ? '' : `{ comment ${quote(change.comment)}; }`)]
    case 'delete-table':
      return [at('delete table')]
    case 'add-chain': {
      const { name, hook } = change.chain
      return [at('add chain', name, hook ? `{ ${formatHook(hook)} }` : '')]
    }
    case 'delete-chain':
      return [at('delete chain', change.chain)]
    case 'flush-chain':
      return [at('flush chain', change.chain)]
    case 'add-rule':
      return [at('add rule', change.chain, formatRule(change.rule))]
    case 'add-set': {
      const { set } = change
      return [at(`add ${kindOf(set)}`, set.name, `{ ${setProperties(set).join('; ')}; }`)]
    }
    case 'delete-set':
      return [at('delete set', change.set)]
    case 'add-elements':
    case 'delete-elements': {
      const verb = change.op === 'add-elements' ? 'add element' : 'delete element'
      const set = change.op === 'add-elements' ? change.set : withoutData(change.set)
      return [at(verb, change.set.name, `{ ${elementTexts(set, change.elements, options).join(', ')} }`)]
    }
    default:
      return change satisfies never
  }
}

/** A set of the map's keys alone. */
export function withoutData(set: NftSet): NftSet {
  const { data: _, ...keys } = set
  return keys
}

function kindOf(set: NftSet): 'set' | 'map' {
  return set.data === undefined ? 'set' : 'map'
}

function setProperties(set: NftSet): string[] {
  const data = set.data === undefined ? '' : ` : ${set.data === 'verdict' ? 'verdict' : formatKey(set.data)}`
  return [
    `typeof ${formatKey(set.key)}${data}`,
    ...(set.dynamic ? [`size ${set.dynamic.size}`] : []),
    ...(set.interval ? ['flags interval'] : []),
    ...(set.dynamic ? ['flags dynamic,timeout'] : []),
    ...(set.comment === undefined ? [] : [`comment ${quote(set.comment)}`]),
  ]
}

function formatSet(set: NftSet, elements: Elements, options: FormatOptions): string {
  const lines = [`\t${kindOf(set)} ${set.name} {`, ...setProperties(set).map((property) => `\t\t${property}`)]
  if (elements.size > 0) {
    const texts = elementTexts(set, elements, options)
    const perLine = elementsPerLine(set)
    const rows: string[] = []
    for (let at = 0; at < texts.length; at += perLine) rows.push(texts.slice(at, at + perLine).join(', '))
    lines.push(`\t\telements = { ${rows.join(',\n\t\t\t     ')} }`)
  }
  return [...lines, '\t}'].join('\n')
}

/** calculate_delim() of nft: short values share a line. */
function elementsPerLine(set: NftSet): number {
  const [only] = set.key
  if (set.key.length !== 1 || only === undefined) return 1
  const { type } = fieldOf(only)
  const five: readonly number[] = [
    dataTypes.protocol,
    dataTypes.nfproto,
    dataTypes.mark,
    dataTypes.port,
    dataTypes.classId,
    dataTypes.integer,
  ]
  if (five.includes(type)) return 5
  const two: readonly number[] = [dataTypes.ipv4, dataTypes.ctState, dataTypes.ctStatus, dataTypes.ctDirection]
  return two.includes(type) ? 2 : 1
}

function elementTexts(set: NftSet, elements: Elements, options: FormatOptions): string[] {
  const { maxElements = Infinity } = options
  let shown = [...elements.keys()]
  if (shown.length <= maxElements) shown = sortKeys(set, shown)
  else shown = sortKeys(set, shown.slice(0, maxElements))
  const texts = shown.map((key) => formatElement(set, key, elements.get(key) ?? ''))
  if (elements.size > shown.length) texts.push(`... ${elements.size - shown.length} more`)
  return texts
}

/** nft sorts elements by value, field by field. */
function sortKeys(set: NftSet, keys: readonly string[]): string[] {
  const sortable = keys.map((key) => {
    const parts = splitRegisterBytes(set.key, key).map(({ field, bytes }) => {
      const value = Buffer.from(bytes.subarray(0, field.length))
      const number = field.bigEndian || field.type === dataTypes.interfaceName ? value : value.reverse()
      return number.toString('latin1')
    })
    return { key, order: parts.join('') }
  })
  sortable.sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0))
  return sortable.map(({ key }) => key)
}

/** An element as nft writes it: `10.0.0.1 . tcp . 80 : f1a0:2`. */
export function formatElement(set: NftSet, key: RegisterBytes, data: string): string {
  if (set.interval) return formatRange(set, key, data === '' ? key : data)
  const left = formatRegisterBytes(set.key, key)
  if (set.data === undefined) return left
  return `${left} : ${set.data === 'verdict' ? data : formatRegisterBytes(set.data, data)}`
}

function formatRange(set: NftSet, first: string, last: string): string {
  const ends = splitRegisterBytes(set.key, last)
  return splitRegisterBytes(set.key, first)
    .map(({ field, bytes }, index) => formatFieldRange(field, bytes, ends[index]?.bytes ?? bytes))
    .join(' . ')
}

function formatFieldRange(field: Field, first: Buffer, last: Buffer): string {
  if (first.equals(last)) return formatField(field, first)
  if (field.type === dataTypes.ipv4 || field.type === dataTypes.ipv6) {
    const prefix = prefixOf(first, last)
    if (prefix !== undefined) return `${ipFromBytes(first)}/${prefix}`
  }
  return `${formatField(field, first)}-${formatField(field, last)}`
}

/** The length of the prefix that spans exactly first to last; undefined when there is none. */
function prefixOf(first: Buffer, last: Buffer): number | undefined {
  const bits = first.length * 8
  for (let prefix = 0; prefix <= bits; prefix++) {
    const low = Buffer.from(first)
    const high = Buffer.from(first)
    for (let bit = prefix; bit < bits; bit++) {
      low[bit >> 3] = (low[bit >> 3] as number) & ~(0x80 >> (bit & 7))
      high[bit >> 3] = (high[bit >> 3] as number) | (0x80 >> (bit & 7))
    }
    if (low.equals(first) && high.equals(last)) return prefix
  }
  return undefined
}

function formatChain(chain: Chain): string {
  const lines = chain.rules.map((rule) => `\t\t${formatRule(rule)}`)
  if (chain.hook) lines.unshift(`\t\t${formatHook(chain.hook)}`)
  return [`\tchain ${chain.name} {`, ...lines, '\t}'].join('\n')
}

/** `type nat hook prerouting priority dstnat; policy accept;` */
function formatHook(hook: ChainHook): string {
  return `type ${hook.type} hook ${hook.hook} priority ${formatPriority(hook)}; policy accept;`
}

const priorities = [
  { name: 'raw', value: -300 },
  { name: 'mangle', value: -150 },
  { name: 'dstnat', value: -100, hook: 'prerouting' },
  { name: 'filter', value: 0 },
  { name: 'security', value: 50 },
  { name: 'srcnat', value: 100, hook: 'postrouting' },
] as const

/** By name where there is one within ten, as nft does; some names are for one hook only. */
function formatPriority({ hook, priority }: ChainHook): string {
  for (const named of priorities) {
    if ('hook' in named && named.hook !== hook) continue
    const offset = priority - named.value
    if (offset === 0) return named.name
    if (Math.abs(offset) <= 10) return `${named.name} ${offset < 0 ? '-' : '+'} ${Math.abs(offset)}`
  }
  return String(priority)
}

/** A rule in nft's syntax, without the chain. */
export function formatRule(rule: Rule): string {
  const words = rule.statements.map(formatStatement)
  if (rule.comment !== undefined) words.push(`comment ${quote(rule.comment)}`)
  return words.join(' ')
}

function formatStatement(statement: Statement): string {
  switch (statement.kind) {
    case 'match':
      return formatMatch(fieldOf(statement.left), statement.op, statement.value)
    case 'in-set':
      return `${formatKey(statement.key)} ${statement.negate ? '!= ' : ''}@${statement.set}`
    case 'set-priority': {
      const { to } = statement
      if (typeof to === 'number') return `meta priority set ${formatNumber(fieldOf('meta priority'), to)}`
      return `meta priority set ${'draw' in to ? formatDraw(to) : `${formatKey(to.key)} map @${to.map}`}`
    }
    case 'update': {
      const time = formatTime(statement.timeoutSeconds)
      return `update @${statement.map} { ${formatKey(statement.key)} timeout ${time} : ${formatKey(statement.data)} }`
    }
    case 'delete':
      return `delete @${statement.map} { ${formatKey(statement.key)} : ${formatKey(statement.data)} }`
    case 'set-mark': {
      const { to } = statement
      return `meta mark set ${typeof to === 'number' ? hex32(to) : `${formatKey(to.key)} map @${to.map}`}`
    }
    case 'mark-or':
      return `meta mark set meta mark | ${hex32(statement.bits)}`
    case 'mark-xor':
      return `meta mark set meta mark ^ ${hex32(statement.bits)}`
    case 'vmap':
      return `${formatKey(statement.key)} vmap @${statement.map}`
    case 'dnat':
      return `dnat ${statement.family} to ${formatKey(statement.to.key)} map @${statement.to.map}`
    case 'snat':
      return `snat ${statement.family} to ${statement.to}`
    case 'masquerade':
      return 'masquerade fully-random'
    case 'reject':
      return statement.with === 'tcp-reset' ? 'reject with tcp reset' : 'reject'
    case 'counter':
    case 'accept':
    case 'drop':
    case 'return':
      return statement.kind
    case 'jump':
    case 'goto':
      return `${statement.kind} ${statement.chain}`
    default:
      return statement satisfies never
  }
}

function formatDraw(draw: Draw): string {
  const offset = draw.offset === 0 ? '' : ` offset ${draw.offset}`
  switch (draw.draw) {
    case 'random':
      return `numgen random mod ${draw.modulus}${offset}`
    case 'in-turn':
      return `numgen inc mod ${draw.modulus}${offset}`
    case 'hash':
      return `jhash ${formatKey(draw.key)} mod ${draw.modulus} seed 0x${draw.seed.toString(16)}${offset}`
    default:
      return draw satisfies never
  }
}

/** `1d2h3m4s`, without what is none. */
function formatTime(seconds: number): string {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const
  return parts.flatMap(([count, unit]) => (count > 0 ? [`${count}${unit}`] : [])).join('') || '0s'
}

function formatMatch(field: Field, op: '==' | '!=', value: MatchValue): string {
  const not = op === '==' ? '' : '!= '
  if ('bits' in value) {
    if (field.load.kind === 'ct') return `${field.text} ${op === '==' ? '' : '! '}${formatBits(field, value.bits)}`
    return `${field.text} & ${hex32(value.bits)} ${op === '==' ? '!=' : '=='} ${hex32(0)}`
  }
  if ('mask' in value) {
    return `${field.text} & ${formatNumber(field, value.mask)} ${op} ${formatNumber(field, value.equals)}`
  }
  return `${field.text} ${not}${formatMatchValue(field, value)}`
}

function formatMatchValue(field: Field, value: Exclude<MatchValue, { bits: number } | { mask: number }>): string {
  if ('number' in value) return formatNumber(field, value.number)
  if ('anyOf' in value) return `{ ${value.anyOf.map((number) => formatNumber(field, number)).join(', ')} }`
  if ('name' in value) return quote(value.name)
  const { address, prefix } = value
  if (prefix === undefined || prefix === paddedLength(field) * 8) return address
  return `${networkOf(parseCidr(`${address}/${prefix}`)).address}/${prefix}`
}

/** nft has no escapes within quotes. */
function quote(text: string): string {
  return `"${text.replaceAll('"', "'")}"`
}
