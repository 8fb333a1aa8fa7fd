import type { FieldProblem } from '../model/manifest-error.ts'

/** The keys that a file may have; a nested object for a section. What is not in it is a typo. */
export type KeyTree = { readonly [key: string]: true | KeyTree }

/** How many problems a message lists. */
export const shownProblems = 20

/** Keys of `raw` that `known` does not have, each with what was probably meant. */
export function unknownKeys(raw: unknown, known: KeyTree, path: string): FieldProblem[] {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return []
  return Object.entries(raw).flatMap(([key, value], index): FieldProblem[] => {
    const full = path === '' ? key : `${path}.${key}`
    const entry = Object.hasOwn(known, key) ? known[key] : undefined
    if (entry === undefined) {
      // Beyond those that are shown, nobody reads what was meant.
      if (index >= shownProblems) return [{ path: full, reason: 'unknown key' }]
      const near = nearest(key, Object.keys(known))
      const expected =
        near === undefined ? `expected one of: ${Object.keys(known).join(', ')}` : `did you mean ${near}?`
      return [{ path: full, reason: `unknown key (${expected})` }]
    }
    return entry === true ? [] : unknownKeys(value, entry, full)
  })
}

/** The word that a typo most likely meant: at most two edits away. */
function nearest(word: string, words: readonly string[]): string | undefined {
  const scored = words.map((candidate) => ({
    candidate,
    distance: editDistance(word.toLowerCase(), candidate.toLowerCase()),
  }))
  const best = scored.toSorted((a, b) => a.distance - b.distance)[0]
  return best && best.distance <= 2 ? best.candidate : undefined
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitution)
    }
    row = next
  }
  return row[b.length] ?? 0
}
