import { isJsonObject, type JsonObject } from './kube-object.ts'
import { typeOf, type Schema, type SchemaNode } from './schema.ts'

/** One step of a path in the notation of FieldsV1: `f:spec`, `k:{"port":80,"protocol":"TCP"}`, `v:"a"`. */
export type PathElement = string

/** A set of paths, by their elements joined. */
export type FieldSet = Map<string, readonly PathElement[]>

/** Leaves of an object, and elements of keyed lists, with their values (undefined for what only has others below it). */
export type FlatObject = Map<string, { readonly path: readonly PathElement[]; readonly value: unknown }>

const separator = '\u0000'
const anything: SchemaNode = { kind: 'any' }

/** The name of a path in a {@link FieldSet}. */
export function pathKey(path: readonly PathElement[]): string {
  return path.join(separator)
}

/** Takes an object apart as server-side apply sees it (structured-merge-diff): what one manager can own, one entry each. */
export function flatten(schema: Schema, node: SchemaNode, value: unknown): FlatObject {
  const result: FlatObject = new Map()
  walk(node, value, [])
  return result

  function add(path: readonly PathElement[], value: unknown): void {
    if (path.length > 0) result.set(pathKey(path), { path, value })
  }

  function walk(node: SchemaNode, value: unknown, path: readonly PathElement[]): void {
    if (value === undefined) return
    if (isJsonObject(value) && !(node.kind === 'ref' && node.atomic)) {
      const entries = Object.entries(value)
      if (entries.length === 0) add(path, undefined)
      for (const [key, child] of entries) walk(childNode(schema, node, key), child, [...path, `f:${key}`])
      return
    }
    if (Array.isArray(value) && node.kind === 'list' && node.keys !== 'atomic') {
      for (const element of value) {
        const below = [...path, elementName(schema, node, element)]
        add(below, undefined)
        if (isJsonObject(element)) walk(node.item, element, below)
      }
      return
    }
    add(path, value)
  }
}

/** The type of the field `key`. */
export function childNode(schema: Schema, node: SchemaNode, key: string): SchemaNode {
  if (node.kind === 'map') return node.value
  return typeOf(schema, node)?.fields.get(key)?.node ?? anything
}

/** How an element of a list with keys is named in FieldsV1; keys that are missing count with their defaults. */
export function elementName(schema: Schema, node: SchemaNode & { kind: 'list' }, element: unknown): PathElement {
  if (!Array.isArray(node.keys) || !isJsonObject(element)) return `v:${JSON.stringify(element)}`
  const fields = typeOf(schema, node.item)?.fields
  const names: readonly string[] = node.keys
  const keys = names.toSorted().map((key) => [key, element[key] ?? fields?.get(key)?.defaultValue])
  return `k:${JSON.stringify(Object.fromEntries(keys))}`
}

/** The FieldsV1 notation of a set: a tree, in which `.` says that the place itself is a member. */
export function writeFieldSet(set: FieldSet): JsonObject {
  const root: JsonObject = {}
  for (const path of set.values()) {
    let at = root
    for (const element of path) at = (at[element] ??= {}) as JsonObject
    at['.'] = {}
  }
  return shorten(root)
}

/** Reads the FieldsV1 notation; anything that is not that reads as an empty set. */
export function readFieldSet(fields: unknown): FieldSet {
  const set: FieldSet = new Map()
  walk(fields, [])
  return set

  function walk(node: unknown, path: readonly PathElement[]): void {
    if (!isJsonObject(node) || path.length > 64) return
    const entries = Object.entries(node)
    if (path.length > 0 && (entries.length === 0 || Object.hasOwn(node, '.'))) set.set(pathKey(path), path)
    for (const [element, child] of entries) if (element !== '.') walk(child, [...path, element])
  }
}

/** `.spec.ports[port=80,protocol="TCP"].port`: a path as messages show it. */
export function formatPath(path: readonly PathElement[]): string {
  const parts = path.map((element) => {
    if (element.startsWith('f:')) return `.${element.slice(2)}`
    if (element.startsWith('v:')) return `[=${element.slice(2)}]`
    const keys = JSON.parse(element.slice(2)) as JsonObject
    return `[${Object.entries(keys)
      .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
      .join(',')}]`
  })
  return parts.join('')
}

/** A leaf is written as an empty object, without the dot. */
function shorten(node: JsonObject): JsonObject {
  const keys = Object.keys(node)
  if (keys.length === 1 && keys[0] === '.') return {}
  return Object.fromEntries(keys.sort().map((key) => [key, key === '.' ? {} : shorten(node[key] as JsonObject)]))
}
