import { checkFields, type UnknownField } from './check-fields.ts'
import { ApiError } from './api-error.ts'
import { isJsonObject, type JsonObject, type KubeObject } from './kube-object.ts'
import { groupVersion, type ResourceType } from './resources.ts'
import type { Schema } from './schema.ts'
import { wrongKind } from './validate-object.ts'

/** What happens to fields that the kind does not have (KEP-2885). */
export type FieldValidation = 'Strict' | 'Warn' | 'Ignore'

/** How an object is decoded. */
export interface DecodeOptions {
  readonly schema: Schema
  readonly type: ResourceType
  /** Of the path; empty for kinds without namespaces. */
  readonly namespace: string
  readonly fieldValidation: FieldValidation
  /** Where warnings go. */
  readonly warnings: string[]
}

/**
 * Turns what a client sent into an object that may be changed: of the right kind and namespace, with values of the right
 * types. Null counts as absent, as in Go. Throws {@link ApiError}.
 */
export function decodeObject(body: unknown, options: DecodeOptions): KubeObject {
  const { schema, type, namespace } = options
  if (!isJsonObject(body)) throw new ApiError('BadRequest', `the body must be an object of kind ${type.kind}`)
  const wrong = wrongKind(type, body)
  if (wrong !== undefined) throw new ApiError('BadRequest', wrong)
  const findings = checkFields(schema, type.kind, body)
  if (findings.wrong.length > 0) {
    const message = `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: ${findings.wrong.join(', ')}`
    throw new ApiError('BadRequest', message)
  }
  if (findings.unknown.length > 0 && options.fieldValidation === 'Strict') {
    const list = findings.unknown.map(({ path }) => `unknown field "${path}"`).join(', ')
    throw new ApiError(
      'BadRequest',
      `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: strict decoding error: ${list}`,
    )
  }
  if (options.fieldValidation === 'Warn') {
    options.warnings.push(...findings.unknown.map(({ path }) => `unknown field "${path}"`))
  }
  const copy = withoutNulls(body) as JsonObject
  const metadata = isJsonObject(copy['metadata']) ? copy['metadata'] : {}
  const given = metadata['namespace']
  if (type.namespaced && given !== undefined && given !== '' && given !== namespace) {
    const message = `the namespace of the provided object does not match the namespace sent on the request`
    throw new ApiError('BadRequest', `${message} (${JSON.stringify(given)}, ${JSON.stringify(namespace)})`)
  }
  if (type.namespaced) metadata['namespace'] = namespace
  else delete metadata['namespace']
  metadata['name'] ??= ''
  return dropUnknown(
    { ...copy, apiVersion: groupVersion(type), kind: type.kind, metadata } as KubeObject,
    findings.unknown,
  )
}

/** What is not in the schema is not stored, like in kube-apiserver. */
function dropUnknown(object: KubeObject, unknown: readonly UnknownField[]): KubeObject {
  for (const { steps } of unknown) {
    let at: unknown = object
    for (const step of steps.slice(0, -1)) {
      at = Array.isArray(at) ? at[Number(step)] : isJsonObject(at) ? at[step] : undefined
    }
    const last = steps.at(-1)
    if (isJsonObject(at) && last !== undefined) delete at[last]
  }
  return object
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls)
  if (!isJsonObject(value)) return value
  const result: JsonObject = {}
  for (const [key, child] of Object.entries(value)) {
    if (child === null || child === undefined) continue
    Object.defineProperty(result, key, {
      value: withoutNulls(child),
      writable: true,
      enumerable: true,
      configurable: true,
    })
  }
  return result
}
