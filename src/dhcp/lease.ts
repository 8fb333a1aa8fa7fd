import { cidrContains, cidrSize, lastAddress, networkOf, parseCidr, parseNetwork, type Cidr } from '../net/cidr.ts'
import { ipToBigInt, parseIp, type IpAddress } from '../net/ip-address.ts'
import { parseMac, type MacAddress } from '../net/mac-address.ts'
import type { DhcpRoute } from './classless-routes.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'
import { anyAddress, type DhcpMessage } from './message.ts'

/** What a DHCP server lets a client have, and for how long. */
export interface DhcpLease {
  /** The address, and the prefix of its network. */
  readonly address: Cidr
  /** In order of preference. Empty when `routes` are given: they then say it all (RFC 3442). */
  readonly routers: readonly IpAddress[]
  /** Routes besides the one of the network itself. */
  readonly routes: readonly DhcpRoute[]
  readonly dnsServers: readonly IpAddress[]
  readonly domain: string | undefined
  readonly mtu: number | undefined
  /** The server (option 54), and the hardware address that its packets come from (its own or that of a router to it). */
  readonly server: IpAddress
  readonly serverMac: MacAddress
  /** Wall time at which the lease was asked for, in milliseconds since 1970: all times count from then. */
  readonly obtainedAt: number
  /** Milliseconds after `obtainedAt`. Infinity: for ever. */
  readonly renewAfter: number
  readonly rebindAfter: number
  readonly expiresAfter: number
}

const infiniteSeconds = 0xffff_ffff
const neverValid = ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/3'].map(parseNetwork)

/** Whether a host can have the address at all. */
export function isHostAddress(address: IpAddress): boolean {
  return !neverValid.some((network) => cidrContains(network, address))
}

/** The lease that an ack gives. Throws {@link DhcpMessageError} when it is none that a host could live with. */
export function leaseFromAck(ack: DhcpMessage, from: { serverMac: MacAddress; askedAt: number }): DhcpLease {
  const { options } = ack
  const { server, leaseSeconds } = options
  if (server === undefined || leaseSeconds === undefined || leaseSeconds === 0) {
    throw new DhcpMessageError('the ack lacks the server or the time of the lease')
  }
  const address: Cidr = { address: ack.yiaddr, prefix: prefixOf(options.subnetMask, ack.yiaddr) }
  // In networks of two addresses (RFC 3021) and of one, all are hosts.
  const isNetworkOrBroadcast =
    cidrSize(address) > 2n &&
    (networkOf(address).address === address.address || lastAddress(address) === address.address)
  if (!isHostAddress(address.address) || isNetworkOrBroadcast) {
    throw new DhcpMessageError(`no host can have the address ${address.address}/${address.prefix}`)
  }
  if (options.mtu !== undefined && options.mtu < 68) throw new DhcpMessageError(`the MTU ${options.mtu} is below 68`)
  return {
    address,
    routers: options.routes ? [] : (options.routers ?? []).filter(isHostAddress),
    routes: (options.routes ?? []).filter(({ gateway }) => gateway === anyAddress || isHostAddress(gateway)),
    dnsServers: (options.dnsServers ?? []).filter(isHostAddress),
    domain: searchDomain(options.domain),
    mtu: options.mtu,
    server,
    serverMac: from.serverMac,
    obtainedAt: from.askedAt,
    ...times(leaseSeconds, options),
  }
}

/** Whether two leases mean the same to the host: the same but for their times and their server. */
export function isSameConfiguration(a: DhcpLease, b: DhcpLease): boolean {
  const visible = ({ address, routers, routes, dnsServers, domain, mtu }: DhcpLease): string =>
    JSON.stringify([address.address, address.prefix, routers, routes, dnsServers, domain, mtu])
  return visible(a) === visible(b)
}

/** The lease as text that outlives the process. */
export function formatLease(lease: DhcpLease): string {
  // JSON has no Infinity: it becomes null.
  return `${JSON.stringify(lease)}\n`
}

/** Reads what {@link formatLease} wrote; undefined when it is anything else. */
export function parseLease(text: string): DhcpLease | undefined {
  try {
    const value = JSON.parse(text) as DhcpLease
    const cidr = ({ address, prefix }: Cidr): Cidr => parseCidr(`${address}/${prefix}`)
    const time = (ms: number | null): number => {
      if (ms !== null && (typeof ms !== 'number' || ms <= 0)) throw new TypeError('not a time')
      return ms ?? Number.POSITIVE_INFINITY
    }
    if (typeof value.obtainedAt !== 'number') return undefined
    return {
      address: cidr(value.address),
      routers: value.routers.map(parseIp),
      routes: value.routes.map(({ destination, gateway }) => ({
        destination: cidr(destination),
        gateway: parseIp(gateway),
      })),
      dnsServers: value.dnsServers.map(parseIp),
      domain: typeof value.domain === 'string' ? searchDomain(value.domain) : undefined,
      mtu: typeof value.mtu === 'number' ? value.mtu : undefined,
      server: parseIp(value.server),
      serverMac: parseMac(value.serverMac),
      obtainedAt: value.obtainedAt,
      renewAfter: time(value.renewAfter),
      rebindAfter: time(value.rebindAfter),
      expiresAfter: time(value.expiresAfter),
    }
  } catch {
    // A file of another version, or that somebody wrote into: asking the server anew loses nothing but time.
    return undefined
  }
}

/** Names with spaces between them, as servers write a search list. Whoever writes them into a file must not write lines of the server's. */
function searchDomain(text: string | undefined): string | undefined {
  return text !== undefined && /^[\w-]+(?:\.[\w-]+)*\.?(?: +[\w-]+(?:\.[\w-]+)*\.?)*$/.test(text) ? text : undefined
}

/** RFC 2131, 4.4.5: half of the time, and 7/8 of it, unless the server says otherwise and that makes sense. */
function times(
  leaseSeconds: number,
  options: DhcpMessage['options'],
): Pick<DhcpLease, 'renewAfter' | 'rebindAfter' | 'expiresAfter'> {
  const { renewSeconds, rebindSeconds } = options
  if (leaseSeconds === infiniteSeconds) {
    const never = Number.POSITIVE_INFINITY
    return { renewAfter: never, rebindAfter: never, expiresAfter: never }
  }
  const expiresAfter = leaseSeconds * 1000
  const rebind = rebindSeconds !== undefined && rebindSeconds > 0 && rebindSeconds < leaseSeconds
  const rebindAfter = rebind ? rebindSeconds * 1000 : (expiresAfter * 7) / 8
  const renewMs = renewSeconds !== undefined && renewSeconds > 0 ? renewSeconds * 1000 : expiresAfter / 2
  return { renewAfter: renewMs < rebindAfter ? renewMs : (rebindAfter * 4) / 7, rebindAfter, expiresAfter }
}

/** The class of the address decides where the server gives no mask (RFC 950, 2.1). */
function prefixOf(mask: IpAddress | undefined, address: IpAddress): number {
  const first = Number.parseInt(address, 10)
  if (mask === undefined) return first < 128 ? 8 : first < 192 ? 16 : 24
  const zeros = (~ipToBigInt(mask) & 0xffff_ffffn).toString(2)
  const prefix = zeros === '0' ? 32 : 32 - zeros.length
  if (prefix < 1 || zeros.slice(1).includes('0')) throw new DhcpMessageError(`${mask} is no subnet mask`)
  return prefix
}
