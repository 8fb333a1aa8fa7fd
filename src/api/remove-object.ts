import { ApiError } from './api-error.ts'
import type { KubeObject } from './kube-object.ts'
import type { Transaction } from './object-store.ts'
import { qualifiedName, resourceTypes, type ResourceType } from './resources.ts'

/** What must be so for an object to be removed. */
export interface RemoveOptions {
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined
}

/** What became of an object that was to be removed. */
export interface Removal {
  /** As it was at last. */
  readonly object: KubeObject
  /** False while its finalizers are there. */
  readonly gone: boolean
}

/** Namespaces that cannot be removed, as in Kubernetes. */
const immortal: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public'])

/** Removes an object, or marks it when finalizers must see it first. A namespace goes with all that is in it. */
export function removeObject(
  transaction: Transaction,
  request: RemoveOptions & { readonly type: ResourceType; readonly object: KubeObject; readonly now: string },
): Removal {
  const { type, object, now, preconditions } = request
  const { name, uid, resourceVersion, finalizers = [] } = object.metadata
  for (const [what, wanted, has] of [
    ['UID', preconditions?.uid, uid],
    ['ResourceVersion', preconditions?.resourceVersion, resourceVersion],
  ]) {
    if (wanted === undefined || wanted === has) continue
    const message = `Precondition failed: ${what} in precondition: ${wanted}, ${what} in object meta: ${has}`
    throw new ApiError('Conflict', `Operation cannot be fulfilled on ${qualifiedName(type)} "${name}": ${message}`)
  }
  if (type.kind === 'Namespace' && immortal.has(name)) {
    throw new ApiError('Forbidden', `namespaces "${name}" is forbidden: this namespace may not be deleted`)
  }
  const emptied = type.kind !== 'Namespace' || emptyNamespace(transaction, name, now)
  if (finalizers.length === 0 && emptied) return { object: removeIfFinal(transaction, type, object), gone: true }
  if (object.metadata.deletionTimestamp !== undefined) return { object, gone: false }
  const marked: KubeObject = {
    ...object,
    metadata: { ...object.metadata, deletionTimestamp: now, deletionGracePeriodSeconds: 0 },
    ...(type.kind === 'Namespace' && { status: { ...object.status, phase: 'Terminating' } }),
  }
  return { object: transaction.put(qualifiedName(type), marked), gone: false }
}

/** Removes an object without finalizers; and the namespace that waited for it, if it was the last. */
export function removeIfFinal(transaction: Transaction, type: ResourceType, object: KubeObject): KubeObject {
  if (type.kind === 'Namespace' && !isEmpty(transaction, object.metadata.name)) {
    return transaction.put('namespaces', object)
  }
  const last = transaction.remove(qualifiedName(type), object)
  const { namespace } = object.metadata
  const home = namespace === undefined ? undefined : transaction.get('namespaces', '', namespace)
  const waits = home?.metadata.deletionTimestamp !== undefined && (home.metadata.finalizers ?? []).length === 0
  if (home && waits && isEmpty(transaction, home.metadata.name)) transaction.remove('namespaces', home)
  return last
}

/** Removes what is in a namespace; false when something waits for its finalizers. */
function emptyNamespace(transaction: Transaction, namespace: string, now: string): boolean {
  let emptied = true
  for (const type of resourceTypes.filter(({ namespaced }) => namespaced)) {
    const objects = [...transaction.list(qualifiedName(type))].filter((o) => o.metadata.namespace === namespace)
    for (const object of objects) if (!removeObject(transaction, { type, object, now }).gone) emptied = false
  }
  return emptied
}

function isEmpty(transaction: Transaction, namespace: string): boolean {
  return resourceTypes
    .filter(({ namespaced }) => namespaced)
    .every((type) => ![...transaction.list(qualifiedName(type))].some((o) => o.metadata.namespace === namespace))
}
