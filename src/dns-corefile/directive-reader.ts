import { parseCidr } from '../net/cidr.ts'
import { parseGoDuration } from '../net/go-duration.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { type Name, nameOfLabels, labelsOfKey, parseName } from '../dns-message/name.ts'
import { reverseKey } from '../dns-message/reverse-name.ts'
import { CorefileError } from './corefile-error.ts'
import type { Directive } from './read-directives.ts'

/** Reads the words of one line, and says what is wrong with them and where. */
export class DirectiveReader {
  readonly directive: Directive
  readonly args: readonly string[]

  constructor(directive: Directive) {
    this.directive = directive
    this.args = directive.args
  }

  fail(message: string, cause?: unknown): never {
    throw new CorefileError(this.directive, `${this.directive.name}: ${message}`, { cause })
  }

  /** The lines in the braces. */
  *lines(): Generator<DirectiveReader> {
    for (const directive of this.directive.block) yield new DirectiveReader(directive)
  }

  /** Fails unless the number of words is right; `usage` shows how it is written. */
  expect(min: number, max: number, usage: string): this {
    if (this.args.length < min || this.args.length > max)
      this.fail(`${this.args.length} words follow (expected ${usage})`)
    return this
  }

  unknown(known: readonly string[]): never {
    throw new CorefileError(this.directive, `unknown option "${this.directive.name}" (known are ${known.join(', ')})`)
  }

  /** Parses one word; a {@link ParseError} gets the place. */
  parse<T>(text: string, parse: (text: string) => T): T {
    try {
      return parse(text)
    } catch (error) {
      if (error instanceof ParseError) this.fail(error.message, error)
      throw error
    }
  }

  integer(text: string | undefined, { min, max }: { readonly min: number; readonly max: number }): number {
    const value = Number(text)
    if (text !== undefined && /^\d+$/.test(text) && value >= min && value <= max) return value
    return this.fail(`"${text ?? ''}" is not a number from ${min} to ${max}`)
  }

  /** Milliseconds. */
  duration(text: string): number {
    return this.parse(text, parseGoDuration)
  }

  zones(texts: readonly string[]): Name[] {
    return texts.map((text) => this.parse(text, parseZoneName))
  }
}

/** A domain, or a network whose reverse names are meant (`10.0.0.0/8`). Throws {@link ParseError}. */
export function parseZoneName(text: string): Name {
  if (!/^[0-9a-fA-F.:]+\/\d+$/.test(text)) return parseName(text)
  const cidr = parseCidr(text)
  const bits = ipFamilyOf(cidr.address) === 4 ? 8 : 4
  if (cidr.prefix % bits !== 0)
    throw new ParseError(`"${text}" is no single reverse zone (expected a prefix that is a multiple of ${bits})`)
  const labels = labelsOfKey(reverseKey(cidr.address))
  const all = bits === 8 ? 4 : 32
  const name = nameOfLabels(labels.slice(all - cidr.prefix / bits))
  if (!name) throw new ParseError(`"${text}" is not a zone`)
  return name
}
