import { describe, expect, test } from 'vitest'
import { coreTypes } from './core-types.ts'
import { flatten, formatPath, readFieldSet, writeFieldSet, type FieldSet } from './field-set.ts'
import { applyJsonPatch, applyMergePatch } from './json-patch.ts'
import { readProtobufBody } from './protobuf-body.ts'
import { readSchema } from './schema.ts'
import { parseFieldSelector, parseLabelSelector } from './selectors.ts'
import { applyStrategicMergePatch } from './strategic-merge-patch.ts'
import { formatAge } from './table.ts'

const schema = readSchema(coreTypes)
const service = { kind: 'ref', name: 'Service', atomic: false } as const

describe('applyJsonPatch()', () => {
  test.each([
    ['add to an object', { a: 1 }, [{ op: 'add', path: '/b', value: 2 }], { a: 1, b: 2 }],
    ['add into a list', [1, 3], [{ op: 'add', path: '/1', value: 2 }], [1, 2, 3]],
    ['add at the end', [1], [{ op: 'add', path: '/-', value: 2 }], [1, 2]],
    ['replace the whole', { a: 1 }, [{ op: 'replace', path: '', value: 5 }], 5],
    ['remove', { a: [1, 2] }, [{ op: 'remove', path: '/a/0' }], { a: [2] }],
    ['escapes', { 'a/b': { '~': 1 } }, [{ op: 'remove', path: '/a~1b/~0' }], { 'a/b': {} }],
    ['move', { a: 1 }, [{ op: 'move', from: '/a', path: '/b' }], { b: 1 }],
    ['copy', { a: [1] }, [{ op: 'copy', from: '/a', path: '/b' }], { a: [1], b: [1] }],
    ['test', { a: { b: 1, c: 2 } }, [{ op: 'test', path: '/a', value: { c: 2, b: 1 } }], { a: { b: 1, c: 2 } }],
  ])('does %s', (_what, document, patch, expected) => {
    const before = structuredClone(document)
    expect(applyJsonPatch(document, patch)).toEqual(expected)
    expect(document).toEqual(before)
  })

  test.each([
    [[{ op: 'remove', path: '/b' }], 'is not in the object'],
    [[{ op: 'replace', path: '/b', value: 1 }], 'is not in the object'],
    [[{ op: 'test', path: '/a', value: 2 }], 'failed'],
    [[{ op: 'add', path: 'a', value: 2 }], 'JSON pointer'],
    [[{ op: 'add', path: '/a' }], 'no value'],
    [[{ op: 'destroy', path: '/a' }], 'not an operation'],
    [[{ op: 'add', path: '/constructor/x', value: 1 }], 'is not in the object'],
    [{}, 'list of operations'],
  ])('refuses %j', (patch, message) => {
    expect(() => applyJsonPatch({ a: 1 }, patch)).toThrow(message)
  })
})

describe('applyMergePatch()', () => {
  test('merges objects, replaces lists, and removes what is null (RFC 7386)', () => {
    const document = { a: { b: 1, c: 2 }, list: [1, 2] }
    expect(applyMergePatch(document, { a: { c: null, d: { e: null } }, list: [3] })).toEqual({
      a: { b: 1, d: {} },
      list: [3],
    })
  })

  test('gives no object another prototype', () => {
    const result = applyMergePatch({}, JSON.parse('{"__proto__":{"a":1}}')) as object
    expect(Object.getPrototypeOf(result)).toBe(Object.prototype)
    expect({}).not.toHaveProperty('a')
  })
})

describe('applyStrategicMergePatch()', () => {
  const ports = [
    { name: 'http', port: 80 },
    { name: 'https', port: 443 },
  ]
  test.each([
    [
      'merges ports by their number',
      { spec: { ports: [{ port: 443, targetPort: 1 }] } },
      [ports[0], { ...ports[1], targetPort: 1 }],
    ],
    ['adds a port', { spec: { ports: [{ port: 53 }] } }, [...ports, { port: 53 }]],
    ['removes a port', { spec: { ports: [{ port: 80, $patch: 'delete' }] } }, [ports[1]]],
    ['replaces the list', { spec: { ports: [{ $patch: 'replace' }, { port: 1 }] } }, [{ port: 1 }]],
    ['orders the list', { spec: { '$setElementOrder/ports': [{ port: 443 }, { port: 80 }] } }, [ports[1], ports[0]]],
    ['replaces the object', { spec: { $patch: 'replace', ports: [{ port: 1 }] } }, [{ port: 1 }]],
    ['keeps some keys only', { spec: { $retainKeys: ['type'] } }, undefined],
  ])('%s', (_what, patch, expected) => {
    const result = applyStrategicMergePatch(schema, 'Service', { document: { spec: { ports } }, patch })
    expect((result as { spec: { ports: unknown } }).spec.ports).toEqual(expected)
  })

  test('removes from a list of texts', () => {
    const document = { metadata: { finalizers: ['a', 'b'] } }
    const patch = { metadata: { '$deleteFromPrimitiveList/finalizers': ['a'], finalizers: ['c'] } }
    expect(applyStrategicMergePatch(schema, 'Service', { document, patch })).toEqual({
      metadata: { finalizers: ['b', 'c'] },
    })
  })

  test('refuses an element without its key', () => {
    const patch = { spec: { ports: [{ name: 'x' }] } }
    expect(() => applyStrategicMergePatch(schema, 'Service', { document: {}, patch })).toThrow('has no port')
  })
})

describe('flatten()', () => {
  const set = (value: object): FieldSet => {
    const flat = flatten(schema, service, value)
    return new Map([...flat].map(([key, { path }]) => [key, path]))
  }

  test('names elements by their keys, with defaults, as kube-apiserver writes FieldsV1', () => {
    const fields = writeFieldSet(
      set({ metadata: { labels: { a: 'b' } }, spec: { ports: [{ port: 80 }], clusterIPs: ['x'] } }),
    )
    expect(fields).toEqual({
      'f:metadata': { 'f:labels': { 'f:a': {} } },
      'f:spec': { 'f:clusterIPs': {}, 'f:ports': { 'k:{"port":80,"protocol":"TCP"}': { '.': {}, 'f:port': {} } } },
    })
    expect([...readFieldSet(fields).keys()].sort()).toEqual(
      [...set({ metadata: { labels: { a: 'b' } }, spec: { ports: [{ port: 80 }], clusterIPs: ['x'] } }).keys()].sort(),
    )
  })

  test('shows a path as conflicts do', () => {
    const path = ['f:spec', 'f:ports', 'k:{"port":80,"protocol":"TCP"}', 'f:name']
    expect(formatPath(path)).toBe('.spec.ports[port=80,protocol="TCP"].name')
  })
})

describe('parseLabelSelector()', () => {
  const labels = { app: 'web', tier: 'front', version: '3' }
  test.each([
    ['', true],
    ['app=web', true],
    ['app==web,tier!=back', true],
    ['app in (web, api),tier notin (back)', true],
    ['!old,app', true],
    ['missing!=x', true],
    ['version>2', true],
    ['app=api', false],
    ['app notin (web)', false],
    ['!app', false],
    ['missing', false],
    ['constructor', false],
    ['version<3', false],
  ])('%j: %s', (text, expected) => {
    const object = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a', labels } }
    expect(parseLabelSelector(text)(object)).toBe(expected)
  })

  test('parseFieldSelector() refuses a field that the kind does not have', () => {
    expect(() => parseFieldSelector('spec.foo=a', [])).toThrow('field label not supported: spec.foo')
  })
})

describe('formatAge()', () => {
  test.each([
    [0, '0s'],
    [119, '119s'],
    [120, '2m'],
    [192, '3m12s'],
    [3600, '60m'],
    [4 * 3600 + 300, '4h5m'],
    [30 * 3600, '30h'],
    [3 * 86_400 + 3600, '3d1h'],
    [800 * 86_400, '2y70d'],
  ])('%i seconds: %s', (seconds, text) => {
    expect(formatAge(seconds * 1000)).toBe(text)
  })
})

describe('readProtobufBody()', () => {
  // kubectl create namespace shop: the envelope, TypeMeta, and a Namespace with what Go writes of empty fields.
  const envelope = Buffer.from(
    '6b3873000a0f0a02763112094e616d657370616365121a0a140a0473686f7012001a0022002a0032003800420012001a00',
    'hex',
  )

  test('reads what kubectl creates', () => {
    expect(readProtobufBody(envelope)).toEqual({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  })

  test('refuses what is cut off anywhere, or says less, and never fails otherwise', () => {
    for (let length = 0; length < envelope.length; length++) {
      try {
        readProtobufBody(envelope.subarray(0, length))
      } catch (error) {
        expect(error).toMatchObject({ name: 'ApiError' })
      }
    }
    expect(() => readProtobufBody(Buffer.from('k8s'))).toThrow('not protobuf')
  })
})
