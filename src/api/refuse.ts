import { ApiError } from './api-error.ts'
import type { KubeObject } from './kube-object.ts'
import type { Transaction } from './object-store.ts'
import { qualifiedName, resourceTypeOf, type ResourceType } from './resources.ts'

/** Says that there is no object of that name. */
export function notFound(type: ResourceType, name: string): never {
  const details = { name, ...(type.group !== '' && { group: type.group }), kind: type.plural }
  throw new ApiError('NotFound', `${qualifiedName(type)} "${name}" not found`, { details })
}

/** Refuses new objects in a namespace that is not there, or is going. */
export function refuseNamespace(
  transaction: Transaction,
  type: ResourceType,
  at: { namespace: string; name: string },
): void {
  const namespace =
    transaction.get('namespaces', '', at.namespace) ?? notFound(resourceTypeOf('Namespace'), at.namespace)
  if (namespace.metadata.deletionTimestamp === undefined) return
  const what = `${qualifiedName(type)} "${at.name}" is forbidden`
  throw new ApiError(
    'Forbidden',
    `${what}: unable to create new content in namespace ${at.namespace} because it is being terminated`,
  )
}

/** Optimistic concurrency: who names a version wants to be told when there is a newer one. */
export function refuseStale(type: ResourceType, before: KubeObject, given: KubeObject): void {
  const { resourceVersion = '', uid } = given.metadata
  const stale = resourceVersion !== '' && resourceVersion !== before.metadata.resourceVersion
  const replaced = uid !== undefined && uid !== '' && uid !== before.metadata.uid
  if (!stale && !replaced) return
  const why = replaced
    ? `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${before.metadata.uid}`
    : 'the object has been modified; please apply your changes to the latest version and try again'
  const name = before.metadata.name
  throw new ApiError('Conflict', `Operation cannot be fulfilled on ${qualifiedName(type)} "${name}": ${why}`, {
    details: { name, group: type.group, kind: type.plural },
  })
}
