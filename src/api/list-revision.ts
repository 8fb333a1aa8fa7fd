import { ApiError } from './api-error.ts'
import type { ObjectStore } from './object-store.ts'
import { isTrue, readNumber } from './read-query.ts'

/**
 * Checks that the newest state answers a list of `resource` as `resourceVersion` and `resourceVersionMatch` ask for (KEP-2340).
 * Returns the revision that the answer has to name instead of the newest one, for `Exact`. Throws {@link ApiError}: 504 for a
 * revision that is not there yet, 410 for one that is not known any more.
 */
export function readListRevision(query: URLSearchParams, store: ObjectStore, resource: string): number | undefined {
  const wanted = readNumber(query, 'resourceVersion')
  const match = query.get('resourceVersionMatch') ?? ''
  refuseMatch(query, match, wanted)
  if (wanted === undefined || wanted === 0) return undefined
  if (wanted > store.revision) {
    throw new ApiError('Timeout', `Too large resource version: ${wanted}, current: ${store.revision}`, {
      details: {
        causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version', field: '' }],
        retryAfterSeconds: 1,
      },
    })
  }
  if (match !== 'Exact') return undefined
  if (wanted === store.revision || store.eventsSince(resource, wanted)?.length === 0) return wanted
  throw new ApiError('Expired', `The resourceVersion for the provided list is too old: ${wanted} (${store.revision})`)
}

function refuseMatch(query: URLSearchParams, match: string, wanted: number | undefined): void {
  if (match === '') return
  const refuse = (why: string): never => {
    throw new ApiError('Invalid', `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: ${why}`)
  }
  if (match !== 'Exact' && match !== 'NotOlderThan') {
    refuse(`Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan"`)
  }
  if (isTrue(query.get('watch'))) return
  if (wanted === undefined) refuse('Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided')
  if (query.get('continue')) refuse('Forbidden: resourceVersionMatch is forbidden when continue is provided')
  if (match === 'Exact' && wanted === 0) {
    refuse('Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
  }
}
