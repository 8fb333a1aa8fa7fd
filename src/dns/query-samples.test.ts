import { expect, test } from 'vitest'
import { nameText, parseName } from '../dns-message/name.ts'
import { answererPlace } from './dns-counts.ts'
import { SampleRing } from './query-samples.ts'

const fields = {
  type: 1,
  rcode: 3,
  answerer: answererPlace('kubernetes'),
  tcp: false,
  seconds: 0.5,
  address: Uint8Array.of(10, 7, 0, 9),
}

function write(ring: SampleRing, text: string, more: Partial<typeof fields> = {}): void {
  const { wire } = parseName(text)
  // In the middle of a message, as a question stands.
  const message = Buffer.concat([Buffer.alloc(12), wire, Buffer.alloc(4)])
  ring.write(message, { start: 12, end: 12 + wire.length }, { ...fields, ...more })
}

test('SampleRing hands samples over through shared memory', () => {
  const reader = new SampleRing({ samples: 4 })
  const writer = new SampleRing(reader.memory)
  write(writer, 'Web.shop.svc.cluster.local')
  write(writer, 'v6.example', { address: Buffer.from('fd000010000000000000000000000009', 'hex'), tcp: true })
  const { samples, lost } = reader.drain()
  expect(lost).toBe(0)
  expect(samples.map(({ name, ...rest }) => ({ ...rest, name: nameText(name) }))).toEqual([
    {
      name: 'Web.shop.svc.cluster.local.',
      client: '10.7.0.9',
      type: 1,
      rcode: 3,
      from: 'kubernetes',
      tcp: false,
      seconds: 0.5,
    },
    { name: 'v6.example.', client: 'fd00:10::9', type: 1, rcode: 3, from: 'kubernetes', tcp: true, seconds: 0.5 },
  ])
  expect(reader.drain()).toEqual({ samples: [], lost: 0 })
})

test('SampleRing says how many were lost to a slow reader, and keeps the newest', () => {
  const ring = new SampleRing({ samples: 4 })
  for (let i = 0; i < 10; i++) write(ring, `n${i}.example`)
  const { samples, lost } = ring.drain()
  expect(samples.map(({ name }) => nameText(name))).toEqual(['n7.example.', 'n8.example.', 'n9.example.'])
  expect(lost).toBe(7)
})

test('SampleRing wants one query of so many as its reader says, and none at first', () => {
  const reader = new SampleRing({ samples: 4 })
  const writer = new SampleRing(reader.memory)
  const wanted = (count: number) => Array.from({ length: count }, () => writer.isWanted())
  expect(wanted(3)).toEqual([false, false, false])
  reader.every = 3
  expect(wanted(9).filter(Boolean)).toHaveLength(3)
  reader.every = 1
  // The rest of an interval that began before is waited for.
  wanted(3)
  expect(wanted(3)).toEqual([true, true, true])
})
