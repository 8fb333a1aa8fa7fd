import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { parseIp } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { parsePort } from '../net/port.ts'
import { formatRecord, leaseKey, LeaseJournal, parseJournal, type Lease } from './leases.ts'

let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-leases-'))
  path = join(folder, 'leases')
})
afterEach(() => rmSync(folder, { recursive: true }))

function lease(number: number): Lease {
  return {
    owner: `pod default/p${number}`,
    network: 'default',
    ips: [parseIp(`10.0.${number >> 8}.${number & 255}`), parseIp(`fd00::${number}`)],
    mac: parseMac('02:00:00:00:00:01'),
    netns: `/run/netns/fl-default.p${number}`,
    bootId: 'boot',
  }
}

const open = (options: { fsync?: boolean } = {}): Promise<LeaseJournal> =>
  LeaseJournal.open(path, { log: silentLog, ...options })

describe('LeaseJournal', () => {
  test.each([false, true])('remembers what was added and forgets what was removed (fsync: %s)', async (fsync) => {
    {
      await using journal = await open({ fsync })
      await Promise.all([1, 2, 3].map((number) => journal.add([lease(number)])))
      await journal.remove([leaseKey(lease(2)), 'default/pod nobody/there'])
    }
    await using again = await open()
    expect([...again.leases.values()]).toEqual([lease(1), lease(3)])
  })

  test('replaces a lease, with its aliases and publications, in its place', async () => {
    const published = [{ hostIp: undefined, hostPort: parsePort(8080), port: parsePort(80), protocol: 'tcp' as const }]
    const changed: Lease = { ...lease(1), aliases: ['web', 'www'], published }
    {
      await using journal = await open()
      await journal.add([lease(1), lease(2)])
      await journal.add([changed])
    }
    await using again = await open()
    expect([...again.leases.values()]).toEqual([changed, lease(2)])
  })

  test('keeps what was promised without being closed (kill -9)', async () => {
    const journal = await open()
    await journal.add([lease(1)])
    expect(parseJournal(readFileSync(path, 'utf8')).leases.size).toBe(1)
    await journal[Symbol.asyncDispose]()
  })

  test('torn at any byte, holds exactly the changes before the tear', () => {
    const records = [
      formatRecord({ add: lease(1) }),
      formatRecord({ add: lease(2) }),
      formatRecord({ remove: leaseKey(lease(1)) }),
      formatRecord({ add: lease(3) }),
    ]
    const text = records.join('')
    const states = [[], [1], [1, 2], [2], [2, 3]].map((numbers) => numbers.map((number) => leaseKey(lease(number))))
    let whole = 0
    for (let length = 0; length <= text.length; length++) {
      // A line without its newline is whole already.
      while (whole < records.length && length >= records.slice(0, whole + 1).join('').length - 1) whole++
      expect([...parseJournal(text.slice(0, length)).leases.keys()]).toEqual(states[whole])
    }
    expect(whole).toBe(4)
  })

  test('goes on behind a torn line', async () => {
    writeFileSync(path, formatRecord({ add: lease(1) }) + formatRecord({ add: lease(2) }).slice(0, 30))
    {
      await using journal = await open()
      await journal.add([lease(3)])
    }
    await using again = await open()
    expect([...again.leases.values()]).toEqual([lease(1), lease(3)])
  })

  test('drops a line with a flipped bit and keeps the others', () => {
    const text = formatRecord({ add: lease(1) }) + formatRecord({ add: lease(2) })
    const { leases, broken } = parseJournal(text.replace('p1', 'q1'))
    expect([...leases.values()]).toEqual([lease(2)])
    expect(broken).toBe(1)
  })

  test('drops a record of ours that lacks a field', () => {
    const { bootId: _, ...partial } = lease(1)
    expect(parseJournal(formatRecord({ add: partial as Lease }))).toEqual({ leases: new Map(), broken: 1 })
  })

  test('compacts itself when most of it is dead', async () => {
    await using journal = await open()
    await journal.add([lease(1)])
    for (let round = 0; round < 600; round++) {
      await journal.add([lease(2)])
      await journal.remove([leaseKey(lease(2))])
    }
    await journal.add([lease(3)])
    expect(readFileSync(path, 'utf8').split('\n').length).toBeLessThan(1000)
    expect([...parseJournal(readFileSync(path, 'utf8')).leases.values()]).toEqual([lease(1), lease(3)])
  })

  test('opens a journal whose compaction was cut off', async () => {
    writeFileSync(path, formatRecord({ add: lease(1) }))
    appendFileSync(`${path}.new`, 'half')
    await using journal = await open()
    expect([...journal.leases.values()]).toEqual([lease(1)])
  })
})
