import { describe, expect, it } from 'vitest'
import { parseManifest } from './parse-manifest.ts'

const manifest = (spec: unknown): unknown => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'ServiceCIDR',
  metadata: { name: 'kubernetes' },
  spec,
})

describe('parseServiceCIDR', () => {
  it('reads one network per family', () => {
    expect(parseManifest(manifest({ cidrs: ['10.96.0.0/12', 'fd00:96::/108'] }))).toMatchObject([
      { kind: 'object', object: { kind: 'ServiceCIDR', value: { name: 'kubernetes', cidrs: [{ prefix: 12 }, {}] } } },
    ])
  })

  it.each([
    [{ cidrs: ['10.96.0.0'] }, 'spec.cidrs[0]'],
    [{ cidrs: ['10.96.0.0/12', '10.112.0.0/12'] }, 'spec.cidrs'],
    [{}, 'spec.cidrs'],
  ])('refuses %j and names %s', (spec, path) => {
    expect(parseManifest(manifest(spec))).toMatchObject([
      { kind: 'refused', id: 'ServiceCIDR kubernetes', problems: [{ path }] },
    ])
  })
})
