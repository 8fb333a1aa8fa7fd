import { CORE_SCHEMA, loadAll, YAMLException } from 'js-yaml'
import type { FieldProblem } from '../../src/model/manifest-error.ts'
import { type ManifestReader, show } from '../../src/model/manifest-reader.ts'
import { ParseError } from '../../src/net/parse-error.ts'

/** A case file that cannot be used, with everything that is wrong with it. */
export class CaseError extends Error {
  override readonly name = 'CaseError'
  readonly file: string
  readonly problems: readonly FieldProblem[]

  constructor(file: string, problems: readonly FieldProblem[]) {
    super(
      `${file}: ${problems.map(({ path, reason }) => `${path === '' ? '(whole file)' : path}: ${reason}`).join('; ')}`,
    )
    this.file = file
    this.problems = problems
  }
}

/** The one document of a case file. Throws {@link CaseError}. */
export function parseYaml(text: string, file: string): unknown {
  let documents: unknown[]
  try {
    documents = loadAll(text, { schema: CORE_SCHEMA }).filter((document) => document !== null)
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error
    const line = error.mark ? `line ${error.mark.line + 1}: ` : ''
    throw new CaseError(file, [{ path: '', reason: `not YAML: ${line}${error.reason}` }])
  }
  if (documents.length === 1) return documents[0]
  throw new CaseError(file, [{ path: '', reason: `has ${documents.length} documents (expected one)` }])
}

/** Reads a field that must be there. */
export function required<T>(reader: ManifestReader, key: string, read: (key: string) => T | undefined): T | undefined {
  if (!reader.has(key)) return reader.fail(key, 'is missing')
  return read(key)
}

/** A key that nobody reads is a typing error. */
export function refuseUnknown(reader: ManifestReader, known: readonly string[]): void {
  for (const key of reader.keys()) {
    if (!known.includes(key)) reader.fail(key, `unknown key (expected one of: ${known.join(', ')})`)
  }
}

/** Throws {@link ParseError}. */
export function notEmpty(text: string): string {
  if (text.trim() !== '') return text
  throw new ParseError('is empty')
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 }

/** Milliseconds of `500ms`, `2s`, `1.5s`, `1m`. Throws {@link ParseError}. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text.trim())
  const unit = unitMs[match?.[2] ?? '']
  if (!match || unit === undefined) throw new ParseError(`${show(text)} is not a duration (expected like 2s or 500ms)`)
  return Number(match[1]) * unit
}
