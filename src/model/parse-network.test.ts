import { describe, expect, test } from 'vitest'
import { parseManifest } from './parse-manifest.ts'
import { fairleadApi, parseNetworkManifest } from './parse-network.ts'

const manifest = (spec: unknown, name: unknown = 'lan') => ({
  apiVersion: fairleadApi,
  kind: 'Network',
  metadata: { name, labels: { team: 'shop' } },
  spec,
})

describe('parseNetworkManifest()', () => {
  test('keeps the spec as it is written, with the labels of both places', () => {
    expect(parseNetworkManifest(manifest({ subnets: ['10.1.0.0/24'], labels: { tier: 'db' } }))).toEqual({
      name: 'lan',
      spec: { subnets: ['10.1.0.0/24'], labels: { team: 'shop', tier: 'db' } },
    })
  })

  test('is a kind that parseManifest() knows, without a namespace', () => {
    expect(parseManifest(manifest({}))).toMatchObject([{ kind: 'object', object: { kind: 'Network' } }])
    expect(parseManifest(manifest({ mtu: 1 }))).toMatchObject([{ kind: 'refused', id: 'Network lan' }])
  })

  test.each<[unknown, RegExp]>([
    [{ subnets: ['10.1.0.1/24'] }, /spec\.subnets\[0\]: .*10\.1\.0\.0\/24/],
    [{ subnet: '10.1.0.0/24' }, /spec\.subnet: unknown field/],
    [{ auxAddresses: { nas: 'here' } }, /spec\.auxAddresses\.nas: "here" is not an IP address/],
    [{ driver: 'overlay' }, /spec\.driver: "overlay" is not known here/],
    ['text', /spec: "text" is not an object/],
  ])('refuses %j', (spec, message) => {
    expect(() => parseNetworkManifest(manifest(spec))).toThrow(message)
  })

  test('refuses a name that is no label', () => {
    expect(() => parseNetworkManifest(manifest({}, 'My.Net'))).toThrow(/metadata\.name: "My\.Net" is not a name/)
  })
})
