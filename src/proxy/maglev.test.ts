import { expect, test } from 'vitest'
import { parseIp } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { maglevSlot, maglevTable } from './maglev.ts'

// What the kernel (Linux 6.18) says to `jhash ip saddr mod 1000003 seed 0xfa1e1ead`.
test.each([
  ['10.0.0.9', 0x2_83bd],
  ['fd00:10::9', 0x7_49e0],
])('maglevSlot() finds %s where nftables does', (ip, slot) => {
  expect(maglevSlot(parseIp(ip), 1_000_003)).toBe(slot)
})

test.each([
  [1, 251],
  [25, 251],
  [26, 1021],
  [5000, 65_521],
])('maglevTable() of %d endpoints has %d slots, and each endpoint some', (endpoints, size) => {
  const table = maglevTable(
    Array.from({ length: endpoints }, (_, i) => ({ ip: parseIp(`10.0.${i >> 8}.${i & 255}`), port: 80 as Port })),
  )
  expect(table).toHaveLength(size)
  expect(new Set(table).size).toBe(endpoints)
})
