import type { JsonObject, KubeObject } from './kube-object.ts'

/** Trees that are kept; there are as many as there are shapes of objects. */
const maxKept = 2000

/**
 * Keeps one copy of equal `fieldsV1` trees: what a manager owns is the same in all objects that it makes the same way, and is
 * more than half of their memory. Objects of the store are never changed, so that they can share it.
 */
export class FieldsPool {
  readonly #kept = new Map<string, JsonObject>()

  /** The same object, with trees that others have, too. */
  share(object: KubeObject): KubeObject {
    const { managedFields } = object.metadata
    if (!Array.isArray(managedFields)) return object
    const shared = managedFields.map((entry) => ({ ...entry, fieldsV1: this.#keep(entry.fieldsV1) }))
    return { ...object, metadata: { ...object.metadata, managedFields: shared } }
  }

  #keep(fields: JsonObject): JsonObject {
    const text = JSON.stringify(fields)
    const kept = this.#kept.get(text)
    if (kept) return kept
    if (this.#kept.size >= maxKept) this.#kept.clear()
    this.#kept.set(text, fields)
    return fields
  }
}
