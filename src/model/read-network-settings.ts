import { createHash } from 'node:crypto'
import { parseNetwork } from '../net/cidr.ts'
import { ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { FieldProblem } from './manifest-error.ts'
import type { ManifestReader } from './manifest-reader.ts'
import {
  gatewayModes,
  type AddressSettings,
  type BridgeSettings,
  type GatewayMode,
  type NetworkSettings,
} from './network.ts'
import { lanFields, readLanSettings } from './read-lan-settings.ts'

/** The fields of a bridge network, besides its name. */
export const bridgeNetworkFields = {
  driver: true,
  bridge: true,
  subnets: true,
  gateways: true,
  ipRanges: true,
  auxAddresses: true,
  ipv4: true,
  ipv6: true,
  internal: true,
  icc: true,
  masquerade: true,
  gatewayMode: true,
  mtu: true,
  hairpin: true,
  interfaceName: true,
  labels: true,
} as const

/** The fields of a network that {@link readNetworkSettings} knows, besides its name. */
export const networkFields = { ...bridgeNetworkFields, ...lanFields } as const

/** Fields that mean something for bridges only. */
const bridgeFields = [
  'bridge',
  'ipv4',
  'ipv6',
  'internal',
  'icc',
  'masquerade',
  'gatewayMode',
  'hairpin',
] as const satisfies readonly (keyof typeof networkFields)[]

/** Names that mean something else than a network that somebody makes. */
export const builtInNetworks = ['host', 'none'] as const

/**
 * Reads the options of a network: the same fields in the configuration, in manifests (`spec`) and over the control socket.
 * Problems go to the reader. `name` is checked by who reads it.
 */
export function readNetworkSettings(
  reader: ManifestReader,
  identity: { readonly name: string; readonly bridge?: string },
): NetworkSettings {
  const driver = reader.oneOf('driver', ['bridge', 'macvlan', 'ipvlan']) ?? 'bridge'
  if (driver === 'bridge') return readBridgeSettings(reader, identity)
  for (const field of bridgeFields) {
    if (reader.has(field)) reader.fail(field, `is for networks of driver bridge (expected none for driver ${driver})`)
  }
  return readLanSettings(reader, { driver, settings: readAddressSettings(reader, identity.name) })
}

/** As {@link readNetworkSettings}, for a network that must be a bridge. */
export function readBridgeSettings(
  reader: ManifestReader,
  identity: { readonly name: string; readonly bridge?: string },
): BridgeSettings {
  const { name } = identity
  reader.oneOf('driver', ['bridge'])
  for (const field of Object.keys(lanFields)) {
    if (reader.has(field)) reader.fail(field, 'is for networks of driver macvlan or ipvlan (expected driver: macvlan)')
  }
  const modes = readGatewayModes(reader)
  const internal = reader.boolean('internal')
  const icc = reader.boolean('icc')
  const hairpin = reader.boolean('hairpin')
  return {
    ...readAddressSettings(reader, name),
    bridge: reader.parsedText('bridge', parseInterfaceName) ?? identity.bridge ?? defaultBridge(name),
    masquerade: reader.parsed('masquerade', parseMasquerade) ?? true,
    ...(internal !== undefined && { internal }),
    ...(icc !== undefined && { icc }),
    ...(hairpin !== undefined && { hairpin }),
    ...(modes && { gatewayModes: modes }),
  }
}

/** The fields that are none of {@link networkFields}, each as a problem: for input that people write by hand. */
export function unknownNetworkFields(raw: unknown, also: readonly string[] = []): FieldProblem[] {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return []
  const known = [...also, ...Object.keys(networkFields)]
  return Object.keys(raw)
    .filter((key) => !known.includes(key))
    .map((path) => ({ path, reason: `unknown field (expected one of: ${known.join(', ')})` }))
}

/** The bridge of a network that names none: `fl-NAME`, or a hash where that is longer than a link's name may be. */
export function defaultBridge(network: string): string {
  if (network === 'default') return 'fl0'
  const readable = `fl-${network}`
  if (readable.length <= 15) return readable
  return `flb${createHash('sha256').update(network).digest('hex').slice(0, 12)}`
}

/** IFNAMSIZ is 16 with the NUL; dev_valid_name() refuses the rest. Throws {@link ParseError}. */
export function parseInterfaceName(text: string): string {
  if (/^[^\s/:%\0]{1,15}$/.test(text) && text !== '.' && text !== '..' && Buffer.byteLength(text) <= 15) return text
  const expected = 'expected 1 to 15 characters without space, slash, colon or percent sign'
  throw new ParseError(`${JSON.stringify(text)} is not an interface name (${expected})`)
}

function readAddressSettings(reader: ManifestReader, name: string): AddressSettings {
  const gateways = reader.parsedTexts('gateways', parseIp)
  const ipRanges = reader.parsedTexts('ipRanges', parseNetwork)
  const without = withoutFamilies(reader)
  const interfaceName = reader.parsedText('interfaceName', parseInterfaceName)
  const labels = reader.texts('labels')
  const auxAddresses = readAuxAddresses(reader)
  return {
    name,
    subnets: reader.parsedTexts('subnets', parseNetwork),
    // 1280: the least that IPv6 works with (RFC 8200, section 5).
    mtu: reader.integer('mtu', { min: 1280, max: 65_535 }),
    ...(gateways.length > 0 && { gateways }),
    ...(ipRanges.length > 0 && { ipRanges }),
    ...(auxAddresses && { auxAddresses }),
    ...(without.length > 0 && { without }),
    ...(interfaceName !== undefined && { interfaceName }),
    ...(Object.keys(labels).length > 0 && { labels }),
  }
}

function withoutFamilies(reader: ManifestReader): IpFamily[] {
  const off: IpFamily[] = []
  if (reader.boolean('ipv4') === false) off.push(4)
  if (reader.boolean('ipv6') === false) off.push(6)
  if (off.length === 2) reader.fail('ipv6', 'is false, as is ipv4 (expected a network to have one of them at least)')
  return off
}

function readAuxAddresses(reader: ManifestReader): Readonly<Record<string, IpAddress>> | undefined {
  const texts = Object.keys(reader.texts('auxAddresses'))
  if (texts.length === 0) return undefined
  const names = reader.object('auxAddresses')
  const pairs = texts.flatMap((name) => {
    const ip = names.parsedText(name, parseIp)
    return ip === undefined ? [] : [[name, ip] as const]
  })
  return Object.fromEntries(pairs)
}

function readGatewayModes(reader: ManifestReader): Partial<Record<IpFamily, GatewayMode>> | undefined {
  if (!reader.has('gatewayMode')) return undefined
  if (typeof reader.raw('gatewayMode') === 'string') {
    const mode = reader.oneOf('gatewayMode', gatewayModes)
    return mode && { 4: mode, 6: mode }
  }
  const modes = reader.object('gatewayMode')
  const ipv4 = modes.oneOf('ipv4', gatewayModes)
  const ipv6 = modes.oneOf('ipv6', gatewayModes)
  return { ...(ipv4 && { 4: ipv4 }), ...(ipv6 && { 6: ipv6 }) }
}

/** True, false, an address, or a list of them with one per family at most. */
function parseMasquerade(value: unknown): boolean | readonly IpAddress[] {
  if (typeof value === 'boolean') return value
  const texts: readonly unknown[] = Array.isArray(value) ? value : [value]
  const ips = texts.map((text) => {
    if (typeof text === 'string') return parseIp(text)
    throw new ParseError(`${JSON.stringify(text)} is not understood (expected true, false, or a source address)`)
  })
  const families = new Set(ips.map(ipFamilyOf))
  if (ips.length > 0 && families.size === ips.length) return ips
  throw new ParseError(`${JSON.stringify(value)} is not understood (expected at most one source address per family)`)
}
