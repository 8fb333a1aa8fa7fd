import { ApiError, ProtocolError } from './api-error.ts'

/** An object as the API gives it; only its metadata was looked at. */
export interface KubeObject {
  readonly metadata: ObjectMetadata
}

/** What every object has. */
export interface ObjectMetadata {
  readonly name: string
  /** Absent on kinds without namespaces. */
  readonly namespace?: string
  readonly resourceVersion: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** An event of a watch. */
export type WatchEvent =
  | { readonly kind: 'put'; readonly object: KubeObject }
  | { readonly kind: 'delete'; readonly object: KubeObject }
  /** `end` says that all objects of the beginning were sent (watch-list). */
  | { readonly kind: 'bookmark'; readonly resourceVersion: string; readonly end: boolean }

/** `namespace/name`, or `name`. */
export function keyOf({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`
}

/** Checks what lists and watches stand on. Throws {@link ProtocolError}. */
export function parseKubeObject(value: unknown): KubeObject {
  const metadata = isObject(value) && isObject(value['metadata']) ? value['metadata'] : {}
  const { name, namespace, resourceVersion } = metadata
  const named = typeof name === 'string' && name !== '' && (namespace === undefined || typeof namespace === 'string')
  if (!named || typeof resourceVersion !== 'string' || resourceVersion === '') {
    throw new ProtocolError('the API server sent an object without name or resourceVersion')
  }
  return value as KubeObject
}

/** Reads one line of a watch. Throws {@link ApiError} for an ERROR event, {@link ProtocolError} for what is none. */
export function parseWatchEvent(value: unknown): WatchEvent {
  if (!isObject(value)) throw new ProtocolError('the API server sent an event that is no object')
  const { type, object } = value
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
      return { kind: 'put', object: parseKubeObject(object) }
    case 'DELETED':
      return { kind: 'delete', object: parseKubeObject(object) }
    case 'BOOKMARK': {
      const metadata = isObject(object) && isObject(object['metadata']) ? object['metadata'] : {}
      const { resourceVersion, annotations } = metadata
      if (typeof resourceVersion !== 'string' || resourceVersion === '') {
        throw new ProtocolError('the API server sent a bookmark without resourceVersion')
      }
      const end = isObject(annotations) && annotations['k8s.io/initial-events-end'] === 'true'
      return { kind: 'bookmark', resourceVersion, end }
    }
    case 'ERROR':
      throw ApiError.fromStatus(object, { status: 500, text: 'an error of the watch' })
    default:
      throw new ProtocolError(`the API server sent an event of type ${JSON.stringify(type)?.slice(0, 40)}`)
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
