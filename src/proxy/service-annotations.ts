import { objectKey } from '../model/object-key.ts'
import type { Service } from '../model/service.ts'
import { schedulerAnnotation, schedulingProblems } from './ipvs-scheduling.ts'

/** Annotations of Services: what Kubernetes has no field for. See docs/config.md. */
export const serviceAnnotations = {
  algorithm: 'fairlead.dev/algorithm',
  affinityScope: 'fairlead.dev/affinity-scope',
  sourceRanges: 'fairlead.dev/source-ranges',
  /** Seconds after which connections that are left at an endpoint which went are ended; 0: at once. Absent: never. */
  drainSeconds: 'fairlead.dev/drain-seconds',
  scheduler: schedulerAnnotation,
} as const

const prefix = 'fairlead.dev/'
const known: readonly string[] = Object.values(serviceAnnotations)

/** The annotation's value; the first of `values` when it is absent, or is none of them, which is a problem. */
export function annotationOf<T extends string>(
  service: Service,
  name: keyof typeof serviceAnnotations,
  values: readonly [T, ...T[]],
  problems: string[],
): T {
  const text = service.annotations[serviceAnnotations[name]]
  if (text === undefined) return values[0]
  const value = values.find((v) => v === text)
  if (value === undefined) {
    const expected = `expected ${values.join(' or ')}; taken for ${values[0]}`
    problems.push(`${fieldOf(service, serviceAnnotations[name])} is "${text}" (${expected})`)
  }
  return value ?? values[0]
}

/** The seconds of `fairlead.dev/drain-seconds`; undefined when it is absent, or no such number. */
export function drainSecondsOf(service: Service | undefined): number | undefined {
  const text = service?.annotations[serviceAnnotations.drainSeconds]
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : undefined
}

/** What is wrong with annotations that no frontend shows: names that are not ours, and values of those that are read later. */
export function annotationProblems(service: Service): readonly string[] {
  const names = Object.keys(service.annotations)
  if (names.length === 0) return []
  const unknown = names.filter((name) => name.startsWith(prefix) && !known.includes(name))
  const drain = service.annotations[serviceAnnotations.drainSeconds]
  return [
    ...unknown.map((name) => `${fieldOf(service, name)} is not known (expected one of ${known.join(', ')})`),
    ...(drain !== undefined && drainSecondsOf(service) === undefined
      ? [
          `${fieldOf(service, serviceAnnotations.drainSeconds)} is "${drain}" (expected seconds, a whole number from 0 to 999999; taken for none)`,
        ]
      : []),
    ...schedulingProblems(service),
  ]
}

function fieldOf(service: Service, name: string): string {
  return `${objectKey(service)}: metadata.annotations ${name}`
}
