import { describe, expect, test } from 'vitest'
import { lineOf, parseDocument } from './parse-document.ts'

const yaml = (text: string, line = 1) => parseDocument({ text, line }, { format: 'yaml' })

describe('parseDocument()', () => {
  test.each<[string, number, string]>([
    ['a: [1,\nb: 2', 11, 'not YAML: deficient indentation'],
    ['a: 1\na: 2', 11, 'not YAML: duplicated mapping key'],
    ['a: &x 1\n\nb: *y', 12, 'not YAML: unidentified alias "y"'],
  ])('names the line and the reason of %j', (text, line, reason) => {
    expect(yaml(text, 10)).toEqual({ kind: 'broken', line, reason })
  })

  test('names the line of broken JSON', () => {
    const parsed = parseDocument({ text: '{\n  "a": 1,\n  b\n}', line: 1 }, { format: 'json' })
    expect(parsed).toMatchObject({ kind: 'broken', line: 3, reason: expect.stringMatching(/^not JSON: /) as string })
  })

  test('calls a document broken that nests without end', () => {
    expect(yaml('['.repeat(100_000))).toMatchObject({ kind: 'broken' })
    expect(parseDocument({ text: '['.repeat(1_000_000), line: 1 }, { format: 'json' })).toMatchObject({
      kind: 'broken',
    })
  })

  test('takes merge keys, as kubectl does', () => {
    const text = 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {<<: {type: NodePort}, ports: []}'
    expect(yaml(text)).toMatchObject({ manifests: [{ kind: 'object', object: { value: { type: 'NodePort' } } }] })
  })

  test('finds nothing in a document that is null', () => {
    expect(yaml('---\n~')).toEqual({ kind: 'parsed', manifests: [] })
  })
})

describe('lineOf()', () => {
  const text =
    'kind: Service\nspec:\n  ports:\n    - name: a\n      port: 1\n    - {name: b,\n       "port": 2}\n  type: X\n'

  test.each([
    ['spec.ports[0].port', 105],
    ['spec.ports[1].port', 107],
    ['spec.ports[1]', 106],
    ['spec.type', 108],
    ['spec.ports[1].missing', 106],
    ['spec.clusterIP', 102],
    ['metadata.name', 101],
    ['', 101],
  ])('%s is on line %i', (path, line) => {
    expect(lineOf({ text, line: 101 }, { path, reason: '' })).toBe(line)
  })
})
