import { randomBytes } from 'node:crypto'
import { ParseError } from './parse-error.ts'

declare const brand: unique symbol

/** A 48-bit Ethernet address, lower case with colons. */
export type MacAddress = string & { readonly [brand]: 'MacAddress' }

/** Parses `02:00:00:00:00:01`. Throws {@link ParseError}. */
export function parseMac(text: string): MacAddress {
  if (/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return text.toLowerCase() as MacAddress
  throw new ParseError(`"${text}" is not a MAC address (expected six pairs of hex digits, like 02:00:00:00:00:01)`)
}

/** A random unicast address from the locally administered range. */
export function randomMac(): MacAddress {
  const bytes = randomBytes(6)
  bytes[0] = (bytes[0]! & 0xfc) | 0x02
  return macFromBytes(bytes)
}

export function macFromBytes(bytes: Uint8Array): MacAddress {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(':') as MacAddress
}

export function macToBytes(mac: MacAddress): Uint8Array {
  return Uint8Array.from(mac.split(':'), (hex) => Number.parseInt(hex, 16))
}
