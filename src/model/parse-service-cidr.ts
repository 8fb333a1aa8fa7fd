import { cidrFamily, networkOf, parseCidr, type Cidr } from '../net/cidr.ts'
import { ManifestError } from './manifest-error.ts'
import { exact, ManifestReader, show, type ReadOptions } from './manifest-reader.ts'
import { parseSubdomainName } from './names.ts'
import { readMetadata } from './read-metadata.ts'
import type { ServiceCIDR } from './service-cidr.ts'

/** Turns a ServiceCIDR (networking.k8s.io/v1) manifest into the model. Throws {@link ManifestError}. */
export function parseServiceCIDR(manifest: unknown, options?: ReadOptions): ServiceCIDR {
  const reader = ManifestReader.of(manifest, options)
  const { name } = readMetadata(reader, parseSubdomainName)
  const spec = reader.object('spec')
  const cidrs = exact(spec.parsedTexts('cidrs', (text): Cidr => networkOf(parseCidr(text))))
  if (!spec.has('cidrs')) spec.fail('cidrs', 'is missing (expected one network, or one per family)')
  if (new Set(cidrs.map(cidrFamily)).size < cidrs.length) {
    spec.fail('cidrs', `${show(spec.raw('cidrs'))} has two networks of one family (expected one per family at most)`)
  }
  if (reader.problems.length > 0) throw new ManifestError(`ServiceCIDR ${name}`, reader.problems)
  return { name, cidrs }
}
