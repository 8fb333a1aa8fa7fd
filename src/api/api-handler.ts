import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { answerReview, findReview, refuseImpersonation, type Asker } from './access-review.ts'
import { ApiError } from './api-error.ts'
import { admitNode, authorizeNode } from './authorize-node.ts'
import { describeAll, describeGroup, describeGroups, describeResources, describeVersions } from './discovery.ts'
import type { Admit, KubeApi, Patch, Target, WriteOptions, Written } from './kube-api.ts'
import { textAt, type JsonObject, type KubeObject } from './kube-object.ts'
import type { ObjectList } from './list-objects.ts'
import { readListRevision } from './list-revision.ts'
import { negotiate, type Representation } from './negotiate.ts'
import type { NodeRole } from './node-tokens.ts'
import { openApiIndex, openApiProtobufType, openApiV2, openApiV2Protobuf, openApiV3 } from './open-api.ts'
import { parsePath, type ApiPath } from './parse-path.ts'
import type { Removal } from './remove-object.ts'
import { mediaType, readBody } from './request-body.ts'
import { eventsGroup, fromCoreEvent, toCoreEvent } from './events-group.ts'
import {
  isTrue,
  readDryRun,
  readFieldManager,
  readInclude,
  readListOptions,
  readNumber,
  readPreconditions,
  readValidation,
} from './read-query.ts'
import { groupVersion, qualifiedName, resourceTypeOf, type ResourceType } from './resources.ts'
import { backupPath, serveBackup } from './serve-backup.ts'
import { describeTable, partial } from './table.ts'
import { drained, type WatchHub } from './watch-objects.ts'

/** What a client may do. */
export type Role = 'admin' | 'read-only' | NodeRole

/** What the handler works with. */
export interface HandlerOptions {
  readonly api: KubeApi
  readonly hub: WatchHub
  /** Who a request is from; undefined: nobody known. */
  readonly authenticate: (request: IncomingMessage) => Role | undefined
  /** Makes a copy of everything and returns its path. */
  readonly backup: () => Promise<string>
  /** Of the program, for `/version`. */
  readonly version: string
  readonly clock: Clock
  readonly log: Log
}

/** The version of Kubernetes whose API this is like; kubectl compares it with its own. */
const likeKubernetes = { major: '1', minor: '36' }
/** Objects that a list writes before others have their turn. */
const objectsPerTurn = 200

/** Answers HTTP requests as the API server of Kubernetes does. */
export function createApiHandler(
  options: HandlerOptions,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    serve(options, request, response).catch((error: unknown) => {
      answerError(options.log, response, error)
    })
  }
}

interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly query: URLSearchParams
  readonly accepts: Representation
  readonly role: Role | undefined
  readonly options: HandlerOptions
  /** How an object is shown that has other words in the group of the path; undefined: as it is. */
  readonly show?: (object: object) => JsonObject
  /** The body of the request, in the words that objects are kept in. */
  readonly body: () => Promise<unknown>
}

interface Sides {
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

async function serve(options: HandlerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = '', search = ''] = (request.url ?? '').split('?', 2)
  const target = parsePath(path)
  const open = target.kind === 'health' || target.kind === 'version'
  const role = options.authenticate(request)
  if (role === undefined && !open) throw new ApiError('Unauthorized', 'Unauthorized')
  if (role !== undefined) refuseImpersonation(request.headers, askerOf(role).user)
  if (path === backupPath && role === 'admin' && request.method === 'GET') return serveBackup(response, options.backup)
  const review = findReview(path)
  if (review && role !== undefined) {
    if (request.method !== 'POST') throw methodNotAllowed(request)
    return answer(response, 201, answerReview(review, await readBody(request), askerOf(role)))
  }
  const reads = request.method === 'GET' || request.method === 'HEAD'
  const writer = role === 'admin' || nodeOf(role) !== undefined
  if (!writer && !reads) throw new ApiError('Forbidden', `this token may not ${request.method} ${path}`)
  if (target.kind === 'openapi') return serveOpenApi(options, target.path, { request, response })
  const accepts = negotiate(request.headers.accept)
  const body = (): Promise<unknown> => readBody(request)
  const exchange = { request, response, query: new URLSearchParams(search), accepts, role, options, body }
  if (target.kind === 'resource' && target.type === eventsGroup) {
    const core = { ...target, type: resourceTypeOf('Event') }
    return serveResource({ ...exchange, show: fromCoreEvent, body: async () => toCoreEvent(await body()) }, core)
  }
  if (target.kind === 'resource') return serveResource(exchange, target)
  if (!reads) throw target.kind === 'unknown' ? noSuchPath() : methodNotAllowed(request)
  serveDiscovery(exchange, target)
}

function serveDiscovery(
  { response, accepts, options }: Exchange,
  target: Exclude<ApiPath, { kind: 'resource' }>,
): void {
  switch (target.kind) {
    case 'health':
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('ok')
      return
    case 'version':
      return answer(response, 200, {
        ...likeKubernetes,
        gitVersion: `v${likeKubernetes.major}.${likeKubernetes.minor}.0+fairlead-${options.version}`,
        gitTreeState: 'clean',
        platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
      })
    case 'versions':
    case 'groups': {
      const core = target.kind === 'versions'
      if (accepts.kind !== 'discovery') return answer(response, 200, core ? describeVersions() : describeGroups())
      const type = `application/json;g=apidiscovery.k8s.io;v=${accepts.version};as=APIGroupDiscoveryList`
      return answer(response, 200, describeAll(core ? 'core' : 'named', accepts.version), { 'content-type': type })
    }
    case 'group': {
      const group = describeGroup(target.group)
      if (!group) throw noSuchPath()
      return answer(response, 200, group)
    }
    case 'resources':
      return answer(response, 200, describeResources(target.groupVersion))
    case 'openapi':
    case 'unknown':
      throw noSuchPath()
    default:
      target satisfies never
  }
}

function serveOpenApi({ api }: HandlerOptions, path: string, { request, response }: Sides): void {
  if (path === 'openapi/v2' && /proto-openapi\.spec\.v2.*\+protobuf$/.test(request.headers.accept ?? '')) {
    response.writeHead(200, { 'content-type': openApiProtobufType }).end(openApiV2Protobuf())
    return
  }
  if (path === 'openapi/v2') return answer(response, 200, openApiV2(api.schema))
  if (path === 'openapi/v3') return answer(response, 200, openApiIndex(api.schema))
  const version = path.replace(/^openapi\/v3\/(api|apis)\//, '')
  const document = version === path ? undefined : openApiV3(api.schema, version)
  if (!document) throw noSuchPath()
  answer(response, 200, document)
}

async function serveResource(exchange: Exchange, path: ApiPath & { kind: 'resource' }): Promise<void> {
  const { request, response, query, options } = exchange
  const { type, namespace, name } = path
  if (path.subresource !== '' && !(path.subresource === 'status' && type.hasStatus)) throw noSuchPath()
  const subresource = path.subresource === 'status' ? 'status' : ''
  const target: Target = { type, namespace, name, subresource }
  const { api } = options
  const node = nodeOf(exchange.role)
  const reads = request.method === 'GET' || request.method === 'HEAD'
  // Not even the object goes with a DELETE of its status.
  if (subresource !== '' && !['GET', 'PUT', 'PATCH'].includes(request.method ?? '')) throw methodNotAllowed(request)
  if (node !== undefined && !reads) authorizeNode(node, { method: request.method ?? '', target })
  switch (`${request.method} ${name === '' ? 'all' : 'one'}`) {
    case 'GET all':
    case 'GET one':
      if (isTrue(query.get('watch'))) return watch(exchange, target)
      if (name === '') {
        const revision = readListRevision(query, api.store, qualifiedName(type))
        const list = api.list(target, readListOptions(query))
        return answerList(exchange, type, { ...list, ...(revision !== undefined && { revision }) })
      }
      return answerObjects(exchange, type, { status: 200, object: api.get(target) })
    case 'POST all':
      if (type.namespaced && namespace === '') throw methodNotAllowed(request)
      return answerWritten(exchange, type, (write) => exchange.body().then((body) => api.create(target, body, write)))
    case 'PUT one':
      return answerWritten(exchange, type, (write) => exchange.body().then((body) => api.update(target, body, write)))
    case 'PATCH one':
      return answerWritten(exchange, type, async (write) => api.patch(target, await readPatch(exchange), write))
    case 'DELETE one': {
      const body = await readBody(request)
      const removal = await api.remove(target, {
        ...readPreconditions(body),
        dryRun: readDryRun(query, body),
        admit: admitOf(exchange),
      })
      return answer(response, 200, removalStatus(type, removal))
    }
    case 'DELETE all': {
      const body = await readBody(request)
      const dryRun = readDryRun(query, body)
      const removed = await api.removeCollection(target, { ...readListOptions(exchange.query), dryRun })
      const list = {
        items: removed.map(({ object }) => object),
        revision: api.store.revision,
        continueToken: '',
        remaining: 0,
      }
      return answerList({ ...exchange, accepts: { kind: 'json' } }, type, list)
    }
    default:
      throw methodNotAllowed(request)
  }
}

function watch(exchange: Exchange, { type, namespace, name }: Target): void {
  const { query, response, options, accepts } = exchange
  const initial = query.get('sendInitialEvents')
  options.hub.watch(response, {
    type,
    namespace,
    name,
    labelSelector: query.get('labelSelector') ?? '',
    fieldSelector: query.get('fieldSelector') ?? '',
    resourceVersion: String(readNumber(query, 'resourceVersion') ?? ''),
    bookmarks: isTrue(query.get('allowWatchBookmarks')),
    sendInitialEvents: initial === null ? undefined : isTrue(initial),
    timeoutSeconds: readNumber(query, 'timeoutSeconds') || undefined,
    format: `${accepts.kind} ${accepts.kind === 'table' ? readInclude(query) : ''} ${exchange.show ? 'shown' : ''}`,
    write: writerOf(exchange, type),
  })
}

function writerOf(
  { accepts, query, options, show }: Exchange,
  type: ResourceType,
): ((object: KubeObject) => object) | undefined {
  if (accepts.kind === 'partial') return partial
  if (accepts.kind !== 'table') return show
  const include = readInclude(query)
  return (object) => {
    const metadata = { resourceVersion: object.metadata.resourceVersion }
    return describeTable(type, [object], { metadata, include, now: options.clock.now().getTime() })
  }
}

async function answerWritten(
  exchange: Exchange,
  type: ResourceType,
  run: (write: WriteOptions) => Promise<Written>,
): Promise<void> {
  const { query, request, response } = exchange
  const warnings: string[] = []
  const { object, created } = await run({
    admit: admitOf(exchange),
    fieldManager: readFieldManager(query, request.headers['user-agent']),
    fieldValidation: readValidation(query.get('fieldValidation')),
    dryRun: readDryRun(query, undefined),
    warnings,
  })
  const headers = warnings
    .slice(0, 20)
    .map((text) => `299 - ${JSON.stringify(text.slice(0, 200).replaceAll(/[^\x20-\x7e]/g, '?'))}`)
  if (headers.length > 0) response.setHeader('warning', headers)
  answerObjects(exchange, type, { status: created ? 201 : 200, object })
}

function answerObjects(exchange: Exchange, type: ResourceType, result: { status: number; object: KubeObject }): void {
  const { accepts, options, query, response, show = asItIs } = exchange
  const { object, status } = result
  const metadata = { resourceVersion: object.metadata.resourceVersion }
  const now = options.clock.now().getTime()
  if (accepts.kind === 'table') {
    return answer(response, status, describeTable(type, [object], { metadata, include: readInclude(query), now }))
  }
  answer(response, status, accepts.kind === 'partial' ? partial(object) : show(object))
}

function asItIs(object: object): object {
  return object
}

async function answerList(exchange: Exchange, type: ResourceType, list: ObjectList): Promise<void> {
  const { accepts, options, query, response, show = asItIs } = exchange
  const metadata: JsonObject = {
    resourceVersion: String(list.revision),
    ...(list.continueToken !== '' && { continue: list.continueToken, remainingItemCount: list.remaining }),
  }
  if (accepts.kind === 'table') {
    const now = options.clock.now().getTime()
    return answer(response, 200, describeTable(type, list.items, { metadata, include: readInclude(query), now }))
  }
  const whole = accepts.kind !== 'partial'
  const head = whole
    ? { kind: `${type.kind}List`, apiVersion: groupVersion(exchange.show ? eventsGroup : type), metadata }
    : { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata }
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
  response.write(`${JSON.stringify(head).slice(0, -1)},"items":[`)
  for (let from = 0; from < list.items.length; from += objectsPerTurn) {
    const some = list.items
      .slice(from, from + objectsPerTurn)
      .map((item) => JSON.stringify(whole ? show(item) : partial(item)))
    if (!response.write(`${from === 0 ? '' : ','}${some.join(',')}`)) await drained(response)
    await nextTurn()
    if (response.destroyed) return
  }
  response.end(']}\n')
}

async function readPatch(exchange: Exchange): Promise<Patch> {
  const { request, query } = exchange
  const type = mediaType(request)
  const kinds = {
    'application/json-patch+json': 'json',
    'application/merge-patch+json': 'merge',
    'application/strategic-merge-patch+json': 'strategic',
    'application/apply-patch+yaml': 'apply',
  } as const
  if (!Object.hasOwn(kinds, type)) {
    const known = Object.keys(kinds).join(', ')
    throw new ApiError(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: ${known}`,
    )
  }
  const kind = kinds[type as keyof typeof kinds]
  if (kind === 'apply' && !query.get('fieldManager')) {
    throw new ApiError(
      'Invalid',
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    )
  }
  const body = await exchange.body()
  return kind === 'apply' ? { kind, body, force: isTrue(query.get('force')) } : { kind, body }
}

function askerOf(role: Role): Asker {
  const node = nodeOf(role)
  if (node !== undefined) return { user: role, groups: ['system:nodes', 'system:authenticated'], isAdmin: false, node }
  const isAdmin = role === 'admin'
  const groups = [...(isAdmin ? ['system:masters'] : []), 'system:authenticated']
  return { user: `fairlead:${role}`, groups, isAdmin, node }
}

/** The node whose token it is; undefined: not one of a node. */
function nodeOf(role: Role | undefined): string | undefined {
  return role?.startsWith('system:node:') ? role.slice('system:node:'.length) : undefined
}

function admitOf({ role, options }: Exchange): Admit | undefined {
  const node = nodeOf(role)
  return node === undefined ? undefined : admitNode(node, options.api.store)
}

function removalStatus(type: ResourceType, { object, gone }: Removal): object {
  if (!gone) return object
  const { name, uid } = object.metadata
  const details = { name, ...(type.group !== '' && { group: type.group }), kind: type.plural, uid }
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details }
}

function noSuchPath(): ApiError {
  return new ApiError('NotFound', 'the server could not find the requested resource')
}

function methodNotAllowed(request: IncomingMessage): ApiError {
  return new ApiError('MethodNotAllowed', `the server does not allow the method ${request.method} on this path`)
}

function answer(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  const text = `${JSON.stringify(body)}\n`
  response.writeHead(status, {
    'content-type': 'application/json',
    'cache-control': 'no-cache, private',
    'content-length': String(Buffer.byteLength(text)),
    ...headers,
  })
  response.end(text)
}

function answerError(log: Log, response: ServerResponse, error: unknown): void {
  const known = error instanceof ApiError
  if (!known && textAt(error, 'code') === 'ECONNRESET') return response.destroy() as unknown as void
  if (!known || error.reason === 'InternalError') log.error({ err: error }, 'cannot answer an API request')
  if (response.headersSent) return response.destroy() as unknown as void
  const refusal = known ? error : new ApiError('InternalError', 'Internal error: see the log of fairlead')
  const { retryAfterSeconds } = refusal.details ?? {}
  // The rest of a body that nobody wants is not read: the connection ends with the answer.
  const closes = refusal.reason === 'RequestEntityTooLarge' || refusal.reason === 'Unauthorized'
  answer(response, refusal.code, refusal.toStatus(), {
    ...(retryAfterSeconds !== undefined && { 'retry-after': String(retryAfterSeconds) }),
    ...(refusal.reason === 'Unauthorized' && { 'www-authenticate': 'Bearer' }),
    ...(closes && { connection: 'close' }),
  })
}
