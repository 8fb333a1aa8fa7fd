import { expect, test } from 'vitest'
import type { Node } from '../model/node.ts'
import { formatCidr, parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseKubeProxyConfig } from './config.ts'
import { kubeProxyApi } from './kube-proxy-keys.ts'
import { proxySettings, settingsProblem } from './proxy-settings.ts'

const node: Node = {
  name: 'node-1',
  labels: {},
  addresses: ['192.168.0.2', '192.168.0.12', 'fd00::2'].map(parseIp),
  podCIDRs: [parseCidr('10.244.1.0/24')],
}

function settingsOf(fields: object, facts: { node?: Node } = { node }) {
  const { services } = parseKubeProxyConfig({ ...kubeProxyApi, ...fields }, { origin: 'test' })
  if (!services) throw new Error('no services')
  const known = { node: facts.node, subnets: [], ownAddresses: [] }
  const settings = proxySettings(services, known)
  return {
    pods: settings.localPods.map(formatCidr),
    at: settings.localInterface,
    nodePorts: settings.nodePortAddresses?.map(formatCidr),
    loopback: settings.loopbackNodePorts,
    problem: settingsProblem(services, known),
  }
}

test.each([
  ['primary: the first address of each family', [], ['192.168.0.2/32', 'fd00::2/128'], []],
  ['a network', ['192.168.0.12/32'], ['192.168.0.12/32', '::/0'], []],
  ['everything', ['0.0.0.0/0', '::/0'], undefined, []],
  ['all', ['all'], undefined, []],
  ['all and localhost', ['all', 'localhost'], undefined, [4, 6]],
  ['localhost alone: no other address', ['localhost'], [], [4, 6]],
  ['127.0.0.0/8: nothing else of IPv4, all of IPv6', ['127.0.0.0/8'], ['::/0'], [4]],
  ['primary and ::1', ['primary', '::1/128'], ['192.168.0.2/32', 'fd00::2/128'], [6]],
])('proxySettings() serves NodePorts at %s', (_, nodePortAddresses, nodePorts, loopback) => {
  expect(settingsOf({ nodePortAddresses })).toMatchObject({ nodePorts, loopback })
})

test('proxySettings() serves NodePorts everywhere while there is no Node object', () => {
  expect(settingsOf({}, {})).toMatchObject({
    nodePorts: undefined,
    problem: expect.stringMatching(/^nodePortAddresses primary needs status.addresses, and there is no Node object/),
  })
})

test('proxySettings() lets bindAddress stand for the address of its family', () => {
  expect(settingsOf({ bindAddress: '192.168.0.12' }).nodePorts).toEqual(['192.168.0.12/32', 'fd00::2/128'])
})

test('proxySettings() serves no NodePort on loopback with iptables.localhostNodePorts false', () => {
  const iptables = { localhostNodePorts: false }
  expect(settingsOf({ iptables, nodePortAddresses: ['localhost'] })).toMatchObject({ nodePorts: [], loopback: [] })
})

test.each([
  ['clusterCIDR', { clusterCIDR: '10.244.0.0/16, fd00:10::/64' }, ['10.244.0.0/16', 'fd00:10::/64'], undefined],
  ['the podCIDRs of the Node', { detectLocalMode: 'NodeCIDR' }, ['10.244.1.0/24'], undefined],
  [
    'a bridge',
    { detectLocalMode: 'BridgeInterface', detectLocal: { bridgeInterface: 'cni0' } },
    [],
    { name: 'cni0', prefix: false },
  ],
  [
    'names of interfaces',
    { detectLocalMode: 'InterfaceNamePrefix', detectLocal: { interfaceNamePrefix: 'veth' } },
    [],
    { name: 'veth', prefix: true },
  ],
])('proxySettings() knows local pods by %s', (_, fields, pods, at) => {
  expect(settingsOf(fields)).toMatchObject({ pods, at })
})

test('settingsProblem() says that NodeCIDR has nothing to go by', () => {
  const bare = { ...node, podCIDRs: [] }
  expect(settingsOf({ detectLocalMode: 'NodeCIDR' }, { node: bare })).toMatchObject({
    pods: [],
    problem: expect.stringMatching(
      /^detectLocalMode NodeCIDR needs spec.podCIDRs, and the Node object of this node has none/,
    ),
  })
})

test('proxySettings() has the ranges of the configuration, where no ServiceCIDR object says them', () => {
  const { services } = parseKubeProxyConfig(kubeProxyApi, { origin: 'test' })
  if (!services) throw new Error('no services')
  const facts = { node, subnets: [], ownAddresses: [] }
  const serviceRanges = [parseCidr('10.96.0.0/12')]
  expect(proxySettings(services, facts).serviceCIDRs).toBeUndefined()
  expect(proxySettings(services, { ...facts, serviceRanges }).serviceCIDRs).toBe(serviceRanges)
})
