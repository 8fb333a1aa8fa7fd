import { describe, expect, test } from 'vitest'
import type { FieldProblem } from '../model/manifest-error.ts'
import { isForUs, labelOf, readContainerLabels } from './container-labels.ts'

function read(labels: Record<string, string>, exposed: readonly string[] = []) {
  const problems: FieldProblem[] = []
  return { wish: readContainerLabels({ labels, exposed }, problems), problems }
}

const compose = { 'com.docker.compose.project': 'my_shop', 'com.docker.compose.service': 'web' }

/** `1` to `count` */
function numbers(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => String(index + 1))
}

describe('readContainerLabels', () => {
  test.each([
    ['80', [['tcp-80', 'tcp', 80, 80]]],
    ['80:8080', [['tcp-80', 'tcp', 80, 8080]]],
    ['53/udp', [['udp-53', 'udp', 53, 53]]],
    [
      'http=80:8080, metrics=9090/TCP',
      [
        ['http', 'tcp', 80, 8080],
        ['metrics', 'tcp', 9090, 9090],
      ],
    ],
    [
      '53/udp,53',
      [
        ['udp-53', 'udp', 53, 53],
        ['tcp-53', 'tcp', 53, 53],
      ],
    ],
  ])('readContainerLabels() takes fairlead.port=%s', (text, expected) => {
    const { wish, problems } = read({ 'fairlead.service': 'web', 'fairlead.port': text })
    expect(problems).toEqual([])
    expect(wish?.ports.map(({ name, protocol, port, target }) => [name, protocol, port, target])).toEqual(expected)
  })

  test.each([
    [{ 'fairlead.port': 'http' }, 'fairlead.port', '"http" is not a port (expected [NAME=][PORT:]CONTAINER-PORT'],
    [{ 'fairlead.port': '80,80' }, 'fairlead.port', '"80,80" has 80/tcp twice'],
    [{ 'fairlead.port': 'a=80,a=81' }, 'fairlead.port', 'has the name "a" twice'],
    [{ 'fairlead.port': '0' }, 'fairlead.port', '0 is not a port'],
    [{ 'fairlead.port': '80/icmp' }, 'fairlead.port', '"icmp" is not a protocol'],
    [{ 'fairlead.service': 'We_b' }, 'fairlead.service', '"We_b" is not a name'],
    [{ 'fairlead.namespace': 'a.b' }, 'fairlead.namespace', '"a.b" is not a name'],
    [{ 'fairlead.weight': '-1' }, 'fairlead.weight', '"-1" is not a weight'],
    [{ 'fairlead.cluster-ip': 'none' }, 'fairlead.cluster-ip', '"none"'],
    [{ 'fairlead.address': '10.0.0.300' }, 'fairlead.address', '10.0.0.300'],
    [{ 'fairlead.address': '127.0.0.1' }, 'fairlead.address', '"127.0.0.1" cannot be an endpoint'],
    [{ 'fairlead.address': '10.0.0.1,10.0.0.2' }, 'fairlead.address', 'has two addresses of one family'],
    [{ 'fairlead.port': numbers(101).join(',') }, 'fairlead.port', 'names 101 ports (expected at most 100)'],
    [{ 'fairlead.node-port': '70000' }, 'fairlead.node-port', '70000 is not a port'],
    [{ 'fairlead.enable': 'yes' }, 'fairlead.enable', '"yes" is not known here (expected true or false)'],
    [{ 'fairlead.session-affinity': 'client' }, 'fairlead.session-affinity', 'expected None or ClientIP'],
    [{ 'fairlead.prot': '80' }, 'fairlead.prot', 'is not known here (expected one of fairlead.enable'],
  ])('readContainerLabels() refuses %o', (labels, path, reason) => {
    const { wish, problems } = read({ 'fairlead.service': 'web', 'fairlead.port': '80', ...labels })
    expect(wish).toBeUndefined()
    expect(problems).toEqual([{ path, reason: expect.stringContaining(reason) as string }])
  })

  test('readContainerLabels() takes namespace and name from compose, unless labels say otherwise', () => {
    const labels = { ...compose, 'fairlead.port': '80' }
    expect(read(labels).wish).toMatchObject({ namespace: 'my-shop', service: 'web' })
    const own = { ...labels, 'fairlead.namespace': 'prod', 'fairlead.service': 'front' }
    expect(read(own).wish).toMatchObject({ namespace: 'prod', service: 'front' })
  })

  test('readContainerLabels() takes the ports that the image exposes where no label names any', () => {
    const { wish } = read({ 'fairlead.service': 'web' }, ['80/tcp', '443/udp', 'odd'])
    expect(wish?.ports.map(({ name }) => name)).toEqual(['tcp-80', 'udp-443'])
    expect(read({ 'fairlead.service': 'web' }).problems).toEqual([
      { path: 'fairlead.port', reason: 'is missing, and the image exposes no port' },
    ])
    expect(read({ 'fairlead.service': 'web', 'fairlead.cluster-ip': 'None' }).wish).toMatchObject({ ports: [] })
  })

  test('readContainerLabels() makes no Service of the ten thousand ports that an image exposes', () => {
    const exposed = numbers(10_000).map((port) => `${port}/udp`)
    expect(read({ 'fairlead.service': 'rtp' }, exposed).problems).toEqual([
      { path: 'fairlead.port', reason: 'is missing, and the image exposes 10000 ports (expected at most 100)' },
    ])
    expect(read({ 'fairlead.service': 'rtp', 'fairlead.port': '5060/udp' }, exposed).problems).toEqual([])
  })

  test('readContainerLabels() asks for a name where nothing gives one', () => {
    expect(read({ 'fairlead.port': '80' }).problems).toEqual([
      { path: 'fairlead.service', reason: 'is missing (expected beside fairlead.port)' },
    ])
  })

  test('readContainerLabels() makes a pod alone with enable, and nothing without', () => {
    expect(read({ 'fairlead.enable': 'true' }).wish).toMatchObject({ service: undefined, ports: [] })
    expect(read({ 'fairlead.enable': 'false', 'fairlead.port': 'http' })).toEqual({ wish: undefined, problems: [] })
  })
})

test('isForUs() looks for labels of ours', () => {
  expect(isForUs({ app: 'web', 'fairlead.port': '80' })).toBe(true)
  expect(isForUs({ app: 'web', fairleadish: '1', 'fairlead.dev/weight': '3' })).toBe(false)
})

test.each([
  ['shop_web_1', 'shop-web-1'],
  ['Web.A', 'web-a'],
  ['__', 'x'],
  ['a'.repeat(62) + '_b', 'a'.repeat(62)],
])('labelOf() makes a name of %s', (name, expected) => {
  expect(labelOf(name)).toBe(expected)
})
