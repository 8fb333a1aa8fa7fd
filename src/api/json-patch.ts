import { ApiError } from './api-error.ts'
import { isJsonObject, sameJson, type JsonObject } from './kube-object.ts'

/** Operations that one patch may have, as kube-apiserver limits them. */
const maxOperations = 10_000

/** Applies a JSON patch (RFC 6902) and returns the result; the document is not changed. Throws {@link ApiError}. */
export function applyJsonPatch(document: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw new ApiError('BadRequest', 'a JSON patch must be a list of operations (RFC 6902)')
  if (patch.length > maxOperations) {
    throw new ApiError(
      'RequestEntityTooLarge',
      `the JSON patch has ${patch.length} operations, at most ${maxOperations} are taken`,
    )
  }
  const root: JsonObject = { document: structuredClone(document) }
  for (const operation of patch) {
    if (!isJsonObject(operation)) throw new ApiError('BadRequest', 'an operation of a JSON patch must be an object')
    run(root, operation)
  }
  return root['document']
}

/** Applies a merge patch (RFC 7386) and returns the result; the document is not changed. */
export function applyMergePatch(document: unknown, patch: unknown): unknown {
  if (!isJsonObject(patch)) return patch
  const result: JsonObject = isJsonObject(document) ? { ...document } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else setOwn(result, key, applyMergePatch(result[key], value))
  }
  return result
}

function run(root: JsonObject, operation: JsonObject): void {
  const path = pointer(operation, 'path')
  switch (operation['op']) {
    case 'add':
      return put(root, path, valueOf(operation), 'add')
    case 'replace':
      read(root, path)
      return put(root, path, valueOf(operation), 'replace')
    case 'remove':
      return remove(root, path)
    case 'test':
      if (sameJson(read(root, path), valueOf(operation))) return
      throw new ApiError('Invalid', `the server rejected our request: the test of ${shown(path)} failed`)
    case 'copy':
      return put(root, path, structuredClone(read(root, pointer(operation, 'from'))), 'add')
    case 'move': {
      const from = pointer(operation, 'from')
      const value = read(root, from)
      remove(root, from)
      return put(root, path, value, 'add')
    }
    default:
      throw new ApiError('BadRequest', `${JSON.stringify(operation['op'])} is not an operation of a JSON patch`)
  }
}

function valueOf(operation: JsonObject): unknown {
  if (Object.hasOwn(operation, 'value')) return structuredClone(operation['value'])
  throw new ApiError('BadRequest', `the operation ${String(operation['op'])} of the JSON patch has no value`)
}

/** The steps of a JSON pointer (RFC 6901), below the root that holds the document. */
function pointer(operation: JsonObject, key: 'path' | 'from'): readonly string[] {
  const text = operation[key]
  if (typeof text !== 'string' || (text !== '' && !text.startsWith('/'))) {
    throw new ApiError('BadRequest', `${key}: ${JSON.stringify(text)} is not a JSON pointer (RFC 6901)`)
  }
  const steps = text.split('/').slice(1)
  return ['document', ...steps.map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))]
}

function parentOf(root: JsonObject, path: readonly string[]): unknown {
  return path.length === 1 ? root : read(root, path.slice(0, -1))
}

function read(root: JsonObject, path: readonly string[]): unknown {
  let at: unknown = root
  for (const step of path) {
    const index = Array.isArray(at) ? indexOf(step, at.length - 1) : undefined
    if (Array.isArray(at) && index !== undefined) at = at[index]
    else if (isJsonObject(at) && Object.hasOwn(at, step)) at = at[step]
    else throw missing(path)
  }
  return at
}

function put(root: JsonObject, path: readonly string[], value: unknown, how: 'add' | 'replace'): void {
  const parent = parentOf(root, path)
  const step = path.at(-1) ?? ''
  if (Array.isArray(parent)) {
    const index = step === '-' && how === 'add' ? parent.length : indexOf(step, parent.length - (how === 'add' ? 0 : 1))
    if (index === undefined) throw missing(path)
    parent.splice(index, how === 'add' ? 0 : 1, value)
  } else if (isJsonObject(parent)) setOwn(parent, step, value)
  else throw missing(path)
}

function remove(root: JsonObject, path: readonly string[]): void {
  read(root, path)
  const parent = parentOf(root, path)
  const step = path.at(-1) ?? ''
  if (Array.isArray(parent)) parent.splice(Number(step), 1)
  else if (isJsonObject(parent)) delete parent[step]
}

function indexOf(step: string, last: number): number | undefined {
  return /^(0|[1-9]\d{0,8})$/.test(step) && Number(step) <= last ? Number(step) : undefined
}

/** Sets a field also when it is called `__proto__`. */
function setOwn(object: JsonObject, key: string, value: unknown): void {
  Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
}

function missing(path: readonly string[]): ApiError {
  return new ApiError('Invalid', `the server rejected our request: ${shown(path)} is not in the object`)
}

function shown(path: readonly string[]): string {
  return JSON.stringify(`/${path.slice(1).join('/')}`)
}
