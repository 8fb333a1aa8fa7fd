import { expect, test } from 'vitest'
import { ipFamilyOf, parseIp } from '../net/ip-address.ts'
import type { ConnectionEntry, Conntrack } from '../netlink/conntrack.ts'
import { forgetUntranslated } from './forget-connections.ts'
import { parsePublication } from './publication.ts'

const hostIp = parseIp('192.0.2.2')

function entry(destination: string, destinationPort: number, status = 0): ConnectionEntry {
  const [source, to] = [parseIp('192.0.2.9'), parseIp(destination)]
  const original = { source, destination: to, protocol: 17, sourcePort: 4000, destinationPort }
  const reply = { source: to, destination: source, protocol: 17, sourcePort: destinationPort, destinationPort: 4000 }
  return { original, reply, status } as ConnectionEntry
}

const published = (count: number) =>
  Array.from({ length: count }, (_, index) =>
    parsePublication({ hostPort: 5000 + index, port: 53, protocol: 'udp', ...(index === 1 && { hostIp }) }),
  )

test.each([
  { ports: 2, most: 3 },
  { ports: 10_000, most: 2 },
])('forgetUntranslated() of $ports ports looks $most times, and ends what the host itself got there', async (row) => {
  const entries = [
    entry('192.0.2.2', 5000),
    entry('192.0.2.2', 5001),
    // To another machine, to another address than is published, translated, and to another port.
    entry('192.0.2.3', 5000),
    entry('127.0.0.1', 5001),
    entry('192.0.2.2', 5000, 0x20),
    entry('192.0.2.2', 4999),
  ]
  let looks = 0
  const deleted: ConnectionEntry[] = []
  const conntrack: Pick<Conntrack, 'list' | 'delete'> = {
    list: async ({ family, original }) => {
      looks++
      return await Promise.resolve(
        entries.filter(
          ({ original: { destination, destinationPort } }) =>
            ipFamilyOf(destination) === family &&
            [undefined, destinationPort].includes(original?.destinationPort ?? undefined),
        ),
      )
    },
    delete: async (gone) => await Promise.resolve(void deleted.push(...gone)),
  }
  const host = new Set([hostIp, parseIp('127.0.0.1')])
  expect(await forgetUntranslated(conntrack as Conntrack, published(row.ports), host)).toBe(2)
  expect(deleted).toEqual(entries.slice(0, 2))
  expect(looks).toBe(row.most)
})
