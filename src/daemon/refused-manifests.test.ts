import { expect, test } from 'vitest'
import type { Problem } from '../sources/source.ts'
import { refusedManifests } from './refused-manifests.ts'

const problem = (object: string | undefined, severity: Problem['severity'] = 'error'): Problem => ({
  severity,
  file: 'web.yaml',
  line: 7,
  object,
  path: 'spec.ports[0].port',
  reason: '99999 is not a port',
})

test.each<[string, readonly Problem[], readonly string[]]>([
  ['nothing', [], []],
  ['what is of no use here', [problem('Service shop/web', 'skipped')], []],
  ['another kind', [problem('Network lan')], []],
  [
    'a Service',
    [problem('Service shop/web')],
    ['not served as written: web.yaml:7, Service shop/web: spec.ports[0].port: 99999 is not a port'],
  ],
  ['a file', [problem(undefined)], ['not served as written: web.yaml:7: spec.ports[0].port: 99999 is not a port']],
])('refusedManifests() of %s', (_, problems, expected) => {
  expect(refusedManifests(problems)).toEqual(expected)
})

test('refusedManifests() names three, and says how many more there are', () => {
  const lines = refusedManifests(Array.from({ length: 5 }, (_, i) => problem(`Service shop/web-${i}`)))
  expect(lines).toHaveLength(4)
  expect(lines.at(-1)).toBe('not served as written: 2 more manifests (fairlead status)')
})
