import { describe, expect, test } from 'vitest'
import { manifestId, parseManifest } from './parse-manifest.ts'

const slice = (fields: object) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-a', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
  addressType: 'IPv4',
  ...fields,
})

/** The one result of a manifest, which must be an object. */
function parseOne(manifest: unknown) {
  const [result] = parseManifest(manifest)
  if (result?.kind !== 'object') throw new Error(`not an object: ${JSON.stringify(result)}`)
  return result
}

describe('parseManifest() of an EndpointSlice', () => {
  test('counts absent conditions as Kubernetes does, and uses the first address', () => {
    const { object } = parseOne(slice({ ports: [{ port: 80 }], endpoints: [{ addresses: ['10.0.0.1', '10.0.0.2'] }] }))
    expect(manifestId(object)).toBe('EndpointSlice shop/web-a')
    expect(object.value).toMatchObject({
      serviceName: 'web',
      family: 4,
      ports: [{ name: '', protocol: 'tcp', port: 80 }],
      endpoints: [
        { address: '10.0.0.1', ready: true, serving: true, terminating: false, hints: { zones: [], nodes: [] } },
      ],
    })
  })

  test.each(['', 'x'])('knows the headless label, whatever its value (%j)', (value) => {
    const labels = { 'kubernetes.io/service-name': 'web', 'service.kubernetes.io/headless': value }
    const { object } = parseOne(slice({ metadata: { name: 'web-a', namespace: 'shop', labels } }))
    expect(object.value).toMatchObject({ headless: true })
    expect(parseOne(slice({})).object.value).not.toHaveProperty('headless')
  })

  test('leaves out ports that are null or 0', () => {
    const { object } = parseOne(
      slice({
        ports: [
          { name: 'a', port: null },
          { name: 'b', port: 0 },
          { name: 'c', port: 1 },
        ],
      }),
    )
    expect(object.value).toMatchObject({ ports: [{ name: 'c' }] })
  })

  test.each<[object, string, string]>([
    [{ addresses: ['web.example'] }, 'endpoints[1].addresses[0]', '"web.example" is not an IPv4 address'],
    [{ addresses: ['fd00::1'] }, 'endpoints[1].addresses[0]', '"fd00::1" is not an IPv4 address (see addressType)'],
    [
      { addresses: ['127.0.0.1'] },
      'endpoints[1].addresses[0]',
      '"127.0.0.1" cannot be an endpoint (it is unspecified, loopback, link-local or multicast)',
    ],
    [{ addresses: [] }, 'endpoints[1].addresses', 'is empty (expected an address)'],
    [
      { addresses: ['10.0.0.9'], conditions: { ready: 'no' } },
      'endpoints[1].conditions.ready',
      '"no" is not a boolean (expected true or false)',
    ],
  ])('leaves out only the endpoint %j', (bad, path, reason) => {
    const endpoints = [{ addresses: ['10.0.0.1'] }, bad, { addresses: ['10.0.0.3'] }]
    const { object, problems } = parseOne(slice({ endpoints }))
    expect(object.value).toMatchObject({ endpoints: [{ address: '10.0.0.1' }, { address: '10.0.0.3' }] })
    expect(problems).toEqual([{ path, reason }])
  })

  test('leaves out only the endpoint that is no object', () => {
    const { object, problems } = parseOne(slice({ endpoints: [null, { addresses: ['10.0.0.3'] }] }))
    expect(object.value).toMatchObject({ endpoints: [{ address: '10.0.0.3' }] })
    expect(problems[0]).toEqual({ path: 'endpoints[0]', reason: 'null is not an object' })
  })

  test('reads hints, zone, node and the pod behind', () => {
    const endpoint = {
      addresses: ['10.0.0.1'],
      zone: 'a',
      nodeName: 'n1',
      hostname: 'db-0',
      hints: { forZones: [{ name: 'a' }], forNodes: [{ name: 'n1' }] },
      targetRef: { kind: 'Pod', name: 'db-0-xyz' },
    }
    expect(parseOne(slice({ endpoints: [endpoint] })).object.value).toMatchObject({
      endpoints: [
        { zone: 'a', nodeName: 'n1', hostname: 'db-0', hints: { zones: ['a'], nodes: ['n1'] }, targetPod: 'db-0-xyz' },
      ],
    })
  })

  test.each<[object, string]>([
    [{ addressType: 'FQDN', endpoints: [{ addresses: ['a.example'] }] }, 'addressType'],
    [{ metadata: { name: 'web-a' } }, 'metadata.labels'],
  ])('skips %j and says why', (fields, path) => {
    expect(parseManifest(slice(fields))).toMatchObject([{ kind: 'skipped', problem: { path } }])
  })

  test.each<[object, string]>([
    [{ addressType: 'ipv4' }, 'addressType: "ipv4" is not known here (expected IPv4, IPv6 or FQDN)'],
    [{ addressType: undefined }, 'addressType: is missing (expected IPv4 or IPv6)'],
    [{ endpoints: 'x' }, 'endpoints: "x" is not a list'],
  ])('refuses %j', (fields, expected) => {
    const [result] = parseManifest(slice(fields))
    expect(result?.kind === 'refused' && result.problems.map((p) => `${p.path}: ${p.reason}`)).toEqual([expected])
  })

  test('leaves a wrong port out and keeps the others', () => {
    const { object, problems } = parseOne(
      slice({
        ports: [
          { name: 'x', port: 70_000 },
          { name: 'http', port: 8080 },
        ],
      }),
    )
    expect(object.value).toMatchObject({ ports: [{ name: 'http', port: 8080 }] })
    expect(problems).toEqual([
      { path: 'ports[0].port', reason: '70000 is not a port (expected a whole number from 1 to 65535)' },
    ])
  })

  test('looks at the first address of an endpoint alone', () => {
    const { object } = parseOne(slice({ endpoints: [{ addresses: ['10.0.000.009', 'nonsense'] }] }))
    expect(object.value).toMatchObject({ endpoints: [{ address: '10.0.0.9' }] })
  })
})

describe('parseManifest() of a Pod', () => {
  const pod = (spec: object, status: object, metadata: object = {}) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-1', ...metadata },
    spec,
    status,
  })

  test.each<[string, object, object]>([
    ['a pod without a status', pod({}, {}), { phase: 'Pending', ready: false, podIPs: [] }],
    [
      'a running pod without conditions',
      pod({}, { phase: 'Running', podIP: '10.0.0.1' }),
      { ready: true, podIPs: ['10.0.0.1'] },
    ],
    [
      'a pod that is not ready',
      pod({}, { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] }),
      { ready: false },
    ],
    [
      'both addresses',
      pod({}, { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] }),
      { podIPs: ['10.0.0.1', 'fd00::1'] },
    ],
    ['a terminating pod', pod({}, {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }), { terminating: true }],
    [
      'named ports',
      pod({ containers: [{ ports: [{ name: 'http', containerPort: 8080 }, { containerPort: 1 }] }] }, {}),
      { ports: [{ name: 'http', protocol: 'tcp', port: 8080 }] },
    ],
  ])('reads %s', (_, manifest, expected) => {
    expect(parseOne(manifest).object.value).toMatchObject(expected)
  })

  test('refuses addresses that disagree', () => {
    expect(parseManifest(pod({}, { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.2' }] }))).toMatchObject([
      { kind: 'refused', id: 'Pod default/web-1', problems: [{ path: 'status.podIPs[0].ip' }] },
    ])
  })

  test.each(['127.0.0.1', '0.0.0.0', '169.254.169.254', '224.0.0.5', '::1', 'fe80::1'])(
    'refuses the address %s, to which others must not send',
    (ip) => {
      const reason = `"${ip}" cannot be an endpoint (it is unspecified, loopback, link-local or multicast)`
      expect(parseManifest(pod({}, { podIPs: [{ ip }] }))).toMatchObject([
        { kind: 'refused', problems: [{ path: 'status.podIPs[0].ip', reason }] },
      ])
    },
  )
})

describe('parseManifest() of a Node', () => {
  test('puts internal addresses first and leaves out host names', () => {
    const status = {
      addresses: [
        { type: 'ExternalIP', address: '1.2.3.4' },
        { type: 'Hostname', address: 'n1' },
        { type: 'InternalIP', address: '192.168.0.2' },
      ],
    }
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, spec: { podCIDR: '10.1.0.0/24' }, status }
    expect(parseOne(node).object.value).toMatchObject({
      addresses: ['192.168.0.2', '1.2.3.4'],
      podCIDRs: [{ address: '10.1.0.0', prefix: 24 }],
    })
  })
})

describe('parseManifest()', () => {
  const good = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' } }

  test('expands a List, and names places below items', () => {
    const bad = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'b' }, spec: { ports: [{ port: 0 }] } }
    expect(parseManifest({ apiVersion: 'v1', kind: 'List', items: [good, bad, 7] })).toMatchObject([
      { kind: 'object' },
      { kind: 'refused', id: 'Service default/b', problems: [{ path: 'items[1].spec.ports[0].port' }] },
      { kind: 'refused', problems: [{ path: 'items[2]' }] },
    ])
  })

  test('refuses a List inside a List, which aliases could make endless', () => {
    const inner = { apiVersion: 'v1', kind: 'List', items: [good, good] }
    expect(parseManifest({ apiVersion: 'v1', kind: 'List', items: [inner, good] })).toMatchObject([
      { kind: 'refused', problems: [{ path: 'items[0]' }] },
      { kind: 'object' },
    ])
  })

  test('shows only the beginning of a value that aliases made endless', () => {
    let bomb: unknown = 'x'
    for (let i = 0; i < 60; i++) bomb = [bomb, bomb]
    const [result] = parseManifest({ ...good, spec: { type: bomb } })
    expect(result?.kind === 'refused' && result.problems[0]?.reason.length).toBeLessThan(200)
  })

  test('gives the items of a typed list their kind', () => {
    const items = [{ metadata: { name: 'a' } }]
    expect(parseManifest({ apiVersion: 'v1', kind: 'ServiceList', items })).toMatchObject([
      { kind: 'object', object: { kind: 'Service' } },
    ])
  })

  test('reads a Namespace', () => {
    const manifest = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'quiet', labels: { a: 'b' } } }
    expect(parseManifest(manifest)).toEqual([
      {
        kind: 'object',
        object: { kind: 'Namespace', value: { name: 'quiet', labels: { a: 'b' } } },
        problems: [],
      },
    ])
  })

  test.each([
    ['apps/v1', 'Deployment'],
    ['v1', 'Secret'],
  ])('ignores %s %s', (apiVersion, kind) => {
    expect(parseManifest({ apiVersion, kind, metadata: { name: 'x' } })).toEqual([
      { kind: 'ignored', apiKind: `${apiVersion} ${kind}` },
    ])
  })

  test.each<[unknown, string]>([
    [{ kind: 'Service' }, 'apiVersion'],
    [{ apiVersion: 'v1' }, 'kind'],
    ['text', ''],
  ])('refuses %j', (manifest, path) => {
    expect(parseManifest(manifest)).toMatchObject([{ kind: 'refused', problems: [{ path }] }])
  })

  test('passes each string that it keeps to intern()', () => {
    const seen: string[] = []
    parseManifest(good, { intern: (text) => (seen.push(text), text) })
    expect(seen).toContain('a')
  })
})
