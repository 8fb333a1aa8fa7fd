import { ApiError } from './api-error.ts'
import { childNode, elementName, flatten, formatPath, readFieldSet, type FieldSet } from './field-set.ts'
import { isJsonObject, sameJson, type JsonObject, type KubeObject } from './kube-object.ts'
import { claimFields, isTracked, ManagerTable, type ManagerName } from './managed-fields.ts'
import type { Schema, SchemaNode } from './schema.ts'

/** One server-side apply. */
export interface ApplyRequest {
  readonly schema: Schema
  /** The object as it is; undefined when it is to be created. */
  readonly live: KubeObject | undefined
  /** What the manager wishes: every field that it has an opinion of, and no other. */
  readonly applied: KubeObject
  readonly manager: ManagerName
  /** Take fields over from other managers instead of refusing. */
  readonly force: boolean
  readonly now: string
}

/**
 * Merges what one manager wishes into an object (KEP-555): its fields are set, fields that it no longer names and nobody
 * else owns are removed, and fields that another manager set otherwise are a conflict, unless forced.
 */
export function serverSideApply(request: ApplyRequest): KubeObject {
  const { schema, live, applied, manager } = request
  const root: SchemaNode = { kind: 'ref', name: applied.kind, atomic: false }
  const table = ManagerTable.read(live?.metadata.managedFields)
  const wished = ownedBy(schema, root, applied)
  const others = table.allBut(manager)

  const gone: FieldSet = new Map()
  for (const [key, path] of table.get(manager)) if (!wished.has(key) && !others.has(key)) gone.set(key, path)
  const merged = mergeApplied(schema, root, live ?? {}, applied) as KubeObject
  const kept = new Set([...wished.keys(), ...others.keys()])
  const result = (gone.size === 0 ? merged : prune({ schema, gone, kept }, root, merged)) as KubeObject
  result.metadata ??= { name: applied.metadata.name }

  if (live) refuseConflicts(request, { root, result, table })
  const before = live ? flatten(schema, root, live) : new Map()
  const changes = claimFields(before, flatten(schema, root, result))
  table.withdraw(manager, changes)
  table.set(manager, wished)
  const managedFields = table.write({ apiVersion: applied.apiVersion, now: request.now, changed: manager })
  result.metadata = { ...result.metadata, managedFields }
  return result
}

function ownedBy(schema: Schema, root: SchemaNode, object: KubeObject): FieldSet {
  const set: FieldSet = new Map()
  for (const [key, { path }] of flatten(schema, root, object)) if (isTracked(path)) set.set(key, path)
  return set
}

function refuseConflicts(
  { schema, live, manager, force }: ApplyRequest,
  { root, result, table }: { root: SchemaNode; result: KubeObject; table: ManagerTable },
): void {
  const { changed } = claimFields(flatten(schema, root, live), flatten(schema, root, result))
  const conflicts = table.owners(manager).flatMap((owner) => {
    const fields = [...owner.fields].filter(([key]) => changed.has(key)).map(([, path]) => formatPath(path))
    return fields.map((field) => ({ field, owner: owner.label }))
  })
  if (force || conflicts.length === 0) return
  const owners = [...new Set(conflicts.map(({ owner }) => owner))]
  const lines = owners.map((owner) => {
    const fields = conflicts.filter((conflict) => conflict.owner === owner).map(({ field }) => field)
    return fields.length === 1
      ? `conflict with ${owner}: ${fields[0]}`
      : `conflicts with ${owner}:\n- ${fields.join('\n- ')}`
  })
  const count = `${conflicts.length} conflict${conflicts.length === 1 ? '' : 's'}`
  throw new ApiError('Conflict', `Apply failed with ${count}: ${lines.join('\n')}`, {
    details: {
      causes: conflicts.map(({ field, owner }) => ({
        reason: 'FieldManagerConflict',
        message: `conflict with ${owner}`,
        field,
      })),
    },
  })
}

/** The applied value laid over the live one: maps and keyed lists are merged, all else is replaced. */
function mergeApplied(schema: Schema, node: SchemaNode, live: unknown, applied: unknown): unknown {
  if (isJsonObject(applied) && !(node.kind === 'ref' && node.atomic)) {
    const result: JsonObject = isJsonObject(live) ? { ...live } : {}
    for (const [key, value] of Object.entries(applied)) {
      if (value === null) delete result[key]
      else result[key] = mergeApplied(schema, childNode(schema, node, key), result[key], value)
    }
    return result
  }
  if (!Array.isArray(applied) || node.kind !== 'list' || node.keys === 'atomic') return applied
  const names = applied.map((element) => elementName(schema, node, element))
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) {
    throw new ApiError('BadRequest', `the applied object has two elements ${formatPath([twice])} in one list`)
  }
  const old = new Map((Array.isArray(live) ? live : []).map((element) => [elementName(schema, node, element), element]))
  const merged = applied.map((element, index) => mergeApplied(schema, node.item, old.get(names[index] ?? ''), element))
  for (const name of names) old.delete(name)
  return [...merged, ...old.values()]
}

interface Pruning {
  readonly schema: Schema
  readonly gone: FieldSet
  /** Keys of paths that somebody owns. */
  readonly kept: ReadonlySet<string>
}

/** Removes the places in `gone`, with all that is below them and that nobody owns. */
function prune(pruning: Pruning, node: SchemaNode, value: unknown, at = ''): unknown {
  const { schema, gone, kept } = pruning
  const child = (element: string): string => (at === '' ? element : `${at}\u0000${element}`)
  const keptBelow = (place: string): boolean =>
    kept.has(place) || [...kept].some((key) => key.startsWith(`${place}\u0000`))
  const goneBelow = (place: string): boolean => [...gone.keys()].some((key) => key.startsWith(`${place}\u0000`))
  if (isJsonObject(value)) {
    const result: JsonObject = {}
    for (const [key, below] of Object.entries(value)) {
      const place = child(`f:${key}`)
      if (gone.has(place) && !keptBelow(place)) continue
      const rest = goneBelow(place) ? prune(pruning, childNode(schema, node, key), below, place) : below
      if (rest !== undefined) result[key] = rest
    }
    const emptied = Object.keys(result).length === 0 && Object.keys(value).length > 0
    return emptied && at !== '' && !kept.has(at) ? undefined : result
  }
  if (!Array.isArray(value) || node.kind !== 'list') return value
  const rest = value.flatMap((element) => {
    const place = child(elementName(schema, node, element))
    if (gone.has(place) && !keptBelow(place)) return []
    const below = goneBelow(place) ? prune(pruning, node.item, element, place) : element
    return below === undefined ? [] : [below]
  })
  return rest.length === 0 && value.length > 0 ? undefined : rest
}

/** Whether two objects are the same but for the bookkeeping of the server. */
export function sameButManagedFields(a: KubeObject, b: KubeObject): boolean {
  const strip = (object: KubeObject): JsonObject => {
    const { managedFields: _managed, resourceVersion: _version, ...metadata } = object.metadata
    return { ...object, metadata }
  }
  return sameJson(strip(a), strip(b))
}

/** Whether the owners of fields are the same, whenever they wrote. */
export function sameManagers(a: KubeObject, b: KubeObject): boolean {
  const strip = (object: KubeObject): unknown =>
    (object.metadata.managedFields ?? []).map(({ time: _time, fieldsV1, ...rest }) => ({
      ...rest,
      fields: [...readFieldSet(fieldsV1).keys()].sort(),
    }))
  return sameJson(strip(a), strip(b))
}
