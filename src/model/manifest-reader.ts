import { ParseError } from '../net/parse-error.ts'
import type { FieldProblem } from './manifest-error.ts'

/** How manifests are read. */
export interface ReadOptions {
  /**
   * Called with each string that goes into the model; returns an equal string. Lets a source share equal strings, and
   * cut them off the file's text: V8 keeps a whole text alive for one long-enough substring of it.
   *
   * @default the string itself
   */
  readonly intern?: (text: string) => string
}

/** Names of `Record<string, string>` entries that nobody reads but that would fill the memory. */
const bulkyAnnotations: ReadonlySet<string> = new Set(['kubectl.kubernetes.io/last-applied-configuration'])
const emptyRecord: Readonly<Record<string, string>> = Object.freeze({})
const emptyList: readonly never[] = Object.freeze([])

/**
 * Reads the fields of one object of a manifest. Each method returns the field's value or undefined when it is absent
 * (null counts as absent, as in Kubernetes) or wrong; what is wrong is added to `problems`, with its path, and reading
 * goes on, so that one pass finds everything. Unknown fields are nobody's business.
 */
export class ManifestReader {
  readonly path: string
  readonly problems: FieldProblem[]
  readonly #fields: Readonly<Record<string, unknown>>
  readonly #intern: (text: string) => string

  private constructor(
    fields: Readonly<Record<string, unknown>>,
    options: { path: string; problems: FieldProblem[]; intern: (text: string) => string },
  ) {
    this.#fields = fields
    this.path = options.path
    this.problems = options.problems
    this.#intern = options.intern
  }

  /** A reader of a whole manifest. Anything but an object reads as an empty one, with a problem. */
  static of(manifest: unknown, options: ReadOptions = {}): ManifestReader {
    const context = { path: '', problems: [] as FieldProblem[], intern: options.intern ?? ((text: string) => text) }
    if (isObject(manifest)) return new ManifestReader(manifest, context)
    context.problems.push({ path: '', reason: `${show(manifest)} is not an object` })
    return new ManifestReader({}, context)
  }

  /** Reports a problem of the field `key`. */
  fail(key: string, reason: string): undefined {
    this.problems.push({ path: this.pathOf(key), reason })
  }

  /** `spec.ports[0].port` for the key `port` of the reader at `spec.ports[0]`. */
  pathOf(key: string): string {
    return this.path === '' ? key : `${this.path}.${key}`
  }

  /** The names of all fields, absent ones too. */
  keys(): readonly string[] {
    return Object.keys(this.#fields)
  }

  has(key: string): boolean {
    return (this.#fields[key] ?? undefined) !== undefined
  }

  /** The field as it stands. */
  raw(key: string): unknown {
    return this.#fields[key] ?? undefined
  }

  text(key: string): string | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    if (typeof value === 'string') return this.#intern(value)
    return this.fail(key, notText(value))
  }

  boolean(key: string): boolean | undefined {
    const value = this.raw(key)
    if (value === undefined || typeof value === 'boolean') return value
    return this.fail(key, `${show(value)} is not a boolean (expected true or false)`)
  }

  /** A whole number from `range.min` to `range.max`. */
  integer(key: string, range: { min: number; max: number }): number | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    if (typeof value === 'number' && Number.isInteger(value) && value >= range.min && value <= range.max) return value
    return this.fail(key, `${show(value)} is not a whole number from ${range.min} to ${range.max}`)
  }

  /** One of a closed set of words. */
  oneOf<Word extends string>(key: string, words: readonly Word[]): Word | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    const word = words.find((word) => word === value)
    return word ?? this.fail(key, `${show(value)} is not known here (expected ${listWords(words)})`)
  }

  /** A field that `parse` turns into a value; the message of its ParseError becomes the reason. */
  parsed<T>(key: string, parse: (value: unknown) => T): T | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    return this.#try(this.pathOf(key), () => parse(value))
  }

  /** A text that `parse` turns into a value. */
  parsedText<T>(key: string, parse: (text: string) => T): T | undefined {
    const text = this.text(key)
    return text === undefined ? undefined : this.#try(this.pathOf(key), () => parse(text))
  }

  /** A list of texts, each turned into a value; wrong ones are left out of the result. Those after the first `most` are not looked at. */
  parsedTexts<T>(key: string, parse: (text: string) => T, { most = Infinity } = {}): readonly T[] {
    const result: T[] = []
    for (const [index, value] of this.list(key).entries()) {
      if (index >= most) break
      const path = `${this.pathOf(key)}[${index}]`
      if (typeof value !== 'string') {
        this.problems.push({ path, reason: notText(value) })
        continue
      }
      const parsed = this.#try(path, () => parse(this.#intern(value)))
      if (parsed !== undefined) result.push(parsed)
    }
    return result.length === 0 ? emptyList : exact(result)
  }

  list(key: string): readonly unknown[] {
    const value = this.raw(key)
    if (value === undefined) return emptyList
    if (Array.isArray(value)) return value
    this.fail(key, `${show(value)} is not a list`)
    return emptyList
  }

  /** The object in the field; an empty one when it is absent, so that its fields read as absent. */
  object(key: string): ManifestReader {
    const value = this.raw(key)
    if (value !== undefined && !isObject(value)) this.fail(key, `${show(value)} is not an object`)
    return this.#at(isObject(value) ? value : {}, this.pathOf(key), this.problems)
  }

  /**
   * A reader for each object of a list. With `problemsOf`, each gets its own list of problems, so that one element can
   * be refused without the others.
   */
  *objects(key: string, problemsOf: (index: number) => FieldProblem[] = () => this.problems): Iterable<ManifestReader> {
    for (const [index, value] of this.list(key).entries()) {
      const path = `${this.pathOf(key)}[${index}]`
      const problems = problemsOf(index)
      if (!isObject(value)) problems.push({ path, reason: `${show(value)} is not an object` })
      yield this.#at(isObject(value) ? value : {}, path, problems)
    }
  }

  /** Labels, annotations, selectors: texts by name. */
  texts(key: string): Readonly<Record<string, string>> {
    const value = this.raw(key)
    if (value === undefined) return emptyRecord
    if (!isObject(value)) {
      this.fail(key, `${show(value)} is not an object`)
      return emptyRecord
    }
    const result: Record<string, string> = {}
    let empty = true
    for (const [name, text] of Object.entries(value)) {
      if (bulkyAnnotations.has(name) || text === null) continue
      if (typeof text !== 'string') {
        this.fail(`${key}.${name}`, notText(text))
        continue
      }
      result[this.#intern(name)] = this.#intern(text)
      empty = false
    }
    return empty ? emptyRecord : result
  }

  #at(fields: Readonly<Record<string, unknown>>, path: string, problems: FieldProblem[]): ManifestReader {
    return new ManifestReader(fields, { path, problems, intern: this.#intern })
  }

  #try<T>(path: string, parse: () => T): T | undefined {
    try {
      return parse()
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      this.problems.push({ path, reason: error.message })
      return undefined
    }
  }
}

/** A list grown by push has room for 17 elements; at 100,000 lists of one that is most of the memory. A copy fits. */
export function exact<T>(list: readonly T[]): readonly T[] {
  return list.slice()
}

/** A value as a message shows it: JSON, cut when long. */
export function show(value: unknown): string {
  // YAML aliases can make a small tree that is endless to write out: only its beginning is walked.
  let nodes = 0
  const beginning = (_: string, child: unknown): unknown => (nodes++ < 40 || typeof child !== 'object' ? child : '...')
  const text = value === undefined ? 'nothing' : (JSON.stringify(value, beginning) ?? typeof value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

function notText(value: unknown): string {
  const scalar = typeof value === 'number' || typeof value === 'boolean'
  return `${show(value)} is not a string${scalar ? ' (write it in quotes)' : ''}`
}

function listWords(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
