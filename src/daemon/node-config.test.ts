import { describe, expect, test } from 'vitest'
import { parseConfig } from './config.ts'
import { isRegistered, keepsPodRoutes } from './node-config.ts'

const parse = (raw: object) => parseConfig(raw, { origin: 'fairlead.yaml', relativeTo: '/etc/fairlead' })
const follower = { nodeName: 'w', sources: { kubernetes: { kubeconfig: 'x' } } }

describe('node', () => {
  test.each<[string, object, boolean, boolean]>([
    ['with an API of its own', { nodeName: 'w' }, true, true],
    ['that follows another', follower, false, false],
    ['that follows another, and is told to', { ...follower, node: { register: true } }, true, true],
    ["whose routes are somebody else's", { nodeName: 'w', node: { podRoutes: false } }, true, false],
    ['whose name no Node can have', { nodeName: 'My_Host' }, false, false],
    ['without an API', { nodeName: 'w', api: { enabled: false } }, false, false],
  ])('%s', (_name, raw, registered, routes) => {
    const config = parse(raw)
    expect(isRegistered(config)).toBe(registered)
    expect(keepsPodRoutes(config)).toBe(routes)
  })

  test('has one address or several', () => {
    expect(parse({ node: { address: '192.0.2.7' } }).node.addresses).toEqual(['192.0.2.7'])
    expect(parse({ node: { address: ['192.0.2.7', '2001:db8::7'] } }).node.addresses).toEqual([
      '192.0.2.7',
      '2001:db8::7',
    ])
  })

  test.each([
    [{ node: { address: '127.0.0.1' } }, 'node.address: "127.0.0.1" is an address that no other machine can reach'],
    [{ node: { labels: { 'a b': 'c' } } }, 'node.labels: {"a b":"c"} is not a label'],
    [{ node: { leaseSeconds: 1 } }, 'node.leaseSeconds: 1'],
    [{ api: { enabled: false }, node: { register: true } }, 'there is no API to register with'],
    [{ nodeName: 'My_Host', node: { register: true } }, '"My_Host" cannot be the name of a Node'],
    [{ node: { adress: '192.0.2.7' } }, 'node.adress: unknown key (did you mean address?)'],
  ])('refuses %j', (raw, message) => {
    expect(() => parse(raw)).toThrow(message)
  })
})
