import { type Name, nameText, parseName, readName } from '../dns-message/name.ts'
import type { Question } from '../dns-message/query.ts'
import {
  type Answer,
  emptyAnswer,
  extendedErrors,
  rcodes,
  type Rdata,
  type RecordSet,
  recordTypes,
} from '../dns-message/record-set.ts'
import { ParseError } from '../net/parse-error.ts'
import type { QuestionRewriter, RewrittenQuestion } from './resolve.ts'

/** How a rule finds its names. All but `regex` compare text in presentation format, in lower case and with the last dot. */
export type RewriteMatch = 'exact' | 'prefix' | 'suffix' | 'substring' | 'regex'

/** One `rewrite name` of CoreDNS. */
export interface RewriteRule {
  readonly match: RewriteMatch
  readonly from: string
  /** With `{1}` for the first group of a regex. */
  readonly to: string
  /** Whether the next rules are tried after this one. */
  readonly goesOn: boolean
  /** What becomes of owners and of names in the records of the answer, besides the asked name itself, which always comes back. */
  readonly answers: readonly AnswerRewrite[]
}

export interface AnswerRewrite {
  readonly part: 'name' | 'value'
  readonly from: RegExp
  readonly to: string
}

/** Text to text; undefined: no match. */
type NameChange = (text: string) => string | undefined

interface CompiledRule extends RewriteRule {
  readonly change: NameChange
  /** The way back of a suffix rule, for all names below it. */
  readonly back: NameChange | undefined
}

/** Asks under another name, and answers under the one that was asked. */
export class Rewrites implements QuestionRewriter {
  readonly #rules: readonly CompiledRule[]

  /** Throws {@link ParseError} when a rule cannot be used. */
  constructor(rules: readonly RewriteRule[]) {
    this.#rules = rules.map((rule) => {
      const back = rule.match === 'suffix' ? suffixChange(dotted(rule.to), dotted(rule.from)) : undefined
      return { ...rule, change: compileChange(rule), back }
    })
  }

  rewrite(question: Question): RewrittenQuestion | undefined {
    const asked = nameText(question.name).toLowerCase()
    let text = asked
    const applied: CompiledRule[] = []
    for (const rule of this.#rules) {
      const changed = rule.change(text)
      if (changed === undefined) continue
      text = dotted(changed)
      applied.push(rule)
      if (!rule.goesOn) break
    }
    if (applied.length === 0 || text === asked) return undefined
    const name = nameOf(text)
    // As in CoreDNS: a rule that makes no name of a name is a mistake that shall show.
    if (!name) return { question, restore: () => notAName }
    return {
      question: { ...question, name },
      restore: (answer) => restore(answer, { asked: question.name, used: name, applied: applied.toReversed() }),
    }
  }
}

/** What a rule's pattern is as a regular expression: Go's named groups are read, too. Throws {@link ParseError}. */
export function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text.replaceAll('(?P<', '(?<'), 'i')
  } catch (error) {
    throw new ParseError(`"${text}" is not a regular expression: ${(error as Error).message}`, { cause: error })
  }
}

const notAName = emptyAnswer(rcodes.SERVFAIL, {
  code: extendedErrors.OTHER,
  text: 'a rewrite rule of this server makes no domain name of this name',
})

function compileChange({ match, from, to }: RewriteRule): NameChange {
  switch (match) {
    case 'exact': {
      const name = dotted(from)
      return (text) => (text === name ? to : undefined)
    }
    case 'prefix': {
      const prefix = from.toLowerCase()
      return (text) => (text.startsWith(prefix) ? to + text.slice(prefix.length) : undefined)
    }
    case 'suffix':
      return suffixChange(dotted(from), dotted(to))
    case 'substring': {
      const part = from.toLowerCase()
      return (text) => (text.includes(part) ? text.replaceAll(part, () => to) : undefined)
    }
    case 'regex': {
      const pattern = parsePattern(from)
      return (text) => fill(pattern, to, text)
    }
    default:
      return match satisfies never
  }
}

function suffixChange(from: string, to: string): NameChange {
  return (text) => (text.endsWith(from) ? text.slice(0, text.length - from.length) + to : undefined)
}

/** `to` with the groups of the match in it. */
function fill(pattern: RegExp, to: string, text: string): string | undefined {
  const groups = pattern.exec(text)
  return groups ? to.replaceAll(/\{(\d+)\}/g, (_, number: string) => groups[Number(number)] ?? '') : undefined
}

function dotted(text: string): string {
  return text.endsWith('.') ? text.toLowerCase() : `${text.toLowerCase()}.`
}

function nameOf(text: string): Name | undefined {
  try {
    return parseName(text)
  } catch (error) {
    if (error instanceof ParseError) return undefined
    throw error
  }
}

interface Applied {
  readonly asked: Name
  readonly used: Name
  /** The last one first. */
  readonly applied: readonly CompiledRule[]
}

function restore(answer: Answer, applied: Applied): Answer {
  const restoreSets = (sets: readonly RecordSet[]) => sets.map((set) => restoreSet(set, applied))
  return {
    ...answer,
    answer: restoreSets(answer.answer),
    authority: restoreSets(answer.authority),
    additional: restoreSets(answer.additional),
  }
}

function restoreSet(set: RecordSet, { asked, used, applied }: Applied): RecordSet {
  const back = applied.map((rule) => rule.back).filter((change) => change !== undefined)
  const changes = (part: AnswerRewrite['part']) =>
    applied.flatMap(({ answers }) => answers.filter((answer) => answer.part === part)).map(toChange)
  const owner = set.owner.key === used.key ? asked : changed(set.owner, [...changes('name'), ...back])
  const values = changes('value')
  if (values.length === 0) return { ...set, owner }
  return { ...set, owner, rdata: set.rdata.map((rdata) => restoreRdata(rdata, { type: set.type, values })) }
}

function toChange({ from, to }: AnswerRewrite): NameChange {
  return (text) => fill(from, to, text)
}

/** Names stand as such in data, but for the target of SRV, which must not be compressed and so is bytes. */
function restoreRdata(rdata: Rdata, { type, values }: { type: number; values: readonly NameChange[] }): Rdata {
  return rdata.map((part, index) => {
    if (!(part instanceof Uint8Array)) return changed(part, values)
    if (type !== recordTypes.SRV || index !== 1) return part
    return changed(readName(part, 0).name, values).wire
  })
}

/** The first change that fits; a name that it would spoil stays. */
function changed(name: Name, changes: readonly NameChange[]): Name {
  if (changes.length === 0) return name
  const text = nameText(name).toLowerCase()
  for (const change of changes) {
    const result = change(text)
    if (result !== undefined) return nameOf(dotted(result)) ?? name
  }
  return name
}
