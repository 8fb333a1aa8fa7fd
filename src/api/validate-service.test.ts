import { describe, expect, test } from 'vitest'
import { keyProblems, labelProblems, portNameProblems } from './name-rules.ts'
import { serviceUsageCauses, serviceValueCauses } from './validate-service.ts'

const ports = [{ port: 80, protocol: 'TCP' }]
const service = (spec: object) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'a' },
  spec: { ports, ...spec },
})

describe('serviceValueCauses()', () => {
  // The words of kube-apiserver 1.36.
  test.each<[object, string]>([
    [{ ports: [{ port: 70_000 }] }, 'spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive'],
    [
      { ports: [{ port: 80, targetPort: 'http--x' }] },
      'spec.ports[0].targetPort: Invalid value: "http--x": must not contain consecutive hyphens',
    ],
    [{ ports: [{ port: 80, name: 'a' }, { port: 81 }] }, 'spec.ports[1].name: Required value'],
    [
      {
        ports: [
          { port: 80, name: 'a' },
          { port: 81, name: 'a' },
        ],
      },
      'spec.ports[1].name: Duplicate value: "a"',
    ],
    [
      { ports: [{ port: 80, protocol: 'tcp' }] },
      'spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
    ],
    [
      {
        ports: [
          { port: 80, name: 'a' },
          { port: 80, name: 'b' },
        ],
      },
      'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}',
    ],
    [
      {
        ports: [
          { port: 80, name: 'a', nodePort: 30_000 },
          { port: 81, name: 'b', nodePort: 30_000 },
        ],
      },
      'spec.ports[1].nodePort: Duplicate value: 30000',
    ],
    [
      { type: 'Foo' },
      'spec.type: Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ],
    [
      { type: 'NodePort', clusterIP: 'None' },
      `spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services`,
    ],
    [
      { clusterIP: '10.0.0.300' },
      'spec.clusterIPs[0]: Invalid value: "10.0.0.300": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ],
    [{ type: 'ExternalName' }, 'spec.externalName: Required value'],
    [
      { externalIPs: ['169.254.1.1'] },
      'spec.externalIPs[0]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)',
    ],
    [
      { type: 'LoadBalancer', loadBalancerSourceRanges: [' 10.0.0.0/33'] },
      'spec.LoadBalancerSourceRanges[0]: Invalid value: " 10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
    ],
    [
      { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 86_401 } } },
      'spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400',
    ],
    [{ ipFamilies: ['IPv4', 'IPv4'] }, 'spec.ipFamilies[1]: Duplicate value: "IPv4"'],
    [
      { selector: { app: 'a b' } },
      `spec.selector: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
    ],
  ])('says what is wrong with %j', (spec, expected) => {
    expect(serviceValueCauses(service(spec)).map(({ field, message }) => `${field}: ${message}`)).toEqual([expected])
  })

  test.each([
    { type: 'LoadBalancer', loadBalancerSourceRanges: [' 10.0.0.0/8 '], loadBalancerClass: 'example.com/lb' },
    { type: 'ExternalName', externalName: 'Example.org'.toLowerCase() + '.', ports: [] },
    { clusterIP: 'None', ports: [] },
    {
      ports: [
        { port: 53, name: 'a', protocol: 'UDP' },
        { port: 53, name: 'b', protocol: 'TCP', targetPort: 'dns-tcp' },
      ],
    },
    { trafficDistribution: 'PreferSameNode', externalIPs: ['198.51.100.1', '2001:db8::1'] },
  ])('has nothing to say of %j', (spec) => {
    expect(serviceValueCauses(service(spec))).toEqual([])
  })
})

test.each<[object, string]>([
  [{ type: 'ClusterIP', allocateLoadBalancerNodePorts: false }, 'spec.allocateLoadBalancerNodePorts'],
  [{ type: 'NodePort', loadBalancerClass: 'a' }, 'spec.loadBalancerClass'],
  [{ type: 'NodePort', loadBalancerSourceRanges: ['10.0.0.0/8'] }, 'spec.LoadBalancerSourceRanges'],
  [{ type: 'ClusterIP', externalTrafficPolicy: 'Cluster' }, 'spec.externalTrafficPolicy'],
  [{ type: 'NodePort', externalTrafficPolicy: 'Local', healthCheckNodePort: 30_000 }, 'spec.healthCheckNodePort'],
  [{ type: 'ClusterIP', sessionAffinity: 'None', sessionAffinityConfig: {} }, 'spec.sessionAffinityConfig'],
])('serviceUsageCauses() says what does not go together: %j', (spec, field) => {
  expect(serviceUsageCauses(service(spec)).map((cause) => cause.field)).toEqual([field])
})

test('serviceUsageCauses() lets an external policy be where there are external IPs', () => {
  expect(
    serviceUsageCauses(service({ type: 'ClusterIP', externalIPs: ['198.51.100.1'], externalTrafficPolicy: 'Local' })),
  ).toEqual([])
})

test.each<[(text: string) => string[], string, number]>([
  [labelProblems, 'a'.repeat(63), 0],
  [labelProblems, 'a'.repeat(64), 1],
  [labelProblems, 'a.b', 1],
  [labelProblems, '-a', 1],
  [keyProblems, 'example.com/App_1', 0],
  [keyProblems, '/app', 1],
  [keyProblems, 'a/b/c', 1],
  [keyProblems, 'Example.com/app', 1],
  [keyProblems, `a/${'b'.repeat(64)}`, 1],
  [portNameProblems, 'http-2', 0],
  [portNameProblems, '80', 1],
  [portNameProblems, 'a-very-long-port', 1],
])('%s counts what is wrong with %j', (problems, text, count) => {
  expect(problems(text)).toHaveLength(count)
})
