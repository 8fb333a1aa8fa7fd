import type { Log } from '../base/log.ts'
import type { Problem } from './source.ts'

/** Logs each problem once when it appears and once when it is gone. */
export class ProblemLog {
  readonly #log: Log
  #known = new Map<string, Problem>()

  constructor(log: Log) {
    this.#log = log
  }

  /** Takes the complete list as it is now. Returns whether it differs from the one before, places apart. */
  update(problems: readonly Problem[]): boolean {
    const now = new Map(problems.map((problem) => [identityOf(problem), problem]))
    let changed = false
    for (const [identity, problem] of now) {
      if (this.#known.has(identity)) continue
      changed = true
      if (problem.severity === 'error') this.#log.warn({ ...problem }, 'a manifest is wrong')
      else this.#log.info({ ...problem }, 'a manifest is of no use here')
    }
    for (const [identity, problem] of this.#known) {
      if (now.has(identity)) continue
      changed = true
      this.#log.info({ ...problem }, 'a problem with a manifest is gone')
    }
    this.#known = now
    return changed
  }
}

/** Line and document number are left out where the object is known: an edit above moves them, and nothing is new. */
function identityOf(problem: Problem): string {
  const place = problem.object ?? `document ${problem.document}`
  return [problem.file, place, problem.path, problem.reason].join('\0')
}
