import { ApiError } from './api-error.ts'

/** What a client wants to be answered with. */
export type Representation =
  | { readonly kind: 'json' }
  | { readonly kind: 'table' }
  | { readonly kind: 'partial' }
  /** Discovery of everything at once. */
  | { readonly kind: 'discovery'; readonly version: 'v2' | 'v2beta1' }

/** Reads an Accept header: the first of its types that the server has counts. Throws {@link ApiError} (406). */
export function negotiate(accept: string | undefined): Representation {
  const types = (accept ?? '').split(',').filter((type) => type.trim() !== '')
  if (types.length === 0) return { kind: 'json' }
  for (const type of types) {
    const [name = '', ...rest] = type.split(';').map((part) => part.trim())
    if (!['application/json', '*/*', 'application/*'].includes(name.toLowerCase())) continue
    const parameters = Object.fromEntries(rest.map((part) => part.split('=', 2)))
    const { as, g, v } = parameters as Record<string, string | undefined>
    if (as === undefined) return { kind: 'json' }
    if (g === 'meta.k8s.io' && v === 'v1' && as === 'Table') return { kind: 'table' }
    if (g === 'meta.k8s.io' && v === 'v1' && as.startsWith('PartialObjectMetadata')) return { kind: 'partial' }
    if (g === 'apidiscovery.k8s.io' && as === 'APIGroupDiscoveryList' && (v === 'v2' || v === 'v2beta1')) {
      return { kind: 'discovery', version: v }
    }
  }
  throw new ApiError('NotAcceptable', 'only the following media types are accepted: application/json')
}
