import { formatProblem, type Problem } from '../sources/source.ts'

/** More than these are in `fairlead status`. */
const named = 3

/**
 * What the sources refused that may be why no Service has an address, each as one line: Services and EndpointSlices, and what could
 * not be read far enough to say what it is. None where nothing was refused.
 */
export function refusedManifests(problems: readonly Problem[]): readonly string[] {
  const refused = problems.filter(
    ({ severity, object }) =>
      severity === 'error' && (object === undefined || /^(?:Service|EndpointSlice|Endpoints|List)\b/.test(object)),
  )
  const lines = refused.slice(0, named).map((problem) => `not served as written: ${formatProblem(problem)}`)
  const more = refused.length - lines.length
  return more > 0 ? [...lines, `not served as written: ${more} more manifests (fairlead status)`] : lines
}
