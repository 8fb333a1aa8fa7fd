import type { AccessRule, AccessRulesOptions } from '../dns/access-rules.ts'
import { type AnswerRewrite, parsePattern, type RewriteMatch, type RewriteRule } from '../dns/rewrites.ts'
import { parseType } from '../dns-message/type-names.ts'
import { addressCidr, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import type { LogBlock } from './corefile.ts'
import type { DirectiveReader } from './directive-reader.ts'
import type { PluginContext } from './read-kubernetes.ts'

const matches: readonly RewriteMatch[] = ['exact', 'prefix', 'suffix', 'substring', 'regex']
const usage = 'rewrite [stop|continue] name [exact|prefix|suffix|substring|regex] FROM TO [answer auto]'

/** `rewrite [continue|stop] name ...`, on one line or with `answer` lines in braces. */
export function readRewrite(reader: DirectiveReader): RewriteRule {
  const words = [...reader.args]
  const goesOn = words[0] === 'continue'
  if (words[0] === 'continue' || words[0] === 'stop') words.shift()
  const [line, ...others] = [...reader.lines()]
  if (line) {
    if (words.length > 0) reader.fail(`words stand before the braces (expected ${usage})`)
    words.push(line.directive.name, ...line.args)
  }
  const field = words.shift()
  if (field !== 'name') reader.fail(`"${field ?? ''}" cannot be rewritten here (expected ${usage})`)
  const match = matches.find((match) => match === words[0])
  if (match && words.length > 2) words.shift()
  const [from = '', to, ...options] = words
  if (to === undefined) reader.fail(`a name is missing (expected ${usage})`)
  const rule: RewriteRule = { match: match ?? 'exact', from, to, goesOn, answers: [...readAnswers(reader, options)] }
  const more = others.flatMap((other) => {
    if (other.directive.name !== 'answer') other.unknown(['answer'])
    return readAnswers(other, ['answer', ...other.args])
  })
  if (rule.match === 'regex') reader.parse(from, parsePattern)
  return { ...rule, answers: [...rule.answers, ...more] }
}

function readAnswers(reader: DirectiveReader, words: readonly string[]): readonly AnswerRewrite[] {
  const list: AnswerRewrite[] = []
  for (let at = 0; at < words.length;) {
    const [answer, part, from, to] = words.slice(at, at + 4)
    if (answer !== 'answer')
      reader.fail(`"${answer}" (expected answer auto, answer name FROM TO or answer value FROM TO)`)
    // The asked name always comes back.
    if (part === 'auto') {
      at += 2
      continue
    }
    if ((part !== 'name' && part !== 'value') || from === undefined || to === undefined)
      return reader.fail('expected answer auto, answer name FROM TO or answer value FROM TO')
    list.push({ part, from: reader.parse(from, parsePattern), to })
    at += 4
  }
  return list
}

const actions = ['allow', 'block', 'filter'] as const

/** `acl [ZONES...] { ACTION [type TYPES...] [net SOURCES...] }` */
export function readAcl(reader: DirectiveReader, { zones }: PluginContext): AccessRulesOptions {
  const rules = [...reader.lines()].map((line): AccessRule => {
    const action = actions.find((action) => action === line.directive.name)
    if (!action) return line.unknown(actions)
    const types: string[] = []
    const nets: string[] = []
    let into: string[] | undefined
    for (const word of line.args) {
      if (word === 'type') into = types
      else if (word === 'net') into = nets
      else if (into) into.push(word)
      else line.fail(`"${word}" (expected ${action} [type TYPES...] [net SOURCES...])`)
    }
    const parseSource = (text: string) => (text.includes('/') ? parseCidr(text) : addressCidr(parseIp(text)))
    const isAll = (words: readonly string[]) => words.length === 0 || words.includes('*')
    return {
      action,
      types: isAll(types) ? undefined : new Set(types.map((text) => line.parse(text, parseType))),
      clients: isAll(nets) ? undefined : nets.map((text) => line.parse(text, parseSource)),
    }
  })
  return { zones: reader.args.length > 0 ? reader.zones(reader.args) : zones, rules }
}

const classes = ['all', 'success', 'denial', 'error'] as const

/** `log [NAMES...] [FORMAT] { class CLASSES... }` */
export function readLog(reader: DirectiveReader, { zones, note }: PluginContext): LogBlock {
  const format = reader.args.find((word) => word.includes('{'))
  if (format !== undefined) note(reader, 'lines are the log lines of fairlead, with fields: the format is not used')
  const names = reader.args.filter((word) => !word.includes('{'))
  const wanted = new Set<(typeof classes)[number]>()
  for (const line of reader.lines()) {
    if (line.directive.name !== 'class') line.unknown(['class'])
    for (const word of line.args) {
      const found = classes.find((known) => known === word)
      wanted.add(found ?? line.fail(`"${word}" is no class (expected ${classes.join(', ')})`))
    }
  }
  return {
    zones: names.length > 0 ? reader.zones(names) : zones,
    classes: wanted.size > 0 ? wanted : new Set(['all']),
  }
}
