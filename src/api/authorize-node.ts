import { ApiError } from './api-error.ts'
import { objectAt, sameJson, textAt, type KubeObject } from './kube-object.ts'
import type { Change, Target } from './kube-api.ts'
import type { ObjectStore } from './object-store.ts'
import { qualifiedName } from './resources.ts'

/*
 * What the token of a node may write: its Node, its Lease, the pods that run on it, and Events about them, as the node
 * authorizer and the admission plugin NodeRestriction of Kubernetes have it, in their words. It may read everything.
 */

/** Where the Leases of nodes are. */
export const leaseNamespace = 'kube-node-lease'
/** Labels with this prefix are an administrator's: a node that is broken into cannot draw work to itself by them. */
const restrictedLabels = /^([^/]+\.)?node-restriction\.kubernetes\.io\//

/** Refuses a request of a node by its method and path alone, before a body is read. Throws {@link ApiError}. */
export function authorizeNode(node: string, { method, target }: { method: string; target: Target }): void {
  const verb = verbOf(method, target)
  const { kind, subresource } = { kind: target.type.kind, subresource: target.subresource }
  const writes = verb === 'update' || verb === 'patch'
  switch (kind) {
    case 'Node':
      if (verb === 'create') return
      if (writes && target.name === node) return
      if (writes) throw forbidden(target, `node ${quote(node)} is not allowed to modify node ${quote(target.name)}`)
      break
    case 'Lease': {
      const own = target.namespace === leaseNamespace && (target.name === node || verb === 'create')
      if (own && verb !== 'deletecollection') return
      if (target.namespace === leaseNamespace) {
        throw refused(node, {
          verb,
          target,
          why: 'can only access node lease with the same name as the requesting node',
        })
      }
      break
    }
    case 'Pod':
      // Whose pod it is shows the object.
      if (verb === 'create' || verb === 'delete' || (writes && subresource === 'status')) return
      break
    case 'Event':
      if (verb === 'create' || verb === 'patch') return
      break
    default:
  }
  throw refused(node, { verb, target })
}

/** What looks at each change that a node makes, within its transaction. It throws {@link ApiError}. */
export function admitNode(node: string, store: ObjectStore): (change: Change) => void {
  return ({ target, before, after }) => {
    switch (target.type.kind) {
      case 'Node':
        return admitNodeObject(node, { target, before, after })
      case 'Pod':
        return admitPod(node, { target, before, after })
      case 'Lease':
        if ((after ?? before)?.metadata.name === node) return
        throw refused(node, {
          verb: 'create',
          target,
          why: 'can only access node lease with the same name as the requesting node',
        })
      case 'Event':
        for (const event of [before, after]) if (event) admitEvent(node, { target, event, store })
        return
      default:
        throw refused(node, { verb: before ? 'update' : 'create', target })
    }
  }
}

function admitNodeObject(node: string, { target, before, after }: Change): void {
  const name = (after ?? before)?.metadata.name ?? ''
  if (name !== node) throw forbidden(target, `node ${quote(node)} is not allowed to modify node ${quote(name)}`, name)
  const changed = restrictedOf(after).filter(([key, value]) => before?.metadata.labels?.[key] !== value)
  const gone = restrictedOf(before).filter(([key]) => after?.metadata.labels?.[key] === undefined)
  const keys = [...new Set([...changed, ...gone].map(([key]) => key))].sort()
  if (keys.length > 0) {
    throw forbidden(target, `is not allowed to modify labels: ${keys.join(', ')}`, name)
  }
  if (before && !sameJson(before.spec?.['taints'] ?? [], after?.spec?.['taints'] ?? [])) {
    throw forbidden(target, `node ${quote(node)} is not allowed to modify taints`, name)
  }
}

function restrictedOf(object: KubeObject | undefined): [string, string][] {
  return Object.entries(object?.metadata.labels ?? {}).filter(([key]) => restrictedLabels.test(key))
}

function admitPod(node: string, { target, before, after }: Change): void {
  const act = before ? (after ? 'update pod status for' : 'delete') : 'create'
  const theirs = [before, after]
    .filter((pod) => pod !== undefined)
    .every((pod) => textAt(pod.spec, 'nodeName') === node)
  if (theirs) return
  const name = (after ?? before)?.metadata.name ?? ''
  const message = `node ${quote(node)} can only ${act} pods with spec.nodeName set to itself`
  throw forbidden(target, message, name)
}

function admitEvent(
  node: string,
  { target, event, store }: { target: Target; event: KubeObject; store: ObjectStore },
): void {
  const involved = objectAt(event, 'involvedObject')
  const [kind, name] = [textAt(involved, 'kind'), textAt(involved, 'name')]
  const isSelf = kind === 'Node' && name === node
  // A pod that is gone already may still be told of.
  const pod = kind === 'Pod' ? store.get('pods', textAt(involved, 'namespace') || 'default', name) : undefined
  if (isSelf || (kind === 'Pod' && (!pod || textAt(pod.spec, 'nodeName') === node))) return
  const message = `node ${quote(node)} can only tell of itself and of pods with spec.nodeName set to itself`
  throw forbidden(target, message, event.metadata.name)
}

function verbOf(method: string, { name }: Target): string {
  if (method === 'DELETE') return name === '' ? 'deletecollection' : 'delete'
  return { POST: 'create', PUT: 'update', PATCH: 'patch' }[method] ?? method.toLowerCase()
}

/** In the words of Kubernetes' authorizer. */
function refused(node: string, { verb, target, why }: { verb: string; target: Target; why?: string }): ApiError {
  const { type, namespace, subresource } = target
  const resource = subresource === '' ? type.plural : `${type.plural}/${subresource}`
  const scope = namespace === '' ? 'at the cluster scope' : `in the namespace ${quote(namespace)}`
  const user = quote(`system:node:${node}`)
  const what = `User ${user} cannot ${verb} resource ${quote(resource)} in API group ${quote(type.group)} ${scope}`
  return forbidden(target, why === undefined ? what : `${what}: ${why}`)
}

function forbidden({ type, name }: Target, message: string, known = name): ApiError {
  const object = known === '' ? qualifiedName(type) : `${qualifiedName(type)} ${quote(known)}`
  const details = { ...(known !== '' && { name: known }), ...(type.group && { group: type.group }), kind: type.plural }
  return new ApiError('Forbidden', `${object} is forbidden: ${message}`, { details })
}

function quote(text: string): string {
  return JSON.stringify(text)
}
