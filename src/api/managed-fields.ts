import { flatten, pathKey, readFieldSet, writeFieldSet, type FieldSet, type FlatObject } from './field-set.ts'
import { isJsonObject, sameJson, type KubeObject, type ManagedFields } from './kube-object.ts'
import type { Schema } from './schema.ts'

/** Who sets fields, and by what kind of request. */
export interface ManagerName {
  readonly manager: string
  readonly operation: 'Apply' | 'Update'
  readonly subresource: string
}

/** What a write changed. */
export interface FieldChanges {
  readonly changed: FieldSet
  readonly removed: FieldSet
}

interface Owner extends ManagerName {
  readonly label: string
  readonly fields: FieldSet
  readonly apiVersion: string
  readonly time: string
}

/** Fields of the server's own, that nobody manages. */
const untracked: ReadonlySet<string> = new Set(
  [
    ['f:apiVersion'],
    ['f:kind'],
    ['f:metadata'],
    ...[
      'name',
      'namespace',
      'generateName',
      'uid',
      'resourceVersion',
      'generation',
      'selfLink',
      'creationTimestamp',
    ].map((key) => ['f:metadata', `f:${key}`]),
    ['f:metadata', 'f:deletionTimestamp'],
    ['f:metadata', 'f:deletionGracePeriodSeconds'],
    ['f:metadata', 'f:managedFields'],
  ].map(pathKey),
)

/** Whether a field can have a manager: those that the server sets have none. */
export function isTracked(path: readonly string[]): boolean {
  return !untracked.has(pathKey(path)) && !untracked.has(pathKey(path.slice(0, 2)))
}

/** The difference of two objects, as paths that managers may own. */
export function claimFields(before: FlatObject, after: FlatObject): FieldChanges {
  const changed: FieldSet = new Map()
  const removed: FieldSet = new Map()
  for (const [key, { path, value }] of after) {
    const old = before.get(key)
    if (isTracked(path) && (!old || !sameJson(old.value, value))) changed.set(key, path)
  }
  for (const [key, { path }] of before) if (isTracked(path) && !after.has(key)) removed.set(key, path)
  return { changed, removed }
}

/** The managers of one object, while it is being changed. */
export class ManagerTable {
  readonly #owners: Owner[]

  private constructor(owners: Owner[]) {
    this.#owners = owners
  }

  /** Reads `metadata.managedFields`; entries that are not well-formed are left out. */
  static read(entries: unknown): ManagerTable {
    const owners = (Array.isArray(entries) ? entries : []).flatMap((entry: unknown): Owner[] => {
      if (!isJsonObject(entry) || typeof entry['manager'] !== 'string') return []
      const { manager, time, apiVersion } = entry
      const operation = entry['operation'] === 'Apply' ? 'Apply' : 'Update'
      const subresource = typeof entry['subresource'] === 'string' ? entry['subresource'] : ''
      return [
        {
          manager,
          operation,
          subresource,
          label: `"${manager}"${operation === 'Update' ? ` using ${String(apiVersion)}` : ''}`,
          fields: readFieldSet(entry['fieldsV1']),
          apiVersion: typeof apiVersion === 'string' ? apiVersion : 'v1',
          time: typeof time === 'string' ? time : '',
        },
      ]
    })
    return new ManagerTable(owners)
  }

  get(name: ManagerName): FieldSet {
    return this.#owners.find((owner) => same(owner, name))?.fields ?? new Map()
  }

  /** All managers but one. */
  owners(but: ManagerName): readonly Owner[] {
    return this.#owners.filter((owner) => !same(owner, but))
  }

  allBut(name: ManagerName): FieldSet {
    return new Map(this.owners(name).flatMap((owner) => [...owner.fields]))
  }

  /** Takes what changed or went away from all managers but one, and what went away from that one too. */
  withdraw(name: ManagerName, { changed, removed }: FieldChanges): void {
    for (const owner of this.#owners) {
      for (const key of removed.keys()) owner.fields.delete(key)
      if (!same(owner, name)) for (const key of changed.keys()) owner.fields.delete(key)
    }
  }

  set(name: ManagerName, fields: FieldSet): void {
    const index = this.#owners.findIndex((owner) => same(owner, name))
    const owner = { ...name, fields, label: '', apiVersion: '', time: '' }
    if (index < 0) this.#owners.push(owner)
    else this.#owners[index] = owner
  }

  /** `metadata.managedFields`, with the manager that changed something at this time. */
  write(options: { apiVersion: string; now: string; changed: ManagerName }): ManagedFields[] {
    return this.#owners
      .filter((owner) => owner.fields.size > 0)
      .map(({ manager, operation, subresource, fields, apiVersion, time }) => ({
        manager,
        operation,
        apiVersion: apiVersion === '' ? options.apiVersion : apiVersion,
        time: time === '' || same({ manager, operation, subresource }, options.changed) ? options.now : time,
        fieldsType: 'FieldsV1',
        fieldsV1: writeFieldSet(fields),
        ...(subresource !== '' && { subresource }),
      }))
  }
}

/** Records who changed what by an update or a patch; returns the object with its managers. */
export function trackUpdate(
  schema: Schema,
  objects: { readonly before: KubeObject | undefined; readonly after: KubeObject },
  options: { readonly manager: ManagerName; readonly now: string },
): KubeObject {
  const { before, after } = objects
  const root = { kind: 'ref', name: after.kind, atomic: false } as const
  const given = after.metadata.managedFields
  const known = Array.isArray(given) && given.length > 0 ? given : before?.metadata.managedFields
  const table = ManagerTable.read(known)
  const flatBefore: FlatObject = before ? flatten(schema, root, before) : new Map()
  const changes = claimFields(flatBefore, flatten(schema, root, after))
  table.withdraw(options.manager, changes)
  if (changes.changed.size > 0) {
    table.set(options.manager, new Map([...table.get(options.manager), ...changes.changed]))
  }
  const changed = changes.changed.size > 0 ? options.manager : { ...options.manager, manager: '' }
  const managedFields = table.write({ apiVersion: after.apiVersion, now: options.now, changed })
  return { ...after, metadata: { ...after.metadata, managedFields } }
}

function same(a: ManagerName, b: ManagerName): boolean {
  return a.manager === b.manager && a.operation === b.operation && a.subresource === b.subresource
}
