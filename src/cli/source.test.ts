import { expect, test } from 'vitest'
import type { ResourceView } from '../daemon/control-api.ts'
import { formatSources } from './source.ts'

const resource: ResourceView = {
  resource: 'services',
  synced: true,
  connected: true,
  objects: 2,
  ageSeconds: 3.4,
  lists: 1,
  watches: 1,
  events: 0,
  failures: 0,
  auditFailures: 0,
  error: undefined,
}

test('formatSources() says of each source whether it is complete, how old it is, and what it has', () => {
  const text = formatSources([
    { name: 'files /m', synced: true, objects: { services: 1, pods: 0 }, problems: 2, resources: [] },
    {
      name: 'Kubernetes 10.0.0.1:6443',
      synced: false,
      objects: { services: 0 },
      problems: 1,
      resources: [
        resource,
        { ...resource, resource: 'endpointslices', connected: false, error: 'connect ECONNREFUSED' },
        { ...resource, resource: 'nodes', synced: false, connected: false, ageSeconds: undefined, objects: 0 },
      ],
    },
  ])
  expect(text.split('\n')).toEqual([
    'SOURCE                    SYNCED  AGE  OBJECTS     PROBLEMS',
    'files /m                  yes     -    1 services  2',
    'Kubernetes 10.0.0.1:6443  no           0           1',
    '  services                yes     3 s  2',
    '  endpointslices          lost    3 s  2           connect ECONNREFUSED',
    '  nodes                   no      -    0',
  ])
})
