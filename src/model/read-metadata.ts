import type { ManifestReader } from './manifest-reader.ts'
import { parseLabelName } from './names.ts'

/** The parts of `metadata` that the model keeps. */
export interface Metadata {
  /** `default` when the manifest gives none. */
  readonly namespace: string
  /** As written, even when a problem was reported; empty when it is not a text. */
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly creationTimestamp: string | undefined
}

/** Reads `metadata`; `parseName` says what names this kind may have. Problems go to the reader. */
export function readMetadata(reader: ManifestReader, parseName: (text: string) => string): Metadata {
  const metadata = reader.object('metadata')
  if (!metadata.has('name')) metadata.fail('name', 'is missing')
  return {
    namespace: metadata.parsedText('namespace', parseLabelName) ?? 'default',
    name: metadata.parsedText('name', parseName) ?? rawText(metadata.raw('name')),
    labels: metadata.texts('labels'),
    creationTimestamp: metadata.text('creationTimestamp'),
  }
}

function rawText(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
