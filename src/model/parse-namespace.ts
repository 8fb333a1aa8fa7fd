import { ManifestError } from './manifest-error.ts'
import { ManifestReader, type ReadOptions } from './manifest-reader.ts'
import { parseLabelName } from './names.ts'
import type { Namespace } from './namespace.ts'
import { readMetadata } from './read-metadata.ts'

/** Turns a Namespace (v1) manifest into the model. Throws {@link ManifestError}. */
export function parseNamespace(manifest: unknown, options?: ReadOptions): Namespace {
  const reader = ManifestReader.of(manifest, options)
  const { name, labels } = readMetadata(reader, parseLabelName)
  if (reader.problems.length > 0) throw new ManifestError(`Namespace ${name}`, reader.problems)
  return { name, labels }
}
