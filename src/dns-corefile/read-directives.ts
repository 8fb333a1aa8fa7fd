import { CorefileError } from './corefile-error.ts'

/** A word of a Corefile, and where it stands. */
export interface Token {
  readonly text: string
  readonly line: number
  readonly file: string
  /** It stood in quotes, so it is no brace. */
  readonly quoted: boolean
}

/** A line of words, and the lines in its braces. */
export interface Directive {
  readonly name: string
  readonly args: readonly string[]
  readonly line: number
  readonly file: string
  readonly block: readonly Directive[]
}

/** A server block: the zones that it is for, and its plugins. */
export interface RawBlock {
  readonly keys: readonly string[]
  readonly line: number
  readonly file: string
  readonly plugins: readonly Directive[]
}

export interface ReadOptions {
  readonly file: string
  /** `{$NAME}` and `{%NAME%}`. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** The files that `import` of a path means, with their content. */
  readonly importFiles: (pattern: string) => readonly { readonly file: string; readonly text: string }[]
}

/** Imports within imports, at most: a file that imports itself has no end. */
const maxImports = 100

/**
 * Reads the outer form of a Corefile (Caddy's): server blocks, snippets, `import`, quotes, comments and variables. Knows no plugin.
 * Throws {@link CorefileError}.
 */
export function readServerBlocks(text: string, options: ReadOptions): readonly RawBlock[] {
  const reader = new BlockReader(options)
  reader.read(tokenize(text, options))
  return reader.blocks
}

/** Words, in quotes or not; comments are left out. */
function tokenize(text: string, { file, env }: Pick<ReadOptions, 'file' | 'env'>): Token[] {
  const tokens: Token[] = []
  const expression = /"((?:[^"\\]|\\.)*)"|#[^\n]*|\\\r?\n|\n|([^\s"#][^\s]*)/g
  let line = 1
  for (const match of text.replace(/^\uFEFF/, '').matchAll(expression)) {
    const [whole, inQuotes, word] = match
    const raw = inQuotes?.replaceAll('\\"', '"') ?? word
    if (raw !== undefined) {
      const filled = raw.replaceAll(/\{\$(\w+)\}|\{%(\w+)%\}/g, (_, unix: string, windows: string) => {
        return env[unix ?? windows] ?? ''
      })
      tokens.push({ text: filled, line, file, quoted: inQuotes !== undefined })
    }
    line += whole.split('\n').length - 1
    // A line that goes on is one line for the words on it.
    if (whole.startsWith('\\')) joinNext(tokens, line)
  }
  return tokens
}

/** The words so far of the line before `line` count as being on it. */
function joinNext(tokens: Token[], line: number): void {
  for (let i = tokens.length - 1; i >= 0 && tokens[i]?.line === line - 1; i--) {
    const token = tokens[i]
    if (token) tokens[i] = { ...token, line }
  }
}

class BlockReader {
  readonly blocks: RawBlock[] = []
  readonly #options: ReadOptions
  readonly #snippets = new Map<string, readonly Directive[]>()
  #imports = 0

  constructor(options: ReadOptions) {
    this.#options = options
  }

  read(tokens: readonly Token[]): void {
    const cursor = new Cursor(tokens, this.#options.file)
    for (let first = cursor.peek(); first; first = cursor.peek()) {
      if (first.text === 'import' && !first.quoted) {
        const [directive] = this.#lines(cursor, { until: 'line' })
        if (directive)
          for (const { file, text } of this.#filesOf(directive)) this.read(tokenize(text, { ...this.#options, file }))
        continue
      }
      const keys: string[] = []
      for (let token = cursor.peek(); token && !isBrace(token, '{'); token = cursor.peek()) {
        if (isBrace(token, '}')) throw new CorefileError(token, 'unexpected "}"')
        cursor.next()
        keys.push(...token.text.split(',').filter((key) => key !== ''))
        const following = cursor.peek()
        // Without braces there is one block, of all that follows the first line.
        if (following && following.line !== token.line && !token.text.endsWith(',') && !isBrace(following, '{')) {
          this.blocks.push({ keys, line: first.line, file: first.file, plugins: this.#lines(cursor, { until: 'end' }) })
          return
        }
      }
      if (!cursor.peek()) {
        this.blocks.push({ keys, line: first.line, file: first.file, plugins: [] })
        return
      }
      cursor.next()
      const plugins = this.#lines(cursor, { until: 'brace' })
      const snippet = keys.length === 1 ? /^\((.+)\)$/.exec(keys[0] ?? '')?.[1] : undefined
      if (snippet === undefined) this.blocks.push({ keys, line: first.line, file: first.file, plugins })
      else this.#snippets.set(snippet, plugins)
    }
  }

  /** Directives to the closing brace, to the end of the file, or just the one on this line. */
  #lines(cursor: Cursor, { until }: { until: 'brace' | 'end' | 'line' }): Directive[] {
    const list: Directive[] = []
    for (;;) {
      const first = cursor.peek()
      if (!first && until === 'brace') throw new CorefileError(cursor.end, 'a "}" is missing')
      if (!first) return list
      if (isBrace(first, '}')) {
        if (until !== 'brace') throw new CorefileError(first, 'unexpected "}"')
        cursor.next()
        return list
      }
      if (isBrace(first, '{')) throw new CorefileError(first, 'unexpected "{" at the start of a line')
      cursor.next()
      const args: string[] = []
      let block: Directive[] = []
      for (let token = cursor.peek(); token && token.line === first.line; token = cursor.peek()) {
        if (isBrace(token, '}')) break
        cursor.next()
        if (isBrace(token, '{')) {
          block = this.#lines(cursor, { until: 'brace' })
          break
        }
        args.push(token.text)
      }
      const directive = { name: first.text, args, line: first.line, file: first.file, block }
      if (until === 'line') return [directive]
      list.push(...(directive.name === 'import' ? this.#imported(directive) : [directive]))
    }
  }

  #imported(directive: Directive): readonly Directive[] {
    const [what = ''] = directive.args
    const snippet = this.#snippets.get(what)
    if (snippet) return snippet
    return this.#filesOf(directive).flatMap(({ file, text }) => {
      const cursor = new Cursor(tokenize(text, { ...this.#options, file }), file)
      return this.#lines(cursor, { until: 'end' })
    })
  }

  #filesOf(directive: Directive): readonly { readonly file: string; readonly text: string }[] {
    const [pattern] = directive.args
    if (pattern === undefined) throw new CorefileError(directive, 'import names no file and no snippet')
    if (++this.#imports > maxImports) throw new CorefileError(directive, `more than ${maxImports} imports`)
    const files = this.#options.importFiles(pattern)
    // As in Caddy: a pattern may match nothing, a plain name may not.
    if (files.length === 0 && !/[*?[]/.test(pattern))
      throw new CorefileError(directive, `import "${pattern}": there is no such snippet and no such file`)
    return files
  }
}

class Cursor {
  readonly #tokens: readonly Token[]
  readonly #file: string
  #at = 0

  constructor(tokens: readonly Token[], file: string) {
    this.#tokens = tokens
    this.#file = file
  }

  get end(): { readonly file: string; readonly line: number } {
    const { file = this.#file, line = 1 } = this.#tokens.at(-1) ?? {}
    return { file, line }
  }

  peek(): Token | undefined {
    return this.#tokens[this.#at]
  }

  next(): void {
    this.#at++
  }
}

function isBrace(token: Token, brace: '{' | '}'): boolean {
  return !token.quoted && token.text === brace
}
