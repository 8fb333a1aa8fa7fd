import { ipFromBytes, type IpAddress, ipToBytes } from '../net/ip-address.ts'
import { isAtOrBelow, labelsOfKey, type NameKey, type Name, parseName } from './name.ts'

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

/** The address of a whole reverse name that is written as {@link reverseKey} writes it; undefined of any other name. */
export function reverseAddress(key: NameKey): IpAddress | undefined {
  const labels = labelsOfKey(key).slice(0, -2).toReversed()
  const isIPv4 = labels.length === 4
  if (!isIPv4 && labels.length !== 32) return undefined
  const numbers = labels.map((label) => Number.parseInt(label, isIPv4 ? 10 : 16))
  const bytes = isIPv4
    ? numbers
    : Array.from({ length: 16 }, (_, i) => ((numbers[i * 2] ?? 0) << 4) | (numbers[i * 2 + 1] ?? 0))
  if (bytes.some((byte) => !(byte >= 0 && byte <= 255))) return undefined
  const address = ipFromBytes(Uint8Array.from(bytes))
  // `010` and `1x` are other names, which nobody has.
  return reverseKey(address) === key ? address : undefined
}
