import type { IncomingHttpHeaders } from 'node:http'
import { ApiError } from './api-error.ts'
import { authorizeNode } from './authorize-node.ts'
import { isJsonObject, objectAt, textAt, type JsonObject } from './kube-object.ts'
import { resourceTypes, type ResourceType } from './resources.ts'

/** A kind that is only asked about: it is created, answered, and not stored. */
export interface ReviewType {
  readonly group: string
  readonly version: 'v1'
  readonly kind: string
  readonly plural: string
}

/** Who asks. */
export interface Asker {
  readonly user: string
  readonly groups: readonly string[]
  /** May do everything. */
  readonly isAdmin: boolean
  /** Of a node: its name. */
  readonly node: string | undefined
}

/** What `kubectl auth can-i` and `kubectl auth whoami` ask. */
export const reviewTypes: readonly ReviewType[] = [
  { group: 'authentication.k8s.io', version: 'v1', kind: 'SelfSubjectReview', plural: 'selfsubjectreviews' },
  { group: 'authorization.k8s.io', version: 'v1', kind: 'SelfSubjectAccessReview', plural: 'selfsubjectaccessreviews' },
  { group: 'authorization.k8s.io', version: 'v1', kind: 'SelfSubjectRulesReview', plural: 'selfsubjectrulesreviews' },
]

/** The kind at `/apis/GROUP/VERSION/PLURAL`; undefined when that is no review. */
export function findReview(path: string): ReviewType | undefined {
  return reviewTypes.find(({ group, version, plural }) => path === `/apis/${group}/${version}/${plural}`)
}

/** Answers a review: the object that was sent, with its status. Throws {@link ApiError} when it is of another kind. */
export function answerReview(type: ReviewType, body: unknown, asker: Asker): object {
  const apiVersion = `${type.group}/${type.version}`
  const kind = isJsonObject(body) ? (body['kind'] ?? type.kind) : undefined
  if (!isJsonObject(body) || kind !== type.kind || (body['apiVersion'] ?? apiVersion) !== apiVersion) {
    throw new ApiError('BadRequest', `the body must be a ${type.kind} of ${apiVersion}`)
  }
  const spec = objectAt(body, 'spec')
  const whole = { kind: type.kind, apiVersion, metadata: { creationTimestamp: null } }
  switch (type.kind) {
    case 'SelfSubjectReview':
      return { ...whole, status: { userInfo: { username: asker.user, groups: [...asker.groups] } } }
    case 'SelfSubjectRulesReview':
      return { ...whole, spec, status: rulesOf(asker) }
    default:
      return { ...whole, spec, status: reviewAccess(spec, asker) }
  }
}

function reviewAccess(spec: JsonObject, asker: Asker): object {
  if (asker.isAdmin) return { allowed: true, reason: 'the token is of an administrator' }
  const verb = textAt(
    isJsonObject(spec['resourceAttributes']) ? spec['resourceAttributes'] : spec['nonResourceAttributes'],
    'verb',
  )
  if (['get', 'list', 'watch'].includes(verb)) return { allowed: true, reason: 'every token may read everything' }
  const attributes = objectAt(spec, 'resourceAttributes')
  const type = resourceTypes.find(
    ({ group, plural }) => group === textAt(attributes, 'group') && plural === textAt(attributes, 'resource'),
  )
  if (asker.node === undefined || type === undefined) return { allowed: false, reason: 'the token may only read' }
  const reason = refusalOf(asker.node, { type, attributes, verb })
  return reason === undefined ? { allowed: true } : { allowed: false, reason }
}

const methods: Readonly<Record<string, string>> = {
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETE',
}

/** Whose pod it is shows only when it is written; this says what the path alone says. */
function refusalOf(
  node: string,
  { type, attributes, verb }: { type: ResourceType; attributes: JsonObject; verb: string },
): string | undefined {
  const method = methods[verb]
  if (method === undefined) return `no verb ${JSON.stringify(verb)} is known here`
  const subresource = textAt(attributes, 'subresource') === 'status' ? 'status' : ''
  const name = textAt(attributes, 'name') || (verb === 'create' || verb === 'deletecollection' ? '' : '*')
  try {
    authorizeNode(node, { method, target: { type, namespace: textAt(attributes, 'namespace'), name, subresource } })
    return undefined
  } catch (error) {
    if (error instanceof ApiError) return error.message
    throw error
  }
}

function rulesOf({ isAdmin, node }: Asker): object {
  const verbs = isAdmin ? ['*'] : ['get', 'list', 'watch']
  const own =
    node === undefined
      ? []
      : [
          {
            verbs: ['create', 'update', 'patch'],
            apiGroups: [''],
            resources: ['nodes', 'nodes/status'],
            resourceNames: [node],
          },
          { verbs: ['create', 'delete'], apiGroups: [''], resources: ['pods'] },
          { verbs: ['update', 'patch'], apiGroups: [''], resources: ['pods/status'] },
          { verbs: ['create', 'patch'], apiGroups: [''], resources: ['events'] },
          { verbs: ['*'], apiGroups: ['coordination.k8s.io'], resources: ['leases'], resourceNames: [node] },
        ]
  return {
    resourceRules: [{ verbs, apiGroups: ['*'], resources: ['*'] }, ...own],
    nonResourceRules: [{ verbs: isAdmin ? ['*'] : ['get'], nonResourceURLs: ['*'] }],
    incomplete: false,
  }
}

/** Nobody may act as somebody else: kubectl's `--as` would otherwise do as its own user what another may not. Throws {@link ApiError}. */
export function refuseImpersonation(headers: IncomingHttpHeaders, user: string): void {
  if (!Object.keys(headers).some((name) => name.startsWith('impersonate-'))) return
  const whom = JSON.stringify(String(headers['impersonate-user'] ?? ''))
  const why = `User ${JSON.stringify(user)} cannot impersonate resource "users" in API group "" at the cluster scope`
  throw new ApiError('Forbidden', `users ${whom} is forbidden: ${why}`)
}
