import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { FieldProblem } from './manifest-error.ts'

/** Annotations of EndpointSlices and Pods: what Kubernetes has no field for. See docs/config.md. */
const weightAnnotation = 'fairlead.dev/weight'
const weightsAnnotation = 'fairlead.dev/weights'
/** What objects with endpoints may have; `run` is what the API gives pods that daemons run. */
const known = [weightAnnotation, weightsAnnotation, 'fairlead.dev/run']
const maxWeight = 65_535

/** The weight of each endpoint of an object; undefined where nothing is said, which counts as 1. */
export type WeightOf = (address: IpAddress) => number | undefined

/**
 * Reads `fairlead.dev/weight: N` (all endpoints of the object) and `fairlead.dev/weights: 10.0.0.1=3,10.0.0.2=0` (single
 * ones, which come first). All that is wrong goes to `problems`; an annotation with anything wrong in it says nothing.
 */
export function readWeights(annotations: Readonly<Record<string, string>>, problems: FieldProblem[]): WeightOf {
  for (const name of Object.keys(annotations)) {
    if (name.startsWith('fairlead.dev/') && !known.includes(name)) {
      const reason = `is not known (expected ${weightAnnotation} or ${weightsAnnotation}); not counted`
      problems.push({ path: `metadata.annotations.${name}`, reason })
    }
  }
  const all = annotations[weightAnnotation]
  const some = annotations[weightsAnnotation]
  if (all === undefined && some === undefined) return () => undefined
  const attempt = <T>(name: string, parse: () => T): T | undefined => {
    try {
      return parse()
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      problems.push({ path: `metadata.annotations.${name}`, reason: `${error.message}; not counted` })
      return undefined
    }
  }
  const common = all === undefined ? undefined : attempt(weightAnnotation, () => parseWeight(all))
  const entries = some?.split(',').map((entry) => attempt(weightsAnnotation, () => parseEntry(entry))) ?? []
  const whole = entries.filter((entry) => entry !== undefined)
  const single = whole.length === entries.length ? new Map(whole) : undefined
  return (address) => single?.get(address) ?? common
}

function parseEntry(entry: string): readonly [IpAddress, number] {
  const [address = '', weight, ...rest] = entry.split('=')
  if (weight === undefined || rest.length > 0) {
    throw new ParseError(`"${entry.trim()}" is not a weight of an address (expected like 10.0.0.1=3)`)
  }
  return [parseIp(address.trim()), parseWeight(weight)]
}

function parseWeight(text: string): number {
  const weight = /^\d{1,5}$/.test(text.trim()) ? Number(text) : maxWeight + 1
  if (weight > maxWeight) {
    throw new ParseError(`"${text.trim()}" is not a weight (expected a whole number from 0 to ${maxWeight})`)
  }
  return weight
}
