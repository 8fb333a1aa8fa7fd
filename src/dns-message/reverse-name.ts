import { type IpAddress, ipToBytes } from '../net/ip-address.ts'
import { isAtOrBelow, type NameKey, type Name, parseName } from './name.ts'

/** The zones of reverse names, by family: RFC 1035 section 3.5, RFC 3596 section 2.5. */
export const reverseZones: readonly Name[] = [parseName('in-addr.arpa.'), parseName('ip6.arpa.')]

/** The reverse zone that a name is in. */
export function reverseZoneOf(key: NameKey): Name | undefined {
  return reverseZones.find((zone) => isAtOrBelow(key, zone.key))
}

/** `10.4.30.172.in-addr.arpa.` of 172.30.4.10, and the nibbles of an IPv6 address. */
export function reverseKey(address: IpAddress): NameKey {
  const bytes = ipToBytes(address)
  let key = ''
  if (bytes.length === 4) {
    for (const byte of bytes) {
      const label = String(byte)
      key = String.fromCharCode(label.length) + label + key
    }
    return `${key}\x07in-addr\x04arpa\0`
  }
  for (const byte of bytes) key = `\x01${(byte & 0xf).toString(16)}\x01${(byte >>> 4).toString(16)}${key}`
  return `${key}\x03ip6\x04arpa\0`
}
