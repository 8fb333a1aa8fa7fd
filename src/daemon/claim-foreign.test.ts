import { expect, test } from 'vitest'
import { ApiServer } from '../api/api-server.ts'
import { resourceTypeOf } from '../api/resources.ts'
import { systemClock } from '../base/clock.ts'
import { silentLog } from '../base/log.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { MemorySource } from '../sources/memory.ts'
import { mergeSources } from '../sources/merge.ts'
import { ApiSource } from './api-source.ts'
import { ForeignClaims } from './claim-foreign.ts'

test('ForeignClaims holds what Services of files have, not those of the API, and lets it go with them', async () => {
  const claims = { serviceCIDRs: [parseCidr('10.96.0.0/29')] }
  using server = await ApiServer.open({ file: ':memory:', claims, clock: systemClock, log: silentLog, version: 'test' })
  using source = new ApiSource(server.store, { nodeName: 'n1' })
  const files = new MemorySource('files')
  using merged = mergeSources({ sources: [files, source], log: silentLog })
  const foreign = new ForeignClaims(server.store, server.claims)
  using _ = { [Symbol.dispose]: merged.subscribe((snapshot) => foreign.update(snapshot)) }
  const create = async (name: string): Promise<unknown> => {
    const target = { type: resourceTypeOf('Service'), namespace: 'default', name: '', subresource: '' } as const
    const body = { metadata: { name }, spec: { type: 'NodePort', ports: [{ port: 80 }] } }
    const options = { fieldManager: 'test', fieldValidation: 'Strict', dryRun: false, warnings: [] } as const
    return (await server.api.create(target, body, { ...options, warnings: [] })).object.spec?.['clusterIP']
  }
  const file = (name: string, clusterIP: string, nodePort: number): object => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { type: 'NodePort', clusterIP, ports: [{ port: 80, nodePort }] },
  })
  // Of 10.96.0.2 to 10.96.0.6, which are all that can be given, three are of files.
  files.applyManifests([file('a', '10.96.0.2', 30_001), file('b', '10.96.0.3', 30_002), file('c', '10.96.0.4', 30_003)])
  expect(new Set([await create('x'), await create('y')])).toEqual(new Set(['10.96.0.5', '10.96.0.6']))
  await expect(create('z')).rejects.toThrow('none is free')
  expect(server.claims.portOwnerOf(30_002, '')).toBe('default/b of another source')
  expect(server.claims.ownerOf(parseIp('10.96.0.5'), '')).toMatch(/^default\/[xy]$/)
  files.update([], ['Service default/b'])
  expect(await create('z')).toBe('10.96.0.3')
  expect(server.claims.portOwnerOf(30_002, '')).toBeUndefined()
})
