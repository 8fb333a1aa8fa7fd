import { expect, test } from 'vitest'
import { encodeAttributes } from '../netlink/attributes.ts'
import type { NetlinkMessage } from '../netlink/message.ts'
import { GenerationLog, type Generation } from './generation-log.ts'
import { chainAttributes, generationAttributes, nftMessages } from './nf-tables-messages.ts'

function message(type: number, family: number, attributes: Buffer): NetlinkMessage {
  const payload = Buffer.concat([Buffer.from([family, 0, 0, 0]), attributes])
  return { type, flags: 0, seq: 0, port: 0, payload }
}

const inet = 1
const chainOf = (table: string) =>
  message(nftMessages.newChain, inet, encodeAttributes(chainAttributes, { table, name: 'c' }))
const commit = (id: number, processName: string) =>
  message(nftMessages.newGeneration, 0, encodeAttributes(generationAttributes, { id, processId: 7, processName }))

function logOf(...messages: NetlinkMessage[]): { log: GenerationLog; seen: Generation[] } {
  const seen: Generation[] = []
  const log = new GenerationLog((generation) => seen.push(generation))
  for (const message of messages) log.receive(message)
  return { log, seen }
}

test('GenerationLog tells each table of a commit once, with the process', () => {
  const { log, seen } = logOf(
    chainOf('a'),
    chainOf('b'),
    chainOf('a'),
    commit(5, 'nft'),
    chainOf('b'),
    commit(6, 'other'),
  )
  expect(log.latest).toBe(6)
  expect(seen.map(({ id, changes }) => [id, changes.map(({ table, process }) => `${table} ${process?.name}`)])).toEqual(
    [
      [5, ['a nft', 'b nft']],
      [6, ['b other']],
    ],
  )
})

test('GenerationLog.touched() finds who touched a table between two generations', () => {
  const { log } = logOf(chainOf('a'), commit(5, 'nft'), chainOf('b'), commit(6, 'nft'))
  expect(log.touched('inet', 'a', 4, 6)).toMatchObject({ table: 'a', process: { name: 'nft' } })
  expect(log.touched('inet', 'a', 5, 6)).toBeUndefined()
  expect(log.touched('ip', 'a', 4, 6)).toBeUndefined()
})

test('GenerationLog.touched() does not know of what it did not see', () => {
  const { log } = logOf(chainOf('a'), commit(5, 'nft'))
  expect(log.touched('inet', 'b', 3, 5)).toBe('unknown')
  log.reset()
  expect(log.touched('inet', 'b', 4, 5)).toBe('unknown')
})

test('GenerationLog.reached() waits for the announcement, and no longer than it is told', async () => {
  const { log } = logOf()
  const reached = log.reached(5, 60_000)
  log.receive(commit(5, 'nft'))
  await reached
  await log.reached(6, 1)
  expect(log.latest).toBe(5)
})
