import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ProtocolError } from './api-error.ts'
import { LineDecoder, ListDecoder } from './decode-list.ts'

/** Bytes cut into chunks of the given sizes, the last one as long as it takes. */
function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let at = 0
  for (const size of sizes) {
    chunks.push(bytes.subarray(at, at + size))
    at += size
  }
  return [...chunks, bytes.subarray(at)]
}

const json = fc.object({ maxDepth: 3 }).map((value) => JSON.parse(JSON.stringify(value)) as object)

describe('ListDecoder', () => {
  test('reads what JSON.parse reads, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(json), fc.array(fc.nat(40)), fc.nat(2), fc.boolean(), (items, sizes, indent, first) => {
        const metadata = { resourceVersion: '7', note: '"items":[{' }
        const list = first ? { metadata, items, kind: 'items' } : { kind: 'items', items, metadata }
        const decoder = new ListDecoder()
        const read = cut(Buffer.from(JSON.stringify(list, null, indent)), sizes).flatMap((chunk) => [
          ...decoder.push(chunk),
        ])
        expect(read).toEqual(items)
        expect(decoder.end()).toEqual({ resourceVersion: '7', continue: '' })
      }),
      { numRuns: 150 },
    )
  })

  test('gives the token of the next page', () => {
    const decoder = new ListDecoder()
    const text = '{"metadata":{"resourceVersion":"7","continue":"x"},"items":null}'
    expect([...decoder.push(Buffer.from(text))]).toEqual([])
    expect(decoder.end().continue).toBe('x')
  })

  test.each([
    ['breaks off within an item', '{"metadata":{"resourceVersion":"7"},"items":[{"a":1},{"b'],
    ['breaks off between items', '{"metadata":{"resourceVersion":"7"},"items":[{"a":1},'],
    ['has no resource version', '{"metadata":{},"items":[]}'],
    ['is empty', ''],
    ['is something else', '<html></html>'],
  ])('refuses a list that %s', (_, text) => {
    const decoder = new ListDecoder()
    expect(() => {
      for (const _item of decoder.push(Buffer.from(text)));
      decoder.end()
    }).toThrow(ProtocolError)
  })
})

describe('LineDecoder', () => {
  test('reads each whole line, however the bytes are cut, and drops the last half', () => {
    fc.assert(
      fc.property(fc.array(json), fc.array(fc.nat(40)), (values, sizes) => {
        const text = `${values.map((value) => `${JSON.stringify(value)}\n`).join('\r\n')}{"half":`
        const decoder = new LineDecoder()
        expect(cut(Buffer.from(text), sizes).flatMap((chunk) => [...decoder.push(chunk)])).toEqual(values)
      }),
      { numRuns: 60 },
    )
  })

  test('refuses a line that is no JSON', () => {
    expect(() => [...new LineDecoder().push(Buffer.from('nonsense\n'))]).toThrow(ProtocolError)
  })
})
