import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseIp } from '../../src/net/ip-address.ts'
import { attemptsOf, wrongShares } from '../conformance/check-flow.ts'
import { formatMatrix } from '../conformance/format-matrix.ts'
import { CaseError } from '../conformance/case-reader.ts'
import { parseCase } from '../conformance/parse-case.ts'
import { placeAddresses } from '../conformance/placement.ts'
import { kubeProxyConfiguration, type Mode } from '../conformance/proxy-config.ts'
import { findCaseFiles } from '../conformance/run-cases.ts'
import { formatResult } from '../conformance/report.ts'

const flow = '{name: a, from: 10.0.0.9, to: "tcp 172.30.0.41:80", expect: [10.0.0.1:80]}'
const service = '{apiVersion: v1, kind: Service, metadata: {name: web}}'

function problemsOf(text: string): string[] {
  try {
    parseCase(text, 'a.yaml')
    return []
  } catch (error) {
    if (!(error instanceof CaseError)) throw error
    return error.problems.map(({ path, reason }) => `${path}: ${reason}`)
  }
}

describe('parseCase', () => {
  test('parseCase reads a case with every field', () => {
    const text = `
title: all
config: {masqueradeAll: true}
node: {name: n, zone: "", addresses: [192.168.0.2, "fd00:192:168::2"]}
objects: [${service}]
steps:
  - name: one
    apply: [${service}]
    delete: [{kind: Service, namespace: ns1, name: web}]
    wait: 1.5s
    flows:
      - {name: f, from: node, to: "udp [fd00:172:30::41]:53", expect: ["[fd00:10::1]:53"], sticky: true, interval: 3s, sourcePort: 40000, masquerade: true}
      - {name: g, from: 10.0.0.9, to: tcp 172.30.0.41:80, expect: [10.0.0.1:80, 10.0.0.2:80], weights: {10.0.0.1:80: 3, 10.0.0.2:80: 1}}
`
    expect(parseCase(text, 'a.yaml')).toMatchObject({
      title: 'all',
      node: { name: 'n', zone: '', addresses: ['192.168.0.2', 'fd00:192:168::2'] },
      steps: [
        {
          wait: 1500,
          delete: [{ kind: 'Service', namespace: 'ns1', name: 'web' }],
          flows: [
            { from: 'node', protocol: 'udp', address: 'fd00:172:30::41', port: 53, interval: 3000, sourcePort: 40_000, sticky: true },
            { expect: ['10.0.0.1:80', '10.0.0.2:80'], weights: new Map([['10.0.0.1:80', 3], ['10.0.0.2:80', 1]]) },
          ],
        },
      ],
    }) // prettier-ignore
  })

  test.each([
    ['title: a\nflows: []\nflow: []', 'flow: unknown key'],
    ['flows: []', 'title: is missing'],
    ['title: a', 'flows: is missing'],
    ['title: a\nflows: []\nsteps: []', 'flows: stands beside steps'],
    ['title: a\nconfig: {clusterCidr: x}\nflows: []', 'config.clusterCidr: unknown key'],
    ['title: a\nnode: {name: n, zone: "", addresses: [nowhere]}\nflows: []', 'node.addresses[0]: '],
    ['title: a\nnode: {name: n, zone: z}\nflows: []', 'node.addresses: is empty'],
    ['title: a\nobjects: [{apiVersion: v1, kind: Pod, metadata: {name: p}}]\nflows: []', 'objects[0].kind: "Pod" is not known'],
    ['title: a\nobjects: [{apiVersion: v2, kind: Service, metadata: {name: p}}]\nflows: []', 'objects[0].apiVersion: "v2"'],
    ['title: a\nobjects: [{apiVersion: v1, kind: Service}]\nflows: []', 'objects[0].metadata.name: is missing'],
    [`title: a\nsteps: [{name: s, flows: [${flow}, {name: b}]}]`, 'steps[0].flows[1].to: is missing'],
    ['title: a\nsteps: [{name: s, wait: 2}]', 'steps[0].wait: 2 is not a string'],
    ['title: a\nsteps: [{name: s, wait: soon}]', 'steps[0].wait: "soon" is not a duration'],
    [`title: a\nflows: [{name: a, from: pod, to: tcp 1.2.3.4:80, expect: drop}]`, 'flows[0].from: "pod" is not an IP address'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4, expect: drop}]`, 'flows[0].to: "tcp 1.2.3.4" is not a target'],
    [`title: a\nflows: [{name: a, from: node, to: icmp 1.2.3.4:80, expect: drop}]`, 'flows[0].to: "icmp 1.2.3.4:80" is not a target'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4:80, expect: refuse}]`, 'flows[0].expect: "refuse" is not known here'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4:80, expect: []}]`, 'flows[0].expect: is empty'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4:80, expect: [10.0.0.1]}]`, 'flows[0].expect[0]: "10.0.0.1" is not an endpoint'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4:80, expect: drop, masquerade: true}]`, 'flows[0].masquerade: has no meaning'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4:80, expect: drop, sourcePort: 9}]`, 'flows[0].sourcePort: is for UDP only'],
    [`title: a\nflows: [{name: a, from: node, to: tcp 1.2.3.4:80, expect: [10.0.0.1:80], weights: {10.0.0.2:80: 1}}]`, 'flows[0].weights.10.0.0.2:80: is not among'],
    ['title: [', ': not YAML'],
    ['title: a\n---\ntitle: b', ': has 2 documents'],
    ['- a', ': ["a"] is not an object'],
  ])('parseCase refuses %j and names the path', (text, problem) => {
    expect(problemsOf(text).join('\n')).toContain(problem)
  }) // prettier-ignore
})

test('placeAddresses puts pods here, behind their nodes and clients beyond the router', () => {
  const slice = (name: string, nodeName: string | undefined, address: string): string =>
    `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ${name}}, addressType: IPv4,
      ports: [{port: 80}, {port: 53, protocol: UDP}, {port: null}],
      endpoints: [{addresses: [${address}]${nodeName === undefined ? '' : `, nodeName: ${nodeName}`}}]}`
  const flowCase = parseCase(
    `title: a
objects: [${slice('a', 'this-node', '10.0.0.1')}, ${slice('b', 'other', '10.0.0.2')}, ${slice('c', undefined, '10.0.0.3')},
  ${slice('d', 'other', '192.168.0.3')}, ${slice('e', 'other', '10.0.0.1')}, ${slice('f', 'this-node', '192.168.0.2')},
  ${slice('g', 'this-node', '127.0.0.1')}, ${slice('h', 'this-node', 'nonsense')}]
flows: [${flow}]`,
    'a.yaml',
  )
  const clients = ['10.0.0.9', '203.0.113.2', '192.168.0.9', '1.2.3.4'].map(parseIp)
  const { places, nodes, listeners } = placeAddresses(flowCase, flowCase.objects, clients)
  expect(Object.fromEntries(places)).toEqual({
    '192.168.0.2': { kind: 'this-node' },
    '192.168.0.3': { kind: 'other-node', node: 'other' },
    '192.168.0.4': { kind: 'other-node', node: '(no name)' },
    'fd00:192:168::3': { kind: 'other-node', node: 'other' },
    'fd00:192:168::4': { kind: 'other-node', node: '(no name)' },
    '10.0.0.1': { kind: 'local-pod' },
    '10.0.0.2': { kind: 'remote-pod', node: 'other' },
    '10.0.0.3': { kind: 'remote-pod', node: '(no name)' },
    '10.0.0.9': { kind: 'local-pod' },
    '203.0.113.2': { kind: 'outside' },
    '192.168.0.9': { kind: 'other-node', node: 'node 192.168.0.9' },
    '1.2.3.4': { kind: 'this-node' },
  })
  expect(nodes.get('other')).toEqual(['192.168.0.3', 'fd00:192:168::3'])
  expect(listeners.filter(({ address }) => address === '10.0.0.2')).toEqual([
    { address: '10.0.0.2', protocol: 'tcp', port: 80 },
    { address: '10.0.0.2', protocol: 'udp', port: 53 },
  ])
})

test('placeAddresses takes a client of an address for the node that has it in a later step', () => {
  const slice = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4,
      ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1], nodeName: other}]}`
  const flowCase = parseCase(
    `{title: a, steps: [{name: one, flows: [${flow}]}, {name: two, apply: [${slice}], flows: [${flow}]}]}`,
    'a.yaml',
  )
  const { places } = placeAddresses(flowCase, [], [parseIp('192.168.0.3')])
  expect(places.get(parseIp('192.168.0.3'))).toEqual({ kind: 'other-node', node: 'other' })
})

test.each([
  ['nftables', '{masqueradeAll: true}', { nftables: { masqueradeAll: true }, clusterCIDR: '10.0.0.0/8,fd00:10::/64' }],
  ['userspace', '{masqueradeAll: true}', { iptables: { masqueradeAll: true } }],
  ['iptables', '{detectLocalMode: none}', { clusterCIDR: undefined, detectLocalMode: undefined }],
  ['nftables', '{detectLocalMode: NodeCIDR}', { detectLocalMode: 'NodeCIDR' }],
  ['nftables', '{nodePortAddresses: [primary]}', { nodePortAddresses: ['primary'], mode: 'nftables' }],
] as const)('kubeProxyConfiguration in mode %s has %s in its place', (mode: Mode, config, expected) => {
  const flowCase = parseCase(`title: a\nconfig: ${config}\nflows: [${flow}]`, 'a.yaml')
  expect({
    clusterCIDR: undefined,
    detectLocalMode: undefined,
    ...kubeProxyConfiguration(flowCase, mode),
  }).toMatchObject(expected)
})

test('attemptsOf makes as many connections as the README of the cases says', () => {
  expect(attemptsOf({ sticky: false, interval: undefined }, 3)).toEqual({ least: 12, most: 48 })
  expect(attemptsOf({ sticky: false, interval: 3000 }, 2)).toEqual({ least: 8, most: 16 })
  expect(attemptsOf({ sticky: true, interval: undefined }, 3)).toEqual({ least: 6, most: 6 })
})

test('wrongShares lets chance pass and names what is beyond it', () => {
  const weights = new Map([
    ['a', 3],
    ['b', 1],
  ])
  expect(wrongShares(new Map([['a', 720], ['b', 280]]), weights)).toBeUndefined() // prettier-ignore
  expect(wrongShares(new Map([['a', 660], ['b', 340]]), weights)).toBe('a has 660 of 1000 connections (expected 750 ± 68)') // prettier-ignore
})

test('formatResult says file, title, step, flow, and what was expected and seen in one line', () => {
  const which = { file: 'a.yaml', title: 'T', step: 's', flow: 'f' }
  expect(formatResult({ result: 'ok', ...which })).toBe('ok a.yaml: T: s: f')
  expect(formatResult({ result: 'skip', ...which, reason: 'no SCTP' })).toBe('skip a.yaml: T: s: f: no SCTP')
  const failed = { result: 'not ok', ...which, expected: 'drop', seen: 'x\n  y' } as const
  expect(formatResult(failed)).toBe('not ok a.yaml: T: s: f: expected drop, seen: x | y')
})

test('formatMatrix counts flows by case and mode, and says why some were skipped', () => {
  const which = { title: 'T', step: undefined }
  const page = formatMatrix([
    {
      name: 'one',
      results: [
        { ...which, result: 'ok', file: 'own/a', flow: 'f' },
        { ...which, result: 'skip', file: 'own/a', flow: 'g', reason: 'no SCTP' },
      ],
    },
    { name: 'two', results: [{ ...which, result: 'not ok', file: 'own/a', flow: 'f' }] },
  ])
  expect(page).toContain('| case | one | two |')
  expect(page).toContain('| `a`: T | 1 +1 skipped | **1 of 1 failed** |')
  expect(page).toContain('- one: no SCTP (1 flows)')
})

test.each(findCaseFiles(['test/cases/flows']))('%s is a case', (file) => {
  expect(parseCase(readFileSync(file, 'utf8'), file).steps.length).toBeGreaterThan(0)
})

test('docs/conformance.md has every case (npm run conformance:matrix)', () => {
  const page = readFileSync('docs/conformance.md', 'utf8')
  const names = findCaseFiles(['test/cases/flows']).map((file) => basename(file, '.yaml'))
  expect(names.filter((name) => !page.includes(`| \`${name}\`: `))).toEqual([])
})
