import { ApiError } from './api-error.ts'
import { isJsonObject, sameJson, type JsonObject } from './kube-object.ts'
import { typeOf, type Schema, type SchemaNode } from './schema.ts'

const anything: SchemaNode = { kind: 'any' }

/**
 * Applies a strategic merge patch of Kubernetes: like a merge patch, but elements of lists are found by their keys, and
 * the directives `$patch`, `$retainKeys`, `$setElementOrder/...` and `$deleteFromPrimitiveList/...` are followed.
 */
export function applyStrategicMergePatch(
  schema: Schema,
  typeName: string,
  documents: { readonly document: unknown; readonly patch: unknown },
): unknown {
  if (!isJsonObject(documents.patch)) throw new ApiError('BadRequest', 'a strategic merge patch must be an object')
  return merge({ kind: 'ref', name: typeName, atomic: false }, documents.document, documents.patch)

  function merge(node: SchemaNode, document: unknown, patch: unknown): unknown {
    if (!isJsonObject(patch)) return patch
    const { $patch, $retainKeys, ...fields } = patch
    if ($patch === 'delete') return undefined
    if ($patch !== undefined && $patch !== 'replace' && $patch !== 'merge') {
      throw new ApiError(
        'BadRequest',
        `$patch: ${JSON.stringify($patch)} is not known (expected replace, delete or merge)`,
      )
    }
    const old = isJsonObject(document) && $patch !== 'replace' ? document : {}
    const result: JsonObject = { ...old }
    if (Array.isArray($retainKeys)) {
      for (const key of Object.keys(result)) if (!$retainKeys.includes(key)) delete result[key]
    }
    for (const [key, value] of Object.entries(fields)) {
      if (key.startsWith('$')) continue
      const merged = value === null ? undefined : mergeField(childOf(node, key), result[key], value)
      if (merged === undefined) delete result[key]
      else result[key] = merged
    }
    for (const [key, value] of Object.entries(fields)) directive(node, result, { key, value })
    return result
  }

  function mergeField(node: SchemaNode, document: unknown, patch: unknown): unknown {
    if (node.kind !== 'list' || node.keys === 'atomic' || !Array.isArray(patch)) return merge(node, document, patch)
    const old: unknown[] = Array.isArray(document) ? [...document] : []
    if (node.keys === 'set') {
      for (const value of patch) if (!old.some((other) => sameJson(other, value))) old.push(value)
      return old
    }
    const key = node.keys[0]
    if (patch.some((element) => isJsonObject(element) && element['$patch'] === 'replace')) {
      return patch.filter((element) => !(isJsonObject(element) && element['$patch'] === 'replace'))
    }
    for (const element of patch) {
      if (!isJsonObject(element) || element[key] === undefined) {
        throw new ApiError(
          'BadRequest',
          `an element of the patch has no ${key}, which tells elements of its list apart`,
        )
      }
      const index = old.findIndex((other) => isJsonObject(other) && sameJson(other[key], element[key]))
      const merged = merge(node.item, index < 0 ? {} : old[index], element)
      if (index < 0 && merged !== undefined) old.push(merged)
      else if (index >= 0) old.splice(index, 1, ...(merged === undefined ? [] : [merged]))
    }
    return old
  }

  function directive(node: SchemaNode, result: JsonObject, patch: { key: string; value: unknown }): void {
    const [, name, field = ''] = /^\$(setElementOrder|deleteFromPrimitiveList)\/(.+)$/.exec(patch.key) ?? []
    const list = result[field]
    if (name === undefined || !Array.isArray(list) || !Array.isArray(patch.value)) return
    if (name === 'deleteFromPrimitiveList') {
      const gone = patch.value
      result[field] = list.filter((element) => !gone.some((other) => sameJson(element, other)))
      return
    }
    const child = childOf(node, field)
    const key = child.kind === 'list' && Array.isArray(child.keys) ? (child.keys[0] as string) : undefined
    const wanted = patch.value.map((element) => (key !== undefined && isJsonObject(element) ? element[key] : element))
    const place = (element: unknown): number => {
      const own = key !== undefined && isJsonObject(element) ? element[key] : element
      return wanted.findIndex((other) => sameJson(own, other))
    }
    // What the patch does not name keeps its place behind the element that it stood behind.
    const known = list.filter((element) => place(element) >= 0).sort((a, b) => place(a) - place(b))
    result[field] = list.map((element) => (place(element) < 0 ? element : known.shift()))
  }

  function childOf(node: SchemaNode, key: string): SchemaNode {
    if (node.kind === 'map') return node.value
    return typeOf(schema, node)?.fields.get(key)?.node ?? anything
  }
}
