import { ManifestError } from './manifest-error.ts'
import { ManifestReader, type ReadOptions } from './manifest-reader.ts'
import { parseLabelName } from './names.ts'
import type { NetworkManifest } from './network.ts'
import { readMetadata } from './read-metadata.ts'
import { readNetworkSettings, unknownNetworkFields } from './read-network-settings.ts'

/** The group and version of fairlead's own kinds. */
export const fairleadApi = 'fairlead.dev/v1alpha1'

/**
 * Turns a Network (fairlead.dev/v1alpha1) manifest into the model. The `spec` has the fields that a network has in the
 * configuration; unknown ones are refused, for they are typing errors. Throws {@link ManifestError}.
 */
export function parseNetworkManifest(manifest: unknown, options?: ReadOptions): NetworkManifest {
  const reader = ManifestReader.of(manifest, options)
  const { name, labels } = readMetadata(reader, parseLabelName)
  const raw = reader.raw('spec') ?? {}
  for (const { path, reason } of unknownNetworkFields(raw)) reader.problems.push({ path: `spec.${path}`, reason })
  const spec = reader.object('spec')
  readNetworkSettings(spec, { name })
  if (reader.problems.length > 0) throw new ManifestError(`Network ${name}`, reader.problems)
  const own = raw as Readonly<Record<string, unknown>>
  const all = { ...labels, ...spec.texts('labels') }
  return { name, spec: Object.keys(all).length > 0 ? { ...own, labels: all } : own }
}
