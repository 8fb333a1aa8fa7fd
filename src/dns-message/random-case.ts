import { randomBytes } from 'node:crypto'
import type { Name } from './name.ts'

/**
 * The name with each letter in upper or lower case by chance ("0x20", draft-vixie-dnsext-dns0x20): a reply must repeat it, so
 * a forger has to guess one more bit per letter.
 */
export function randomCase(name: Name): Name {
  const wire = Uint8Array.from(name.wire)
  const bits = randomBytes(wire.length)
  for (const [i, byte] of wire.entries()) {
    // Length octets are below 64 and so no letters.
    const lower = byte | 0x20
    if (lower >= 0x61 && lower <= 0x7a) wire[i] = (bits[i] ?? 0) & 1 ? lower & 0xdf : lower
  }
  return { wire, key: name.key }
}

/** Whether two names are written alike, letter by letter. */
export function sameCase(a: Name, b: Name): boolean {
  return Buffer.compare(a.wire, b.wire) === 0
}
