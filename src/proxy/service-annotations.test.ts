import { expect, test } from 'vitest'
import { exampleService } from './example-objects.ts'
import { annotationProblems, drainSecondsOf } from './service-annotations.ts'

test.each([
  ['fairlead.dev/algoritm', 'maglev', 'fairlead.dev/algoritm is not known (expected one of fairlead.dev/algorithm, '],
  ['fairlead.dev/weight', '3', 'fairlead.dev/weight is not known'],
  ['fairlead.dev/drain-seconds', 'soon', 'fairlead.dev/drain-seconds is "soon" (expected seconds'],
  ['fairlead.dev/ipvs-scheduler', 'x', 'fairlead.dev/ipvs-scheduler is "x"'],
])('annotationProblems() says what is wrong with %s: %s', (name, value, problem) => {
  const service = { ...exampleService('web'), annotations: { [name]: value } }
  expect(annotationProblems(service)).toEqual([expect.stringContaining(`default/web: metadata.annotations ${problem}`)])
})

test('annotationProblems() is silent where names and values are right, and about what others wrote', () => {
  const annotations = { 'fairlead.dev/drain-seconds': '30', 'fairlead.dev/algorithm': 'maglev', 'a.example/b': 'c' }
  const service = { ...exampleService('web'), annotations }
  expect(annotationProblems(service)).toEqual([])
  expect(drainSecondsOf(service)).toBe(30)
})
