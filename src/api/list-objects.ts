import { randomUUID } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import { ApiError } from './api-error.ts'
import type { KubeObject } from './kube-object.ts'
import type { ObjectStore } from './object-store.ts'
import { qualifiedName, type ResourceType } from './resources.ts'
import { parseFieldSelector, parseLabelSelector, selectedName } from './selectors.ts'

/** Which objects, and how many at once. */
export interface ListOptions {
  readonly labelSelector: string
  readonly fieldSelector: string
  /** 0: all. */
  readonly limit: number
  /** Where an earlier list ended; empty at first. */
  readonly continueToken: string
}

/** One page of objects, of one revision. */
export interface ObjectList {
  readonly items: readonly KubeObject[]
  readonly revision: number
  /** Empty at the end. */
  readonly continueToken: string
  readonly remaining: number
}

interface OpenList {
  readonly resource: string
  readonly rest: readonly KubeObject[]
  readonly revision: number
  readonly opened: number
}

/** Lists that were begun, by their tokens. */
export type OpenLists = Map<string, OpenList>

/** A list must be read to its end within this time, ms. */
const patienceMs = 300_000
/** As randomUUID() makes them. */
const tokenForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
/** Begun lists that are kept; the oldest go first. They hold nothing but references. */
const maxOpen = 100

/** Lists objects. Further pages are of the revision of the first; after some minutes they are gone (410). */
export function listObjects(
  from: { readonly store: ObjectStore; readonly open: OpenLists; readonly clock: Clock },
  which: { readonly type: ResourceType; readonly namespace: string },
  options: ListOptions,
): ObjectList {
  const { store, open, clock } = from
  const resource = qualifiedName(which.type)
  const now = clock.monotonic()
  for (const [token, list] of open) if (now - list.opened > patienceMs || open.size > maxOpen) open.delete(token)
  let revision = store.revision
  let items: readonly KubeObject[]
  if (options.continueToken !== '') {
    if (!tokenForm.test(options.continueToken)) throw new ApiError('BadRequest', 'continue key is not valid')
    const begun = open.get(options.continueToken)
    if (begun?.resource !== resource) {
      throw new ApiError(
        'Expired',
        'The provided continue parameter is too old to display a consistent list result. Start a new list without the continue parameter.',
      )
    }
    ;({ rest: items, revision } = begun)
  } else items = chosen(store, which, options)
  if (options.limit <= 0 || items.length <= options.limit) return { items, revision, continueToken: '', remaining: 0 }
  const rest = items.slice(options.limit)
  const continueToken = randomUUID()
  open.set(continueToken, { resource, rest, revision, opened: now })
  return { items: items.slice(0, options.limit), revision, continueToken, remaining: rest.length }
}

function chosen(
  store: ObjectStore,
  { type, namespace }: { readonly type: ResourceType; readonly namespace: string },
  { labelSelector, fieldSelector }: ListOptions,
): readonly KubeObject[] {
  const byLabel = parseLabelSelector(labelSelector)
  const byField = parseFieldSelector(fieldSelector, type.selectableFields)
  const resource = qualifiedName(type)
  const name = selectedName(fieldSelector)
  if (name !== undefined && (namespace !== '' || !type.namespaced)) {
    const one = store.get(resource, namespace, name)
    return one && byLabel(one) && byField(one) ? [one] : []
  }
  const all = store.list(resource)
  if (namespace === '' && labelSelector === '' && fieldSelector === '') return all
  return all.filter(
    (object) => (namespace === '' || object.metadata.namespace === namespace) && byLabel(object) && byField(object),
  )
}
