import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { formatCidr, type Cidr } from '../net/cidr.ts'
import { decodeAttributes, encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { addressFamilyNumbers, AF_INET6, type RouteScope, routeScopes, scopeFromNumber } from '../netlink/families.ts'
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from '../netlink/message.ts'
import type { NetlinkRequest, NetlinkSocket } from '../netlink/netlink-socket.ts'

/** include/uapi/linux/rtnetlink.h */
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22

/** enum IFA_* of include/uapi/linux/if_addr.h. */
export const addressAttributes = {
  address: { id: 1, type: 'ip' },
  local: { id: 2, type: 'ip' },
  label: { id: 3, type: 'string' },
  broadcast: { id: 4, type: 'ip' },
  flags: { id: 8, type: 'u32' },
} as const satisfies AttributeTable

/** IFA_F_* of include/uapi/linux/if_addr.h. */
const addressFlags = {
  secondary: 0x01,
  nodad: 0x02,
  dadFailed: 0x08,
  deprecated: 0x20,
  tentative: 0x40,
  permanent: 0x80,
  noPrefixRoute: 0x200,
} as const

/** An address of a link. */
export interface LinkAddress {
  /** Index of the link. */
  readonly link: number
  /** The address itself, and the length of its network's prefix. */
  readonly address: Cidr
  /** The other end, on a point-to-point link. */
  readonly peer: IpAddress | undefined
  readonly scope: RouteScope
  readonly label: string | undefined
  readonly broadcast: IpAddress | undefined
  /** Duplicate address detection has not finished: not usable yet. */
  readonly tentative: boolean
  readonly dadFailed: boolean
  readonly nodad: boolean
  readonly secondary: boolean
  readonly permanent: boolean
  readonly noPrefixRoute: boolean
}

export interface AddAddress {
  /** Index of the link. */
  readonly link: number
  readonly address: Cidr
  /** IPv6: usable at once, without duplicate address detection (about 1.2 s). Default true; IPv4 has none. */
  readonly nodad?: boolean
  /** IPv4 only; must begin with the link's name. */
  readonly label?: string
  /** Default global. IPv6: the kernel derives it from the address. */
  readonly scope?: RouteScope
  /** Adds no route to the address's network. */
  readonly noPrefixRoute?: boolean
  /** Overwrites the flags of an address that is there, rather than fail with EEXIST. */
  readonly replace?: boolean
}

/** Builds RTM_NEWADDR. */
export function addAddress(options: AddAddress): NetlinkRequest {
  const { link, address, label, scope = 'global', nodad = true, noPrefixRoute = false, replace = false } = options
  const flags = encodeAddressFlags({ nodad: nodad && ipFamilyOf(address.address) === 6, noPrefixRoute })
  return {
    name: `add address ${formatCidr(address)} to link ${link}`,
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL),
    payload: Buffer.concat([
      addressHeader(address, link, routeScopes[scope]),
      encodeAttributes(addressAttributes, {
        address: address.address,
        local: address.address,
        label,
        flags: flags === 0 ? undefined : flags,
      }),
    ]),
  }
}

/** Builds RTM_DELADDR. The kernel answers EADDRNOTAVAIL when the link does not have the address. */
export function deleteAddress(link: number, address: Cidr): NetlinkRequest {
  return {
    name: `delete address ${formatCidr(address)} from link ${link}`,
    type: RTM_DELADDR,
    payload: Buffer.concat([
      addressHeader(address, link, 0),
      encodeAttributes(addressAttributes, { address: address.address, local: address.address }),
    ]),
  }
}

/** A dump; with `link`, of that link's addresses only. */
export function listAddresses(filter: { link?: number; family?: IpFamily } = {}): NetlinkRequest {
  const header = Buffer.alloc(8)
  header[0] = filter.family === undefined ? 0 : addressFamilyNumbers[filter.family]
  header.writeUInt32LE(filter.link ?? 0, 4)
  return { name: 'list addresses', type: RTM_GETADDR, payload: header }
}

/** Reads an RTM_NEWADDR or RTM_DELADDR payload. */
export function decodeAddress(payload: Buffer): LinkAddress {
  const { local, address, label, broadcast, flags } = decodeAttributes(addressAttributes, payload.subarray(8))
  const own = local ?? address
  if (own === undefined) throw new Error('the kernel sent an address message without an address')
  const bits = flags ?? payload[2] ?? 0
  const has = (flag: number): boolean => (bits & flag) !== 0
  return {
    link: payload.readUInt32LE(4),
    address: { address: own, prefix: payload[1] ?? 0 },
    peer: address !== own ? address : undefined,
    scope: scopeFromNumber(payload[3] ?? 0),
    label,
    broadcast,
    tentative: has(addressFlags.tentative),
    dadFailed: has(addressFlags.dadFailed),
    nodad: has(addressFlags.nodad),
    // The same bit says "temporary" (RFC 8981) for IPv6.
    secondary: payload[0] !== AF_INET6 && has(addressFlags.secondary),
    permanent: has(addressFlags.permanent),
    noPrefixRoute: has(addressFlags.noPrefixRoute),
  }
}

/** IFA_F_* of an address, for fakes: the reverse of what {@link decodeAddress} reads. */
export function encodeAddressFlags(address: { readonly [K in keyof typeof addressFlags]?: boolean }): number {
  let bits = 0
  for (const [name, bit] of Object.entries(addressFlags)) {
    if (address[name as keyof typeof addressFlags] === true) bits |= bit
  }
  return bits
}

/** Addresses of the links of one namespace. Throws NetlinkError. */
export class Addresses {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async list(filter: { link?: number; family?: IpFamily } = {}): Promise<LinkAddress[]> {
    const messages = await this.#socket.dump(listAddresses(filter))
    return messages
      .filter(({ type }) => type === RTM_NEWADDR)
      .map(({ payload }) => decodeAddress(payload))
      .filter(({ link }) => filter.link === undefined || link === filter.link)
  }

  /** Throws NetlinkError EEXIST when the link has the address, unless `replace`. */
  async add(address: AddAddress): Promise<void> {
    await this.#socket.request(addAddress(address))
  }

  /** Throws NetlinkError EADDRNOTAVAIL when the link does not have the address. */
  async delete(link: number, address: Cidr): Promise<void> {
    await this.#socket.request(deleteAddress(link, address))
  }
}

/** struct ifaddrmsg. Its 8 bits of flags are superseded by IFA_FLAGS. */
function addressHeader(address: Cidr, link: number, scope: number): Buffer {
  const header = Buffer.alloc(8)
  header[0] = addressFamilyNumbers[ipFamilyOf(address.address)]
  header[1] = address.prefix
  header[3] = scope
  header.writeUInt32LE(link, 4)
  return header
}
