import { describe, expect, test } from 'vitest'
import { ManifestError } from './manifest-error.ts'
import { parseService } from './parse-service.ts'

const service = (spec: object, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'shop', ...metadata },
  spec,
})

/** What is wrong, as `path: reason` lines. */
function problemsOf(manifest: unknown): string[] {
  try {
    parseService(manifest)
    return []
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error
    return error.problems.map((p) => `${p.path}: ${p.reason}`)
  }
}

describe('parseService()', () => {
  test('fills in what Kubernetes fills in', () => {
    const parsed = parseService({ metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } })
    expect(parsed).toMatchObject({
      namespace: 'default',
      type: 'ClusterIP',
      clusterIPs: [],
      headless: false,
      selector: undefined,
      ports: [{ name: '', protocol: 'tcp', port: 80, targetPort: 80, nodePort: undefined }],
      sessionAffinity: { kind: 'None' },
      internalTrafficPolicy: 'Cluster',
      externalTrafficPolicy: 'Cluster',
      publishNotReadyAddresses: false,
    })
  })

  test.each<[string, object, object]>([
    ['an address', { clusterIP: '10.0.0.1' }, { clusterIPs: ['10.0.0.1'], headless: false }],
    [
      'both families',
      { clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1', 'FD00::1'] },
      { clusterIPs: ['10.0.0.1', 'fd00::1'] },
    ],
    ['None', { clusterIP: 'None', clusterIPs: ['None'] }, { clusterIPs: [], headless: true }],
    ['an empty address', { clusterIP: '' }, { clusterIPs: [], headless: false }],
    [
      'an ExternalName with an old address',
      { type: 'ExternalName', externalName: 'a.example', clusterIP: '10.0.0.1' },
      { clusterIPs: [], externalName: 'a.example' },
    ],
    [
      'ClientIP without a timeout',
      { sessionAffinity: 'ClientIP' },
      { sessionAffinity: { kind: 'ClientIP', timeoutSeconds: 10_800 } },
    ],
    ['a named target port', { ports: [{ port: 80, targetPort: 'http' }] }, { ports: [{ targetPort: 'http' }] }],
    [
      'zero for no node port',
      { ports: [{ port: 80, nodePort: 0, targetPort: 0 }] },
      { ports: [{ nodePort: undefined, targetPort: 80 }] },
    ],
    ['an empty selector', { selector: {} }, { selector: undefined }],
    [
      'a source range with spaces and host bits',
      { loadBalancerSourceRanges: [' 10.1.2.3/8 '] },
      { loadBalancerSourceRanges: [{ address: '10.0.0.0', prefix: 8 }] },
    ],
    ['null for absent', { ports: null, externalIPs: null }, { ports: [], externalIPs: [] }],
    ['families', { ipFamilies: ['IPv6', 'IPv4'], ipFamilyPolicy: 'PreferDualStack' }, { ipFamilies: [6, 4] }],
  ])('reads %s', (_, spec, expected) => {
    expect(parseService(service(spec))).toMatchObject(expected)
  })

  test('keeps load balancer entries with an address, and their mode, and the names of the others', () => {
    const status = {
      loadBalancer: { ingress: [{ ip: '1.2.3.4' }, { hostname: 'lb.example' }, { ip: '5.6.7.8', ipMode: 'Proxy' }] },
    }
    const parsed = parseService({ ...service({}), status })
    expect(parsed.loadBalancerIngress).toEqual([
      { ip: '1.2.3.4', ipMode: 'VIP' },
      { ip: '5.6.7.8', ipMode: 'Proxy' },
    ])
    expect(parsed.loadBalancerHostnames).toEqual(['lb.example'])
  })

  test('leaves out the copy of the manifest that kubectl puts into annotations', () => {
    const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': '{...}', note: 'x' }
    expect(parseService(service({}, { annotations })).annotations).toEqual({ note: 'x' })
  })

  test.each<[object, string[]]>([
    [
      { ports: [{ port: 70_000 }] },
      ['spec.ports[0].port: 70000 is not a port (expected a whole number from 1 to 65535)'],
    ],
    [{ ports: [{}] }, ['spec.ports[0].port: is missing (expected a whole number from 1 to 65535)']],
    [
      { ports: [{ port: 80, protocol: 'ICMP' }] },
      ['spec.ports[0].protocol: "ICMP" is not a protocol (expected TCP, UDP or SCTP)'],
    ],
    [
      { ports: [{ port: 80, nodePort: 99_999 }] },
      ['spec.ports[0].nodePort: 99999 is not a port (expected a whole number from 1 to 65535)'],
    ],
    [{ ports: {} }, ['spec.ports: {} is not a list']],
    [
      { ports: [7] },
      ['spec.ports[0]: 7 is not an object', 'spec.ports[0].port: is missing (expected a whole number from 1 to 65535)'],
    ],
    [
      {
        ports: [
          { name: 'a', port: 80 },
          { name: 'a', port: 80 },
        ],
      },
      [
        'spec.ports[1].name: "a" stands twice (expected different names)',
        'spec.ports[1].port: tcp 80 stands twice (expected different ports per protocol)',
      ],
    ],
    [
      { ports: [{ name: 'a', port: 80 }, { port: 81 }] },
      ['spec.ports[1].name: is missing (expected when there is more than one port)'],
    ],
    ...['127.0.0.1', '0.0.0.0', '224.0.0.5', '::1', 'fe80::1'].map((ip): [object, string[]] => [
      { clusterIP: ip },
      [`spec.clusterIP: "${ip}" cannot be a cluster IP (it is unspecified, loopback, link-local or multicast)`],
    ]),
    [{ clusterIP: 'web' }, ['spec.clusterIP: "web" is not an IP address (expected IPv4, IPv6 or None)']],
    [
      { clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.2'] },
      ['spec.clusterIPs[0]: "10.0.0.2" differs from spec.clusterIP "10.0.0.1" (expected the same)'],
    ],
    [
      { clusterIPs: ['10.0.0.1', '10.0.0.2'] },
      ['spec.clusterIPs: ["10.0.0.1","10.0.0.2"] has two addresses of one family (expected one per family at most)'],
    ],
    [
      { clusterIP: 'None', type: 'NodePort' },
      ['spec.clusterIP: "None" goes with type ClusterIP only (the type is NodePort)'],
    ],
    [
      { type: 'Loadbalancer' },
      ['spec.type: "Loadbalancer" is not known here (expected ClusterIP, NodePort, LoadBalancer or ExternalName)'],
    ],
    [{ type: 'ExternalName' }, ['spec.externalName: is missing (expected with type ExternalName)']],
    [{ selector: { version: 1 } }, ['spec.selector.version: 1 is not a string (write it in quotes)']],
    [
      { sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } },
      ['spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not a whole number from 1 to 86400'],
    ],
    [
      { externalIPs: ['10.0.0.1', 'x'] },
      ['spec.externalIPs[1]: "x" is not an IP address (expected IPv4 like 10.0.0.1 or IPv6 like fd00::1)'],
    ],
    [
      { publishNotReadyAddresses: 'yes' },
      ['spec.publishNotReadyAddresses: "yes" is not a boolean (expected true or false)'],
    ],
  ])('refuses %j', (spec, expected) => {
    expect(problemsOf(service(spec))).toEqual(expected)
  })

  test('lists all problems of an object, and names the object', () => {
    const manifest = service({ clusterIP: 'x', ports: [{ port: 0 }] }, { name: 'Web' })
    expect(problemsOf(manifest).map((line) => line.split(':')[0])).toEqual([
      'metadata.name',
      'spec.clusterIP',
      'spec.ports[0].port',
    ])
    expect(() => parseService(manifest)).toThrow(/^Service shop\/Web: metadata\.name: "Web" is not a name/)
  })

  test.each([null, 'text', [], 7])('refuses %j as a whole', (manifest) => {
    expect(problemsOf(manifest)[0]).toMatch(/is not an object/)
  })
})
