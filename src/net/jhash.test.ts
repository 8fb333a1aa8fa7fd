import { expect, test } from 'vitest'
import { ipToBytes, parseIp } from './ip-address.ts'
import { jhash } from './jhash.ts'

// `jhash ip daddr mod 1000003 seed 0xfa1e1ead` of nftables on Linux 6.18, which scales the hash with a multiplication.
test.each([
  ['127.0.0.1', 0xc_dd95],
  ['10.0.0.9', 0x2_83bd],
  ['::1', 0x1_09f5],
  ['fd00:10::9', 0x7_49e0],
])('jhash() of %s is the kernel’s', (ip, scaled) => {
  expect(Math.floor((jhash(ipToBytes(parseIp(ip)), 0xfa1e_1ead) * 1_000_003) / 2 ** 32)).toBe(scaled)
})
