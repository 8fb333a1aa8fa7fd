import { assert, property, uint8Array } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { macFromBytes, macToBytes, parseMac, randomMac } from './mac-address.ts'

describe('parseMac()', () => {
  test('undoes macFromBytes()', () => {
    assert(
      property(uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
        const mac = macFromBytes(bytes)
        expect(parseMac(mac.toUpperCase())).toBe(mac)
        expect([...macToBytes(mac)]).toEqual([...bytes])
      }),
    )
  })

  test.each(['', '02:00:00:00:00', '02-00-00-00-00-01', '02:00:00:00:00:0g'])('refuses "%s"', (text) => {
    expect(() => parseMac(text)).toThrow('is not a MAC address')
  })
})

describe('randomMac()', () => {
  test('is locally administered and unicast', () => {
    for (let i = 0; i < 50; i++) expect(macToBytes(randomMac())[0]! & 0x03).toBe(0x02)
  })
})
