import { describe, expect, test } from 'vitest'
import { AnswerFinder } from './answer-finder.ts'
import { AnswerTable, type FinishedName } from './answer-table.ts'
import { BlockStore } from './block-store.ts'

const zone = '\x07cluster\x05local\0'
const keyOf = (text: string) =>
  `${text
    .split('.')
    .map((label) => String.fromCharCode(label.length) + label)
    .join('')}${zone}`

function nameOf(text: string, ...addresses: readonly number[]): FinishedName {
  const records = Buffer.concat(
    addresses.map((last) => Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, last])),
  )
  const answer = {
    type: 1,
    records,
    answerSize: records.length,
    answers: addresses.length,
    additionals: 0,
    rotates: false,
  }
  return { key: keyOf(text), kind: 'known', isClosed: false, answers: [answer] }
}

/** The last octets of the addresses that a reader is answered; undefined when it passes the question on. */
function read(table: AnswerTable, text: string): number[] | undefined {
  const bytes = new Uint8Array(2048)
  const question = Buffer.from(`${keyOf(text)}\0\x01\0\x01`, 'latin1')
  bytes.set(Buffer.concat([Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), question]))
  const length = new AnswerFinder(table.memory, bytes).answer(0, 12 + question.length)
  if (length <= 0) return undefined
  return Array.from({ length: bytes[7] ?? 0 }, (_, i) => bytes[12 + question.length + i * 16 + 15] ?? 0)
}

describe('AnswerTable', () => {
  test('finds the same after thousands of changes as a map would', () => {
    const table = new AnswerTable({ zone, seed: 42 })
    table.setFlag(2, true)
    const model = new Map<string, number[]>()
    let state = 7
    const below = (limit: number) => (state = (state * 48_271) % 0x7fff_ffff) % limit
    for (let step = 0; step < 20_000; step++) {
      const text = `name-${below(3000)}.default.svc`
      if (below(3) === 0) {
        table.remove(keyOf(text))
        model.delete(text)
      } else {
        const addresses = Array.from({ length: 1 + below(8) }, () => below(256))
        table.replace([nameOf(text, ...addresses), nameOf(`below.${text}`, 1)])
        model.set(text, addresses)
      }
    }
    expect(table.names).toBe(model.size * 2)
    for (let i = 0; i < 3000; i++) {
      const text = `name-${i}.default.svc`
      expect(read(table, text)).toEqual(model.get(text))
      expect(read(table, `below.${text}`)).toEqual(model.has(text) ? [1] : undefined)
    }
  })

  test('takes the memory of what is replaced again', () => {
    const table = new AnswerTable({ zone, seed: 42 })
    for (let i = 0; i < 100; i++) table.replace([nameOf(`name-${i}`, 1, 2, 3)])
    const before = table.octets
    for (let round = 0; round < 100; round++)
      for (let i = 0; i < 100; i++) table.replace([nameOf(`name-${i}`, 1, 2, 3)])
    expect(table.octets).toBe(before)
  })
})

test('BlockStore gives out no block twice, and none beyond its limit', () => {
  const store = new BlockStore(128 * 1024)
  const blocks = new Map<number, number>()
  for (let size = 20; ; size = 20 + ((size * 7) % 900)) {
    const block = store.allocate(size)
    if (block === 0) break
    for (const [other, length] of blocks) expect(block >= other + length || block + size <= other).toBe(true)
    blocks.set(block, size)
  }
  expect(blocks.size).toBeGreaterThan(100)
  expect(store.memory.byteLength).toBeLessThanOrEqual(128 * 1024)
})
