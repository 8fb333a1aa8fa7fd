import { describe, expect, test } from 'vitest'
import { decodeLinkCounters } from './link-counters.ts'

/** struct ifinfomsg, and IFLA_STATS64 (23) of so many u64 fields that count up from 1. */
function payload(fields: number): Buffer {
  const attribute = Buffer.alloc(4 + fields * 8)
  attribute.writeUInt16LE(attribute.length, 0)
  attribute.writeUInt16LE(23, 2)
  for (let i = 0; i < fields; i++) attribute.writeBigUInt64LE(BigInt(i + 1), 4 + i * 8)
  return Buffer.concat([Buffer.alloc(16), attribute])
}

describe('decodeLinkCounters()', () => {
  // rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped, multicast ...
  test.each([8, 25])('reads struct rtnl_link_stats64 of %d fields', (fields) => {
    expect(decodeLinkCounters(payload(fields))).toEqual({
      received: { packets: 1, bytes: 3, errors: 5, dropped: 7 },
      sent: { packets: 2, bytes: 4, errors: 6, dropped: 8 },
    })
  })

  test('is undefined for links without counters', () => {
    expect(decodeLinkCounters(Buffer.alloc(16))).toBeUndefined()
    expect(decodeLinkCounters(payload(7))).toBeUndefined()
  })
})
