import { createHash } from 'node:crypto'
import { groupVersion, resourceTypes, type ResourceType } from './resources.ts'
import type { Schema, SchemaNode, SchemaType } from './schema.ts'

/** The index of `/openapi/v3`: where the document of each group and version is. */
export function openApiIndex(schema: Schema): object {
  const versions = [...new Set(resourceTypes.map(groupVersion))]
  const paths = versions.map((version) => {
    const path = version.includes('/') ? `apis/${version}` : `api/${version}`
    const hash = createHash('sha256')
      .update(JSON.stringify(openApiV3(schema, version)))
      .digest('hex')
    return [path, { serverRelativeURL: `/openapi/v3/${path}?hash=${hash.toUpperCase()}` }]
  })
  return { paths: Object.fromEntries(paths) }
}

/** The OpenAPI 3 document of one group and version; undefined when there is none. */
export function openApiV3(schema: Schema, version: string): object | undefined {
  const types = resourceTypes.filter((type) => groupVersion(type) === version)
  if (types.length === 0) return undefined
  const schemas = definitions(schema, types, '#/components/schemas/')
  const paths = Object.fromEntries(types.flatMap((type) => describePaths(type, 3)))
  return { openapi: '3.0.0', info: { title: 'fairlead', version: 'v1' }, paths, components: { schemas } }
}

/** The media type of OpenAPI 2 in protobuf, which kubectl asks for where it meets a kind that the server does not have. */
export const openApiProtobufType = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf'

/** An OpenAPI 2 document without definitions (gnostic's Document): enough for kubectl to say that the kind is not there. */
export function openApiV2Protobuf(): Buffer {
  const text = (number: number, value: Buffer): Buffer =>
    Buffer.concat([Buffer.from([(number << 3) | 2, value.length]), value])
  const info = Buffer.concat([text(1, Buffer.from('fairlead')), text(2, Buffer.from('v1'))])
  return Buffer.concat([text(1, Buffer.from('2.0')), text(2, info)])
}

/** The OpenAPI 2 document of everything. */
export function openApiV2(schema: Schema): object {
  const paths = Object.fromEntries(resourceTypes.flatMap((type) => describePaths(type, 2)))
  return {
    swagger: '2.0',
    info: { title: 'fairlead', version: 'v1' },
    paths,
    definitions: definitions(schema, resourceTypes, '#/definitions/'),
  }
}

function describePaths(type: ResourceType, version: 2 | 3): [string, object][] {
  const root = type.group === '' ? `/api/${type.version}` : `/apis/${groupVersion(type)}`
  const base = `${root}/${type.namespaced ? 'namespaces/{namespace}/' : ''}${type.plural}`
  const gvk = { group: type.group, version: type.version, kind: type.kind }
  const queries = ['dryRun', 'fieldManager', 'fieldValidation'].map((name) => ({
    name,
    in: 'query',
    description:
      { dryRun: 'All: change nothing', fieldManager: 'Who sets the fields' }[name] ?? 'Strict, Warn or Ignore',
    ...(version === 2 ? { type: 'string' } : { schema: { type: 'string' } }),
  }))
  const operation = (action: string, parameters: readonly object[]): object => ({
    operationId: `${action}${groupVersion(type).replaceAll(/[^a-zA-Z0-9]/g, '_')}${type.kind}${parameters.length}`,
    parameters,
    responses: { 200: { description: 'OK' } },
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
  })
  return [
    [base, { get: operation('list', []), post: operation('post', queries) }],
    [
      `${base}/{name}`,
      {
        get: operation('get', []),
        put: operation('put', queries),
        patch: operation('patch', [...queries, { ...queries[0], name: 'force' }]),
        delete: operation('delete', []),
      },
    ],
  ]
}

/** The types that some kinds need, by the names that Kubernetes gives them (`io.k8s.api.core.v1.Service`). */
function definitions(schema: Schema, kinds: readonly ResourceType[], prefix: string): object {
  const result: Record<string, object> = {}
  const nameOf = (name: string): string => {
    const kind = resourceTypes.find((type) => type.kind === name)
    const group = kind === undefined || kind.group === '' ? 'core' : (kind.group.split('.')[0] ?? '')
    if (name === 'ObjectMeta' || name === 'OwnerReference') return `io.k8s.apimachinery.pkg.apis.meta.v1.${name}`
    return `io.k8s.api.${group}.${kind?.version ?? 'v1'}.${name}`
  }
  const add = (type: SchemaType): void => {
    const name = nameOf(type.name)
    if (result[name]) return
    const kind = kinds.find((kind) => kind.kind === type.name)
    const properties: Record<string, object> = {}
    result[name] = {
      type: 'object',
      description: type.description,
      properties,
      ...requiredOf(type),
      ...(kind && {
        'x-kubernetes-group-version-kind': [{ group: kind.group, kind: kind.kind, version: kind.version }],
      }),
    }
    for (const field of type.fields.values()) {
      const described = describe(field.node, (ref) => ({ $ref: `${prefix}${nameOf(ref)}` }))
      const text = { ...(field.description !== '' && { description: field.description }) }
      // What stands beside a reference does not count, but inside an allOf with one it does.
      const wrapped = '$ref' in described && prefix.startsWith('#/components') ? { allOf: [described] } : described
      properties[field.name] = {
        ...wrapped,
        ...text,
        ...(field.defaultValue !== undefined && { default: field.defaultValue }),
      }
      for (const ref of refsOf(field.node)) {
        const below = schema.get(ref)
        if (below) add(below)
      }
    }
  }
  for (const { kind } of kinds) {
    const type = schema.get(kind)
    if (type) add(type)
  }
  return result
}

function requiredOf(type: SchemaType): object {
  const required = [...type.fields.values()].filter((field) => field.required).map(({ name }) => name)
  return required.length > 0 ? { required } : {}
}

function describe(node: SchemaNode, refer: (name: string) => object): object {
  switch (node.kind) {
    case 'any':
      return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
    case 'ref':
      return refer(node.name)
    case 'map':
      return { type: 'object', additionalProperties: describe(node.value, refer) }
    case 'list': {
      const base = { type: 'array', items: describe(node.item, refer) }
      if (node.keys === 'atomic') return { ...base, 'x-kubernetes-list-type': 'atomic' }
      if (node.keys === 'set')
        return { ...base, 'x-kubernetes-list-type': 'set', 'x-kubernetes-patch-strategy': 'merge' }
      return {
        ...base,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': node.keys,
        'x-kubernetes-patch-merge-key': node.keys[0],
        'x-kubernetes-patch-strategy': 'merge',
      }
    }
    case 'scalar':
      switch (node.type) {
        case 'string':
        case 'quantity':
          return { type: 'string' }
        case 'bytes':
          return { type: 'string', format: 'byte' }
        case 'time':
          return { type: 'string', format: 'date-time' }
        case 'int32':
        case 'int64':
          return { type: 'integer', format: node.type }
        case 'boolean':
          return { type: 'boolean' }
        case 'intstr':
          return { type: 'string', format: 'int-or-string' }
        default:
          return node.type satisfies never
      }
    default:
      return node satisfies never
  }
}

function refsOf(node: SchemaNode): readonly string[] {
  if (node.kind === 'ref') return [node.name]
  if (node.kind === 'map') return refsOf(node.value)
  return node.kind === 'list' ? refsOf(node.item) : []
}
