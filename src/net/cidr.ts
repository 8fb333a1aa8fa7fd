import { ipFamilyOf, ipFromBigInt, ipToBigInt, parseIp, type IpAddress, type IpFamily } from './ip-address.ts'
import { ParseError } from './parse-error.ts'

/** A network prefix. `address` may have host bits set (`10.1.2.3/24` names an address *and* its network). */
export interface Cidr {
  readonly address: IpAddress
  /** 0..32 or 0..128. */
  readonly prefix: number
}

/** Parses `10.0.0.0/8` or `fd00::/64`. Throws {@link ParseError}. */
export function parseCidr(text: string): Cidr {
  const slash = text.indexOf('/')
  const prefixText = text.slice(slash + 1)
  if (slash > 0 && /^\d{1,3}$/.test(prefixText)) {
    let address: IpAddress | undefined
    try {
      address = parseIp(text.slice(0, slash))
    } catch {
      // falls through to the one message
    }
    const prefix = Number(prefixText)
    if (address && prefix <= (ipFamilyOf(address) === 4 ? 32 : 128)) return { address, prefix }
  }
  throw new ParseError(`"${text}" is not a network (expected ADDRESS/PREFIX, like 10.96.0.0/12 or fd00::/64)`)
}

/** Like {@link parseCidr}, but refuses host bits: the result is a network, not an address in one. */
export function parseNetwork(text: string): Cidr {
  const cidr = parseCidr(text)
  const network = networkOf(cidr)
  if (network.address !== cidr.address) {
    throw new ParseError(`"${text}" has host bits set (expected the network itself: ${formatCidr(network)})`)
  }
  return cidr
}

export function formatCidr(cidr: Cidr): string {
  return `${cidr.address}/${cidr.prefix}`
}

/** The network that is one address: /32 or /128. */
export function addressCidr(ip: IpAddress): Cidr {
  return { address: ip, prefix: ipFamilyOf(ip) === 4 ? 32 : 128 }
}

/** 4 or 6. */
export function cidrFamily(cidr: Cidr): IpFamily {
  return ipFamilyOf(cidr.address)
}

/** How many addresses the prefix spans. */
export function cidrSize(cidr: Cidr): bigint {
  return 1n << BigInt((cidrFamily(cidr) === 4 ? 32 : 128) - cidr.prefix)
}

/** The same prefix with the host bits cleared. */
export function networkOf(cidr: Cidr): Cidr {
  const size = cidrSize(cidr)
  return { address: ipFromBigInt((ipToBigInt(cidr.address) / size) * size, cidrFamily(cidr)), prefix: cidr.prefix }
}

/** The `index`th address of the network, counted from its network address (index 0). */
export function addressAt(cidr: Cidr, index: bigint): IpAddress {
  return ipFromBigInt(ipToBigInt(networkOf(cidr).address) + index, cidrFamily(cidr))
}

/** The last address of the network (IPv4: its broadcast address). */
export function lastAddress(cidr: Cidr): IpAddress {
  return addressAt(cidr, cidrSize(cidr) - 1n)
}

export function cidrContains(cidr: Cidr, ip: IpAddress): boolean {
  if (ipFamilyOf(ip) !== cidrFamily(cidr)) return false
  const size = cidrSize(cidr)
  return ipToBigInt(ip) / size === ipToBigInt(cidr.address) / size
}

export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  if (cidrFamily(a) !== cidrFamily(b)) return false
  return a.prefix <= b.prefix ? cidrContains(a, b.address) : cidrContains(b, a.address)
}
