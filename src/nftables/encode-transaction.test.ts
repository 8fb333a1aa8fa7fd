import { describe, expect, test } from 'vitest'
import { messagesOf, readCapture, showMessage } from '../../test/fixtures/nftables/read-capture.ts'
import { servicesTable } from '../../test/fixtures/nftables/services-table.ts'
import type { NetlinkMessage } from '../netlink/message.ts'
import { encodeTransaction } from './encode-transaction.ts'
import { registerBytes } from './keys.ts'
import type { Elements, NftSet, TableState } from './objects.ts'
import { readElements } from './read-elements.ts'
import type { Change } from './transaction.ts'

/** Changes in the order in which nft writes a file with one table. */
function inOrderOfNft(table: TableState): Change[] {
  return [
    { op: 'add-table', ...(table.comment !== undefined && { comment: table.comment }) },
    ...table.chains.map((chain): Change => ({ op: 'add-chain', chain })),
    ...table.sets.flatMap((set): Change[] => [
      { op: 'add-set', set },
      { op: 'add-elements', set, elements: table.elements.get(set.name) ?? new Map() },
    ]),
    ...table.chains.flatMap((chain) =>
      chain.rules.map((rule): Change => ({ op: 'add-rule', chain: chain.name, rule })),
    ),
  ]
}

describe('encodeTransaction', () => {
  const theirs = readCapture('services.batch.hex')
  const { datagram } = encodeTransaction(
    { family: 'inet', table: servicesTable.name, changes: inOrderOfNft(servicesTable) },
    { firstSeq: 0 },
  )
  const ours = messagesOf(datagram)

  test('encodeTransaction() writes as many messages as nft', () => {
    expect(ours.length).toBe(theirs.length)
  })

  test.each(theirs.map((_, index) => index))('encodeTransaction() writes message %i as nft does', (index) => {
    // Message 11 of nft has a leading end at 0.0.0.0 that the kernel does not need.
    if (index === 11) return expect(showMessage(theirs[11])).toContain('0ab50000')
    expect(showMessage(ours[index])).toBe(showMessage(theirs[index]))
  })

  const table = { family: 'inet', table: 't' } as const
  const set: NftSet = { name: 's', key: ['ip saddr'], data: ['meta mark'] }
  const key = (n: number): string => registerBytes({ number: n })
  const many = (count: number): Elements => new Map(Array.from({ length: count }, (_, n) => [key(n), key(n)]))

  test('encodeTransaction() keeps attribute lists below 64 KiB', () => {
    const changes: Change[] = [{ op: 'add-elements', set, elements: many(10_000) }]
    const { datagram, messages, elements } = encodeTransaction({ ...table, changes }, { firstSeq: 1 })
    const sent = messagesOf(datagram)
    expect(elements).toBe(10_000)
    expect(sent.length).toBe(messages)
    for (const message of sent) expect(message.length).toBeLessThan(0x10100)
    const read = readElements(
      set,
      sent.slice(1, -1).map((message) => asNetlinkMessage(message)),
    )
    expect(read).toEqual(many(10_000))
  })

  test('encodeTransaction() asks for one acknowledgement, of the last change', () => {
    const changes: Change[] = [{ op: 'add-table' }, { op: 'add-set', set }, { op: 'delete-chain', chain: 'c' }]
    const { datagram, firstSeq, lastSeq } = encodeTransaction({ ...table, changes }, { firstSeq: 7 })
    const sent = messagesOf(datagram).map((message) => ({
      seq: message.readUInt32LE(8),
      ack: (message.readUInt16LE(6) & 4) !== 0,
    }))
    expect({ firstSeq, lastSeq }).toEqual({ firstSeq: 7, lastSeq: 10 })
    expect(sent).toEqual([7, 8, 9, 10, 11].map((seq) => ({ seq, ack: seq === 10 })))
  })

  test('encodeTransaction() names the generation that it is for', () => {
    const [begin] = messagesOf(encodeTransaction({ ...table, changes: [] }, { firstSeq: 1, generation: 258 }).datagram)
    expect(showMessage(begin)).toBe('type 1000 nfgenmsg 0000000a\n  1: 00000102')
  })

  test('encodeTransaction().describe() finds the change and the element that an error is about', () => {
    const add: Change = { op: 'add-elements', set, elements: many(5000) }
    const changes: Change[] = [{ op: 'add-set', set }, add, { op: 'delete-set', set: 's' }]
    const encoded = encodeTransaction({ ...table, changes }, { firstSeq: 100 })
    const sent = messagesOf(encoded.datagram)
    const second = sent[3] as Buffer
    const third = second.indexOf(Buffer.from(key(3000), 'latin1'))
    expect(encoded.describe(101)).toEqual({ change: changes[0] })
    expect(encoded.describe(103, third)).toEqual({ change: add, key: key(3000) })
    expect(encoded.describe(103)).toEqual({ change: add })
    expect(encoded.describe(100 + sent.length - 2)).toEqual({ change: changes[2] })
    expect(encoded.describe(100)).toBeUndefined()
  })

  test.each([
    {
      name: 'a key that is too short',
      elements: new Map([['abc', key(1)]]),
      error: 'key of an element of s has 3 bytes',
    },
    {
      name: 'data that is too long',
      elements: new Map([[key(1), 'abcde']]),
      error: 'data of an element of s has 5 bytes',
    },
  ])('encodeTransaction() refuses $name', ({ elements, error }) => {
    const changes: Change[] = [{ op: 'add-elements', set, elements }]
    expect(() => encodeTransaction({ ...table, changes }, { firstSeq: 1 })).toThrow(error)
  })
})

function asNetlinkMessage(message: Buffer): NetlinkMessage {
  return { type: message.readUInt16LE(4), flags: 0, seq: 0, port: 0, payload: message.subarray(16) }
}
