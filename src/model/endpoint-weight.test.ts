import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import { readWeights } from './endpoint-weight.ts'
import type { FieldProblem } from './manifest-error.ts'

const ip = parseIp('10.0.0.1')
const weight = 'fairlead.dev/weight'
const weights = 'fairlead.dev/weights'

test.each([
  [{}, undefined],
  [{ [weight]: '0' }, 0],
  [{ [weight]: '3', [weights]: '10.0.0.2=5' }, 3],
  [{ [weight]: '3', [weights]: '10.0.0.2=5, 10.0.0.1=65535' }, 65_535],
])('readWeights() of %j is %s', (annotations, expected) => {
  const problems: FieldProblem[] = []
  expect(readWeights(annotations, problems)(ip)).toBe(expected)
  expect(problems).toEqual([])
})

test('readWeights() says each wrong entry of an annotation, and counts none of it', () => {
  const problems: FieldProblem[] = []
  expect(readWeights({ [weights]: 'a=1,10.0.0.1=3,10.0.0.2,10.0.0.3=65536' }, problems)(ip)).toBeUndefined()
  expect(problems.map(({ reason }) => reason)).toEqual([
    expect.stringContaining('"a"'),
    expect.stringContaining('"10.0.0.2" is not a weight of an address'),
    expect.stringContaining('"65536" is not a weight'),
  ])
})

test.each([
  [{ [weight]: '-1' }, weight, '"-1" is not a weight (expected a whole number from 0 to 65535); not counted'],
  [{ [weight]: '65536' }, weight, '"65536" is not a weight'],
  [{ [weights]: '10.0.0.1' }, weights, '"10.0.0.1" is not a weight of an address (expected like 10.0.0.1=3)'],
  [{ [weights]: 'a=1' }, weights, '"a"'],
  [{ 'fairlead.dev/wieght': '3' }, 'fairlead.dev/wieght', 'is not known (expected fairlead.dev/weight or '],
])('readWeights() says what is wrong with %j', (annotations, name, reason) => {
  const problems: FieldProblem[] = []
  expect(readWeights(annotations, problems)(ip)).toBeUndefined()
  expect(problems).toEqual([{ path: `metadata.annotations.${name}`, reason: expect.stringContaining(reason) }])
})
