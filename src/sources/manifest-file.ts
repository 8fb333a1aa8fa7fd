import { hash } from 'node:crypto'
import type { FieldProblem } from '../model/manifest-error.ts'
import { exact, type ReadOptions } from '../model/manifest-reader.ts'
import type { ParsedManifest } from '../model/parse-manifest.ts'
import { define, type Definition } from './object-index.ts'
import { lineOf, parseDocument } from './parse-document.ts'
import type { Problem } from './source.ts'
import { splitDocuments, type DocumentText } from './split-documents.ts'

/** What is remembered of a file: the objects, and enough of each document to see whether its text changed. */
export interface ManifestFile {
  readonly path: string
  readonly documents: readonly ManifestDocument[]
  /** Objects of an earlier version that a document which is wrong now may have been meant to hold. */
  readonly kept: readonly Definition[]
}

/** One document of a file. The parsed tree is not kept: at 20,000 documents it would be most of the memory. */
export interface ManifestDocument {
  readonly digest: string
  readonly definitions: readonly Definition[]
  readonly findings: readonly Finding[]
  /** Nobody knows what objects it is meant to hold. */
  readonly broken: boolean
  /** Objects that it names but that were refused. */
  readonly refused: readonly string[]
  /** Kinds that are of no interest here. */
  readonly ignoredKinds: readonly string[]
  line: number
}

/** A problem, with its line counted from the document's first. */
interface Finding {
  readonly severity: Problem['severity']
  readonly object: string | undefined
  readonly path: string
  readonly reason: string
  readonly lineInDocument: number
}

const none: readonly never[] = Object.freeze([])

/** All definitions of a file, in order. */
export function definitionsOf(file: ManifestFile | undefined): readonly Definition[] {
  return file === undefined ? none : [...file.documents.flatMap((document) => document.definitions), ...file.kept]
}

/** The problems of a file, in order. */
export function problemsOf(file: ManifestFile): readonly Problem[] {
  return file.documents.flatMap((document, index) =>
    document.findings.map((finding): Problem => ({
      severity: finding.severity,
      file: file.path,
      document: index + 1,
      line: document.line + finding.lineInDocument,
      object: finding.object,
      path: finding.path === '' ? undefined : finding.path,
      reason: finding.reason,
    })),
  )
}

/**
 * Reads a new version of a file. Documents whose text did not change keep their objects' identity. While a document is
 * wrong, what it held last stays. A generator: it pauses after each document, so that the caller can let other
 * work happen during a long file.
 */
export function* readManifestFile(
  text: string,
  options: ReadOptions & { readonly path: string; readonly before: ManifestFile | undefined },
): Generator<void, ManifestFile> {
  const { path, before } = options
  const format = path.endsWith('.json') ? 'json' : 'yaml'
  const texts = format === 'json' ? [{ text, line: 1 }] : splitDocuments(text)
  const known = new Map<string, ManifestDocument[]>()
  for (const document of before?.documents ?? []) {
    const same = known.get(document.digest)
    if (same) same.push(document)
    else known.set(document.digest, [document])
  }
  const documents: ManifestDocument[] = []
  for (const [index, source] of texts.entries()) {
    const digest = hash('sha1', source.text.trimEnd(), 'base64')
    const same = known.get(digest)?.shift()
    if (same) moveDocument(same, index + 1, source.line)
    documents.push(same ?? readDocument(source, { ...options, format, number: index + 1, digest }))
    yield
  }
  return { path, documents, kept: keptDefinitions(before, documents) }
}

/**
 * A document that went wrong in this edit keeps what vanished in this edit, unless it names its object and so says what it
 * stands for. What was kept before stays until everything in the file is right.
 */
function keptDefinitions(before: ManifestFile | undefined, documents: readonly ManifestDocument[]): Definition[] {
  const wrong = documents.filter((document) => document.broken || document.refused.length > 0)
  if (!before || wrong.length === 0) return []
  const known = new Set(before.documents)
  const idsBefore = new Set(definitionsOf(before).map((definition) => definition.id))
  const refused = new Set(wrong.flatMap((document) => document.refused))
  const unclear = wrong.some(
    (document) => !known.has(document) && (document.broken || document.refused.some((id) => !idsBefore.has(id))),
  )
  const vanished = before.documents
    .flatMap((document) => document.definitions)
    .filter((definition) => unclear || refused.has(definition.id))
  const defined = new Set(documents.flatMap((document) => document.definitions.map((definition) => definition.id)))
  return [...vanished, ...before.kept].filter((definition) => {
    if (defined.has(definition.id)) return false
    defined.add(definition.id)
    return true
  })
}

function moveDocument(document: ManifestDocument, number: number, line: number): void {
  const by = line - document.line
  document.line = line
  for (const definition of document.definitions) {
    definition.document = number
    definition.line += by
  }
}

function readDocument(
  source: DocumentText,
  options: ReadOptions & { path: string; format: 'yaml' | 'json'; number: number; digest: string },
): ManifestDocument {
  const parsed = parseDocument(source, options)
  if (parsed.kind === 'broken') {
    const lineInDocument = parsed.line - source.line
    const finding: Finding = { severity: 'error', object: undefined, path: '', reason: parsed.reason, lineInDocument }
    return { ...nothing(options.digest, source.line), findings: [finding], broken: true }
  }
  const place = { file: options.path, document: options.number, line: source.line }
  const definitions: Definition[] = []
  const findings: Finding[] = []
  const refused: string[] = []
  const ignoredKinds: string[] = []
  const report = (severity: Problem['severity'], object: string, problems: readonly FieldProblem[]) => {
    for (const { path, reason } of problems) {
      const lineInDocument = lineOf(source, { path, reason }) - source.line
      findings.push({ severity, object, path, reason, lineInDocument })
    }
  }
  for (const manifest of parsed.manifests) readParsed(manifest)
  function readParsed(manifest: ParsedManifest): void {
    switch (manifest.kind) {
      case 'object': {
        const definition = define(manifest.object, place)
        definitions.push(definition)
        report('error', definition.id, manifest.problems)
        return
      }
      case 'skipped':
        report('skipped', manifest.id, [manifest.problem])
        return
      case 'ignored':
        ignoredKinds.push(manifest.apiKind)
        return
      case 'refused':
        refused.push(manifest.id)
        report('error', manifest.id, manifest.problems)
        return
      default:
        return manifest satisfies never
    }
  }
  return {
    ...nothing(options.digest, source.line),
    definitions: exact(definitions),
    findings: findings.length === 0 ? none : findings,
    refused: refused.length === 0 ? none : refused,
    ignoredKinds: ignoredKinds.length === 0 ? none : ignoredKinds,
  }
}

function nothing(digest: string, line: number): ManifestDocument {
  return { digest, line, definitions: none, findings: none, broken: false, refused: none, ignoredKinds: none }
}
