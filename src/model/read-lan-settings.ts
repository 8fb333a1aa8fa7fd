import { ParseError } from '../net/parse-error.ts'
import type { ManifestReader } from './manifest-reader.ts'
import { ipvlanModes, macvlanModes, type AddressSettings, type LanSettings } from './network.ts'

/** The fields of a network on one of the host's links, besides those that all networks have. */
export const lanFields = { parent: true, mode: true, addresses: true } as const

/** Reads the options of a macvlan or ipvlan network. Problems go to the reader. */
export function readLanSettings(
  reader: ManifestReader,
  known: { readonly driver: LanSettings['driver']; readonly settings: AddressSettings },
): LanSettings {
  const { driver, settings } = known
  const parent = reader.parsedText('parent', parseParent)
  if (parent === undefined && !reader.has('parent')) {
    reader.fail('parent', `is missing (expected the name of the host's link that pods are put on, like eth1)`)
  }
  const addresses = reader.oneOf('addresses', ['pool', 'dhcp']) ?? 'pool'
  const common = { ...settings, parent: parent ?? '' }
  if (addresses === 'pool' && settings.subnets.length === 0) {
    const expected = "expected the LAN's own, and ipRanges that nobody else gives addresses from, or addresses: dhcp"
    reader.fail('subnets', `is missing (${expected})`)
  }
  if (driver === 'ipvlan') {
    if (addresses === 'dhcp') {
      reader.fail('addresses', 'cannot be dhcp: all pods of an ipvlan have one MAC address (expected driver: macvlan)')
    }
    return { ...common, driver, mode: reader.oneOf('mode', ipvlanModes) ?? 'l2', addresses: 'pool' }
  }
  if (addresses === 'dhcp') refuseAddresses(reader)
  return { ...common, driver, mode: reader.oneOf('mode', macvlanModes) ?? 'bridge', addresses }
}

/** What the LAN's server decides. */
function refuseAddresses(reader: ManifestReader): void {
  for (const field of ['subnets', 'gateways', 'ipRanges', 'auxAddresses']) {
    if (reader.has(field)) reader.fail(field, 'comes from the DHCP server (expected none with addresses: dhcp)')
  }
}

/** IFNAMSIZ is 16 with the NUL. */
function parseParent(text: string): string {
  if (/^[^\s/:%\0]{1,15}$/.test(text) && Buffer.byteLength(text) <= 15) return text
  throw new ParseError(`${JSON.stringify(text)} is not an interface name (expected one like eth1)`)
}
