import { CORE_SCHEMA, load, mergeTag, YAMLException } from 'js-yaml'
import type { FieldProblem } from '../model/manifest-error.ts'
import type { ReadOptions } from '../model/manifest-reader.ts'
import { parseManifest, type ParsedManifest } from '../model/parse-manifest.ts'
import { lineAt, locateField } from './locate-field.ts'
import type { DocumentText } from './split-documents.ts'

/** What a document of a file holds. */
export type ParsedDocument =
  | { readonly kind: 'parsed'; readonly manifests: readonly ParsedManifest[] }
  /** Not YAML, or not JSON: what it was meant to hold is unknown. `line` counts from 1 within the file. */
  | { readonly kind: 'broken'; readonly reason: string; readonly line: number }

/** `<<: *base` is YAML 1.1, but kubectl takes it, so people write it. */
const schema = CORE_SCHEMA.withTags(mergeTag)

/** Parses one document of a YAML stream, or a JSON file. */
export function parseDocument(
  document: DocumentText,
  options: ReadOptions & { readonly format: 'yaml' | 'json' },
): ParsedDocument {
  let value: unknown
  try {
    value = options.format === 'json' ? (JSON.parse(document.text) as unknown) : load(document.text, { schema })
  } catch (error) {
    return explain(error, document)
  }
  // `---` followed by nothing but a null is an empty document, as templates leave them.
  if (value === null) return { kind: 'parsed', manifests: [] }
  return { kind: 'parsed', manifests: parseManifest(value, options) }
}

/** The line of the file, counted from 1, that a problem is about. JSON is found the same way, being YAML. */
export function lineOf(document: DocumentText, problem: FieldProblem): number {
  try {
    return document.line + locateField(document.text, problem.path)
  } catch {
    // The position is a courtesy: what cannot be walked twice is reported at its first line.
    return document.line
  }
}

function explain(error: unknown, document: DocumentText): ParsedDocument {
  if (error instanceof YAMLException) {
    return { kind: 'broken', reason: `not YAML: ${error.reason}`, line: document.line + (error.mark?.line ?? 0) }
  }
  if (error instanceof SyntaxError) {
    const position = /at position (\d+)/.exec(error.message)?.[1]
    const line = position === undefined ? 0 : lineAt(document.text, Number(position))
    return { kind: 'broken', reason: `not JSON: ${error.message}`, line: document.line + line }
  }
  // js-yaml asks to catch everything: a hostile document may exhaust the stack, for one. That is the document's fault.
  return { kind: 'broken', reason: `not YAML: ${String(error)}`, line: document.line }
}
