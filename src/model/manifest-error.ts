/** One thing that is wrong with a manifest. */
export interface FieldProblem {
  /** Where, in the style of Kubernetes: `spec.ports[0].port`. Empty when the whole object is meant. */
  readonly path: string
  /** The value and what was expected: `70000 is not a port (expected a whole number from 1 to 65535)`. */
  readonly reason: string
}

/** A manifest that cannot be used, with everything that is wrong with it. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError'
  /** `Service shop/web`, as far as the manifest names itself. */
  readonly object: string
  readonly problems: readonly FieldProblem[]

  constructor(object: string, problems: readonly FieldProblem[]) {
    super(`${object}: ${problems.map(formatFieldProblem).join('; ')}`)
    this.object = object
    this.problems = problems
  }
}

/** `path: reason`, or the reason alone when the whole object is meant. */
export function formatFieldProblem(problem: FieldProblem): string {
  return problem.path === '' ? problem.reason : `${problem.path}: ${problem.reason}`
}
