import { expect, test } from 'vitest'
import { exampleService, exampleSlice, exampleSnapshot } from '../proxy/example-objects.ts'
import { SliceCounts } from './slice-counts.ts'

test('SliceCounts follows slices that come, change and go', () => {
  const counts = new SliceCounts()
  const summary = (): string => `${counts.slices} ${counts.endpoints}`
  const [a, b] = [exampleService('a'), exampleService('b')]
  const full = exampleSnapshot([
    [a, exampleSlice(a, ['10.0.0.1', '10.0.0.2']), exampleSlice(a, ['10.0.0.3'], { name: 'a-2' })],
    [b, exampleSlice(b, ['10.0.0.4'])],
  ])
  counts.update(full.slices)
  expect(summary()).toBe('3 4')
  counts.update(full.slices.with([['default/b', [exampleSlice(b, ['10.0.0.4', '10.0.0.5'])]]], ['default/a']))
  expect(summary()).toBe('1 2')
  counts.update(exampleSnapshot([]).slices)
  expect(summary()).toBe('0 0')
})
