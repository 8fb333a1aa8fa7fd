import { describe, expect, it } from 'vitest'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parsePort } from '../net/port.ts'
import { compileServices, defaultProxySettings, type ProxySettings } from './compile-services.ts'
import { decide, originOf, type Decision } from './decide.ts'
import { exampleService, exampleSlice, exampleSnapshot } from './example-objects.ts'

const here = (address: string) => ({ address, nodeName: 'this-node' })
const web = exampleService('web', {
  type: 'LoadBalancer',
  ports: ['80:30080/tcp'],
  externalTrafficPolicy: 'Local',
  loadBalancerIngress: [{ ip: parseIp('1.2.3.4'), ipMode: 'VIP' }],
  loadBalancerSourceRanges: [parseCidr('203.0.113.0/25'), parseCidr('10.0.0.0/8')],
})
const far = exampleService('far', {
  clusterIPs: ['10.96.0.2'],
  ports: ['80:30081/tcp'],
  externalTrafficPolicy: 'Local',
})
const empty = exampleService('empty', { clusterIPs: ['10.96.0.3'] })
const snapshot = exampleSnapshot([
  [web, exampleSlice(web, [here('10.0.0.1'), '10.0.2.1'])],
  [far, exampleSlice(far, ['10.0.2.2'])],
  [empty],
])

function decideFor(from: string, to: string, settings: Partial<ProxySettings> = {}): Decision {
  const all: ProxySettings = {
    ...defaultProxySettings,
    localPods: [parseCidr('10.0.0.0/8')],
    serviceCIDRs: [parseCidr('10.96.0.0/16')],
    ...settings,
  }
  const [ip = '', port = ''] = to.split(' ')
  const fromNode = from === 'node'
  return decide(compileServices(snapshot, { nodeName: 'this-node', settings: all }), {
    protocol: 'tcp',
    source: parseIp(fromNode ? '192.168.0.2' : from),
    destination: parseIp(ip),
    port: parsePort(Number(port)),
    origin: fromNode ? 'node' : originOf(all, parseIp(from), 'eth0'),
    toNode: ip.startsWith('192.168.0.') || ip.startsWith('127.'),
  })
}

function text(decision: Decision): string {
  if (decision.kind !== 'balance') return decision.kind
  return `${decision.slots.map((s) => s.ip).join(' ')}${decision.masquerade ? ' masquerade' : ''}`
}

describe('decide', () => {
  it.each([
    ['10.0.0.9', '10.96.0.1 80', '10.0.0.1 10.0.2.1'],
    ['node', '10.96.0.1 80', '10.0.0.1 10.0.2.1 masquerade'],
    ['203.0.113.2', '10.96.0.1 80', '10.0.0.1 10.0.2.1 masquerade'],
    ['203.0.113.2', '1.2.3.4 80', '10.0.0.1'],
    ['203.0.113.200', '1.2.3.4 80', 'drop'],
    ['10.0.0.9', '1.2.3.4 80', '10.0.0.1 10.0.2.1'],
    ['203.0.113.200', '192.168.0.2 30080', '10.0.0.1'],
    ['node', '192.168.0.2 30080', '10.0.0.1 10.0.2.1 masquerade'],
    ['203.0.113.2', '192.168.0.2 30081', 'drop'],
    ['10.0.0.9', '192.168.0.2 30081', '10.0.2.2'],
    ['10.0.0.9', '10.96.0.3 80', 'reject'],
    ['10.0.0.9', '10.96.0.1 81', 'reject'],
    ['10.0.0.9', '10.96.0.99 80', 'drop'],
    ['10.0.0.9', '9.9.9.9 80', 'pass'],
    ['node', '127.0.0.1 30080', 'pass'],
    ['10.0.0.9', '192.168.0.2 22', 'pass'],
  ])('a connection from %s to %s: %s', (from, to, expected) => {
    expect(text(decideFor(from, to))).toBe(expected)
  })

  it('masquerades nobody on the way to a cluster IP when nobody is known to be a pod', () => {
    expect(text(decideFor('203.0.113.2', '10.96.0.1 80', { localPods: [] }))).toBe('10.0.0.1 10.0.2.1')
    expect(text(decideFor('10.0.0.9', '10.96.0.1 80', { masqueradeAll: true }))).toBe('10.0.0.1 10.0.2.1 masquerade')
  })

  it('serves node ports where nodePortAddresses says, and says where not', () => {
    const settings = { nodePortAddresses: [parseCidr('192.168.0.2/32')] }
    expect(text(decideFor('10.0.0.9', '192.168.0.2 30081', settings))).toBe('10.0.2.2')
    expect(decideFor('10.0.0.9', '192.168.0.12 30081', settings)).toEqual({
      kind: 'pass',
      why: '192.168.0.12 is not in nodePortAddresses',
    })
    expect(text(decideFor('node', '127.0.0.1 30081', { loopbackNodePorts: [4] }))).toBe('10.0.2.2 masquerade')
    expect(text(decideFor('node', '127.0.0.2 30081', { loopbackNodePorts: [4] }))).toBe('pass')
    expect(text(decideFor('10.0.0.9', '127.0.0.1 30081', { loopbackNodePorts: [4] }))).toBe('pass')
  })
})

it('originOf tells pods by network, or by interface', () => {
  const pod = parseIp('10.0.0.9')
  const byInterface = { ...defaultProxySettings, localInterface: { name: 'veth', prefix: true } }
  expect(originOf({ ...defaultProxySettings, localPods: [parseCidr('10.0.0.0/8')] }, pod, 'eth0')).toBe('pod')
  expect(originOf(byInterface, pod, 'eth0')).toBe('outside')
  expect(originOf(byInterface, pod, 'veth12')).toBe('pod')
  expect(originOf({ ...byInterface, localInterface: { name: 'veth', prefix: false } }, pod, 'veth12')).toBe('outside')
  expect(originOf(defaultProxySettings, pod, undefined)).toBe('node')
})
