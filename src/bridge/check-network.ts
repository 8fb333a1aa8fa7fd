import { parseLabelName } from '../model/names.ts'
import type { AddressSettings, BridgeSettings } from '../model/network.ts'
import { builtInNetworks } from '../model/read-network-settings.ts'
import { cidrContains, cidrFamily, cidrsOverlap, formatCidr, lastAddress, networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { isLinkName, isNetworkBridge, networkAlias } from './names.ts'
import type { TakenRanges } from './taken-ranges.ts'
import { unusableRangeOf } from './unusable-ranges.ts'

/** Settings that cannot be used on this host. The message names the field, the value, and what was expected. */
export class NetworkError extends Error {
  override readonly name: string = 'NetworkError'
  readonly field: string

  constructor(field: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.field = field
  }
}

/** A network that cannot be made or removed because of what there is: its name is taken, or it is in use. */
export class NetworkConflictError extends NetworkError {
  override readonly name: string = 'NetworkConflictError'
}

/** RFC 8200, section 5: IPv6 needs 1,280; an Ethernet bridge takes up to 65,535. */
export const mtuRange = { min: 1280, max: 65_535 } as const

/** Throws {@link NetworkError} for a name that no network can have, or a bridge that is not ours to have. */
export function checkNames(
  { name, bridge, interfaceName }: BridgeSettings,
  links: readonly { readonly name: string; readonly alias: string | undefined; readonly group: number }[],
): void {
  checkNetworkName(name)
  checkLinkName('bridge', bridge, name)
  if (interfaceName !== undefined) checkLinkName('interfaceName', interfaceName, name)
  const existing = links.find((link) => link.name === bridge)
  if (!existing || isNetworkBridge(existing, name)) return
  const whose = existing.alias ? `its alias is "${existing.alias}"` : 'it has no alias'
  throw new NetworkError(
    'bridge',
    `bridge ${bridge} of network ${name} exists and is not ours: ${whose}, ours has "${networkAlias(name)}" ` +
      `(choose another name, or remove that link)`,
  )
}

/** Throws {@link NetworkError}. */
export function checkNetworkName(name: string): void {
  try {
    parseLabelName(name)
  } catch (error) {
    throw new NetworkError('name', `name of a network: ${(error as Error).message}`, { cause: error })
  }
  if (!builtInNetworks.some((other) => other === name)) return
  throw new NetworkError('name', `network ${name} is always there and cannot be made (choose another name)`)
}

/** Throws {@link NetworkError}. */
export function checkMtu({ name, mtu }: AddressSettings): void {
  if (mtu === undefined || (Number.isInteger(mtu) && mtu >= mtuRange.min && mtu <= mtuRange.max)) return
  const expected = `expected a whole number from ${mtuRange.min} to ${mtuRange.max}`
  throw new NetworkError('mtu', `mtu ${mtu} of network ${name} cannot be used (${expected})`)
}

/** Subnets, gateways, ranges and other addresses, each against the others. Throws {@link NetworkError}. */
export function checkAddresses(settings: AddressSettings): void {
  const { name, subnets, gateways = [], ipRanges = [], auxAddresses = {} } = settings
  for (const [index, subnet] of subnets.entries()) {
    const twin = subnets.slice(0, index).find((other) => cidrsOverlap(other, subnet))
    if (!twin) continue
    const texts = `${formatCidr(twin)} and ${formatCidr(subnet)}`
    throw new NetworkError('subnets', `subnets ${texts} of network ${name} overlap (expected ranges apart)`)
  }
  checkPlaces(gateways, { field: 'gateways', what: 'gateway', name, subnets })
  const ranges = ipRanges.map(({ address }) => address)
  checkPlaces(ranges, { field: 'ipRanges', what: 'range', name, subnets, texts: ipRanges.map(formatCidr) })
  for (const range of ipRanges) {
    const subnet = subnetFor(range.address, subnets)
    if (subnet && range.prefix >= subnet.prefix) continue
    const where = subnet ? formatCidr(subnet) : 'a subnet'
    const message = `range ${formatCidr(range)} of network ${name} is larger than its subnet (expected one in ${where})`
    throw new NetworkError('ipRanges', message)
  }
  for (const gateway of gateways) checkHostAddress(gateway, { field: 'gateways', what: 'gateway', name, subnets })
  for (const [key, ip] of Object.entries(auxAddresses)) {
    const what = `auxiliary address ${key}`
    checkHostAddress(ip, { field: 'auxAddresses', what, name, subnets })
    if (!gateways.includes(ip)) continue
    throw new NetworkError('auxAddresses', `${what} (${ip}) of network ${name} is its gateway (expected another one)`)
  }
}

/** Throws {@link NetworkError} for a subnet that hosts cannot be in, or that something else has. */
export function checkSubnet(subnet: Cidr, context: { readonly name: string; readonly taken: TakenRanges }): void {
  const { name, taken } = context
  const text = `subnet ${formatCidr(subnet)} of network ${name}`
  const most = cidrFamily(subnet) === 4 ? 30 : 126
  if (subnet.prefix < 8 || subnet.prefix > most) {
    const expected = `expected a prefix from 8 to ${most}: at least a gateway and a pod`
    throw new NetworkError('subnets', `${text} has a prefix of ${subnet.prefix} (${expected})`)
  }
  if (subnet.address !== networkOf(subnet).address) {
    throw new NetworkError('subnets', `${text} has host bits set (expected ${formatCidr(networkOf(subnet))})`)
  }
  const special = unusableRangeOf(subnet)
  if (special !== undefined) {
    const expected = 'expected a range for hosts, like 172.20.0.0/16 or fd12:3456:789a::/64'
    throw new NetworkError('subnets', `${text} overlaps ${special} addresses (${expected})`)
  }
  const clash = taken.find(subnet)
  if (clash !== undefined) {
    throw new NetworkError('subnets', `${text} overlaps ${clash} (expected a range that is free)`)
  }
}

function checkLinkName(field: string, link: string, network: string): void {
  if (isLinkName(link)) return
  const expected = 'expected 1 to 15 bytes without space, slash, colon or percent sign'
  throw new NetworkError(field, `${field} "${link}" of network ${network} cannot name a link (${expected})`)
}

interface Place {
  readonly field: string
  readonly what: string
  readonly name: string
  readonly subnets: readonly Cidr[]
}

/** One per subnet at most, each in one. */
function checkPlaces(ips: readonly IpAddress[], place: Place & { readonly texts?: readonly string[] }): void {
  const { field, what, name, subnets, texts = ips } = place
  for (const [index, ip] of ips.entries()) {
    const subnet = subnetFor(ip, subnets)
    if (!subnet) throw outside(`${what} ${texts[index]}`, ip, place)
    const twin = ips.findIndex((other) => cidrContains(subnet, other))
    if (twin === index) continue
    const both = `${texts[twin]} and ${texts[index]}`
    throw new NetworkError(field, `${what}s ${both} of network ${name} are in one subnet (expected one at most)`)
  }
}

function checkHostAddress(ip: IpAddress, place: Place): void {
  const { field, what, name, subnets } = place
  const subnet = subnetFor(ip, subnets)
  if (!subnet) throw outside(`${what} ${ip}`, ip, place)
  const isBroadcast = cidrFamily(subnet) === 4 && ip === lastAddress(subnet)
  if (ip !== networkOf(subnet).address && !isBroadcast) return
  const kind = isBroadcast ? 'broadcast' : 'network'
  const expected = `expected a host address in ${formatCidr(subnet)}`
  throw new NetworkError(field, `${what} ${ip} of network ${name} is the ${kind} address (${expected})`)
}

function outside(text: string, ip: IpAddress, { field, name, subnets }: Place): NetworkError {
  const family = ipFamilyOf(ip)
  const own = subnets.filter((cidr) => cidrFamily(cidr) === family).map(formatCidr)
  const reason =
    own.length === 0
      ? `has no IPv${family} subnet that it could be in (expected it in subnets, too)`
      : `is outside of its subnet (expected an address in ${own.join(' or ')})`
  return new NetworkError(field, `${text} of network ${name} ${reason}`)
}

function subnetFor(ip: IpAddress, subnets: readonly Cidr[]): Cidr | undefined {
  return subnets.find((cidr) => cidrContains(cidr, ip))
}
