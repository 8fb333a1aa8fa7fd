import { manifestId, type ManifestObject } from '../model/parse-manifest.ts'
import { emptySnapshot, type Snapshot } from '../model/snapshot.ts'
import { editSnapshot, type ObjectChange } from './edit-snapshot.ts'
import type { Problem } from './source.ts'

/** One object in one place of one file. */
export interface Definition {
  readonly id: string
  readonly object: ManifestObject
  readonly file: string
  /** Where it stands now; moves when something above it in the file comes or goes. */
  document: number
  line: number
}

/** A definition of `object`, with its id. */
export function define(object: ManifestObject, place: { file: string; document: number; line: number }): Definition {
  return { id: manifestId(object), object, ...place }
}

/**
 * Knows which files define which object, and makes snapshots of the winners: of several definitions of one object the
 * first counts, by file name and then by place in the file. A commit costs what was replaced since the last one.
 */
export class ObjectIndex {
  snapshot: Snapshot = emptySnapshot
  /** Nearly every object is defined once, so that a list for each would be waste. */
  readonly #claims = new Map<string, Definition | Definition[]>()
  readonly #contested = new Set<string>()
  /** What stood in the snapshot at the last commit, for each object that may differ now. */
  readonly #touched = new Map<string, ManifestObject | undefined>()

  /** Replaces the definitions of a file. Those that are the same object in both lists cost next to nothing. */
  replace(before: readonly Definition[], after: readonly Definition[]): void {
    const gone = new Set(before)
    for (const definition of after) {
      if (!gone.delete(definition)) this.#add(definition)
    }
    for (const definition of gone) this.#remove(definition)
  }

  /** Brings {@link snapshot} up to date. */
  commit(): Snapshot {
    for (const id of this.#contested) {
      this.#touch(id)
      this.#listOf(id).sort(byPlace)
    }
    const changes: ObjectChange[] = []
    for (const [id, before] of this.#touched) changes.push({ before, after: this.#listOf(id)[0]?.object })
    this.#touched.clear()
    return (this.snapshot = editSnapshot(this.snapshot, changes))
  }

  /** One problem for each definition that lost against another, as of the last commit. */
  *conflicts(): Iterable<Problem> {
    for (const id of this.#contested) {
      const [winner, ...losers] = this.#listOf(id)
      if (!winner) continue
      for (const { file, document, line } of losers) {
        const reason = `is already defined in ${winner.file}:${winner.line} (document ${winner.document}), which counts`
        yield { severity: 'error', file, document, line, object: id, reason }
      }
    }
  }

  #add(definition: Definition): void {
    this.#touch(definition.id)
    const claims = this.#claims.get(definition.id)
    if (claims === undefined) {
      this.#claims.set(definition.id, definition)
      return
    }
    this.#claims.set(definition.id, [...(Array.isArray(claims) ? claims : [claims]), definition])
    this.#contested.add(definition.id)
  }

  #remove(definition: Definition): void {
    this.#touch(definition.id)
    const rest = this.#listOf(definition.id).filter((claim) => claim !== definition)
    if (rest.length < 2) this.#contested.delete(definition.id)
    if (rest.length === 0) this.#claims.delete(definition.id)
    else this.#claims.set(definition.id, rest.length === 1 && rest[0] ? rest[0] : rest)
  }

  #touch(id: string): void {
    if (!this.#touched.has(id)) this.#touched.set(id, this.#listOf(id)[0]?.object)
  }

  #listOf(id: string): Definition[] {
    const claims = this.#claims.get(id)
    return claims === undefined ? [] : Array.isArray(claims) ? claims : [claims]
  }
}

function byPlace(a: Definition, b: Definition): number {
  if (a.file !== b.file) return a.file < b.file ? -1 : 1
  return a.document - b.document || a.line - b.line
}
