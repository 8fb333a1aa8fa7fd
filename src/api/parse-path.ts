import { reviewTypes } from './access-review.ts'
import { eventsGroup } from './events-group.ts'
import { groupVersion, resourceTypes, type ResourceType } from './resources.ts'

/** What a path means. */
export type ApiPath =
  | {
      readonly kind: 'resource'
      readonly type: ResourceType
      readonly namespace: string
      readonly name: string
      readonly subresource: string
    }
  /** `/api`, `/apis`, `/apis/GROUP`, `/api/v1`, `/apis/GROUP/VERSION` */
  | { readonly kind: 'versions' }
  | { readonly kind: 'groups' }
  | { readonly kind: 'group'; readonly group: string }
  | { readonly kind: 'resources'; readonly groupVersion: string }
  | { readonly kind: 'openapi'; readonly path: string }
  | { readonly kind: 'version' }
  | { readonly kind: 'health' }
  | { readonly kind: 'unknown' }

/** Reads a path of the Kubernetes API. `path` has no query; its parts may be percent-encoded. */
export function parsePath(path: string): ApiPath {
  const parts = path.split('/').slice(1)
  if (parts.at(-1) === '') parts.pop()
  const decoded: string[] = []
  for (const part of parts) {
    const text = decode(part)
    // A slash or a dot inside a part would mean another path to whoever looks at it next.
    if (
      text === undefined ||
      text === '' ||
      text === '.' ||
      text === '..' ||
      ['/', '%', '\0'].some((character) => text.includes(character))
    )
      return { kind: 'unknown' }
    decoded.push(text)
  }
  const [root, ...rest] = decoded
  switch (root) {
    case 'healthz':
    case 'livez':
    case 'readyz':
      return { kind: 'health' }
    case 'version':
      return rest.length === 0 ? { kind: 'version' } : { kind: 'unknown' }
    case 'openapi':
      return { kind: 'openapi', path: decoded.join('/') }
    case 'api':
      if (rest.length === 0) return { kind: 'versions' }
      return parseResource(rest[0] ?? '', rest.slice(1))
    case 'apis':
      if (rest.length === 0) return { kind: 'groups' }
      if (rest.length === 1) return { kind: 'group', group: rest[0] ?? '' }
      return parseResource(rest.slice(0, 2).join('/'), rest.slice(2))
    default:
      return { kind: 'unknown' }
  }
}

function parseResource(version: string, parts: readonly string[]): ApiPath {
  const types = [...resourceTypes, eventsGroup].filter((type) => groupVersion(type) === version)
  const reviews = reviewTypes.some((type) => `${type.group}/${type.version}` === version)
  if (types.length === 0 && !reviews) return { kind: 'unknown' }
  if (parts.length === 0) return { kind: 'resources', groupVersion: version }
  // `namespaces/NAME/status` is of the namespace itself, `namespaces/NAME/services` is inside it.
  const inside = parts[0] === 'namespaces' && parts.length > 2 && !['status', 'finalize'].includes(parts[2] ?? '')
  const namespace = inside ? (parts[1] ?? '') : ''
  const [plural, name = '', subresource = '', ...more] = inside ? parts.slice(2) : parts
  const type = types.find((type) => type.plural === plural)
  if (!type || more.length > 0 || (inside && !type.namespaced)) return { kind: 'unknown' }
  if (type.namespaced && !inside && name !== '') return { kind: 'unknown' }
  return { kind: 'resource', type, namespace, name, subresource }
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
