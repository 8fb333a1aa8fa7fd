import { decodeAttributes, encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { AttributeWriter } from '../netlink/attribute-writer.ts'
import { addressFamilyNumbers } from '../netlink/families.ts'
import { isNotFound } from '../netlink/netlink-error.ts'
import { openNetlink, type NetlinkRequest, type NetlinkSocket } from '../netlink/netlink-socket.ts'
import type { TransportOptions } from '../netlink/transport.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'

/** A named set of addresses that rules can match on (`-m set --match-set NAME dst`): ipset(8)'s `hash:ip`. */
export interface AddressSet {
  /** At most 31 characters. */
  readonly name: string
  readonly family: IpFamily
}

/** The ip_set sets of one network namespace: the kernel's, or the fake's (`fake-ip-sets.ts`). */
export interface IpSets extends Disposable {
  /** The set's addresses; undefined when there is no such set. Throws NetlinkError. */
  read(name: string): Promise<ReadonlySet<IpAddress> | undefined>
  /** How many addresses the set has, without reading them; undefined when there is no such set. */
  size(name: string): Promise<number | undefined>
  /** Makes an empty set; one that exists stays as it is. */
  create(set: AddressSet): Promise<void>
  add(set: AddressSet, addresses: Iterable<IpAddress>): Promise<void>
  /** Addresses that are not in it are passed over. */
  remove(set: AddressSet, addresses: Iterable<IpAddress>): Promise<void>
  /** A set that rules name cannot go (EBUSY, as 4098 of its own). One that is not there is no error. */
  destroy(name: string): Promise<void>
}

/* include/uapi/linux/netfilter/nfnetlink.h, include/uapi/linux/netfilter/ipset/ip_set.h */
const NETLINK_NETFILTER = 12
const NFNL_SUBSYS_IPSET = 6
const commands = { create: 2, destroy: 3, list: 7, add: 9, delete: 10 } as const
/** IPSET_PROTOCOL_MIN: kernels since 2.6.39 know it. */
const protocolVersion = 6
const NLM_F_CREATE = 0x400
/** Numbers in network order must say so. */
const NLA_F_NET_BYTEORDER = 0x4000
/** More than any cluster has Services. */
const maxElements = 1 << 20
/** An attribute holds 64 KiB; an address takes at most 40 bytes. */
const addressesInMessage = 1500

const addressAttributes = {
  4: { address: { id: 1 | NLA_F_NET_BYTEORDER, type: 'ip' } },
  6: { address: { id: 2 | NLA_F_NET_BYTEORDER, type: 'ip' } },
} as const satisfies Record<IpFamily, AttributeTable>

/** As the kernel writes them: the id without its flags. */
const addressAnswer = { v4: { id: 1, type: 'ip' }, v6: { id: 2, type: 'ip' } } as const satisfies AttributeTable

const setAttributes = {
  protocol: { id: 1, type: 'u8' },
  name: { id: 2, type: 'string' },
  typeName: { id: 3, type: 'string' },
  revision: { id: 4, type: 'u8' },
  family: { id: 5, type: 'u8' },
  flags: { id: 6 | NLA_F_NET_BYTEORDER, type: 'u32be' },
  options: { id: 7, type: 'nest', of: { maxElements: { id: 19 | NLA_F_NET_BYTEORDER, type: 'u32be' } } },
} as const satisfies AttributeTable

const listedAttributes = {
  elements: { id: 8, type: 'list', child: 7, of: { ip: { id: 1, type: 'nest', of: addressAnswer } } },
} as const satisfies AttributeTable

/** IPSET_FLAG_LIST_HEADER: a set without its elements. */
const headerOnly = 1 << 2

const headerAttributes = {
  header: { id: 7, type: 'nest', of: { elements: { id: 24, type: 'u32be' } } },
} as const satisfies AttributeTable

/** Opens ip_set of this thread's namespace, or of `netns`. Whether the kernel has it shows at the first request. */
export function openIpSets(options: Pick<TransportOptions, 'netns'> = {}): IpSets {
  return new IpSetsClient(openNetlink({ ...options, protocol: NETLINK_NETFILTER }))
}

/** {@link IpSets} over a socket of NETLINK_NETFILTER, which it owns. */
export class IpSetsClient implements IpSets {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async read(name: string): Promise<ReadonlySet<IpAddress> | undefined> {
    try {
      const messages = await this.#socket.dump(request('list', name, encode({ name })))
      const found = new Set<IpAddress>()
      for (const { payload } of messages) {
        for (const { ip } of decodeAttributes(listedAttributes, payload.subarray(4)).elements ?? []) {
          const address = ip?.v4 ?? ip?.v6
          if (address !== undefined) found.add(address)
        }
      }
      return found
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  async size(name: string): Promise<number | undefined> {
    try {
      const messages = await this.#socket.dump(request('list', name, encode({ name, flags: headerOnly })))
      const [first] = messages
      return first && decodeAttributes(headerAttributes, first.payload.subarray(4)).header?.elements
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  async create({ name, family }: AddressSet): Promise<void> {
    const values = { name, typeName: 'hash:ip', revision: 0, family: addressFamilyNumbers[family] }
    const payload = encode({ ...values, options: { maxElements } })
    await this.#socket.request({ ...request('create', name, payload), flags: NLM_F_CREATE })
  }

  async add(set: AddressSet, addresses: Iterable<IpAddress>): Promise<void> {
    await this.#change('add', set, addresses)
  }

  async remove(set: AddressSet, addresses: Iterable<IpAddress>): Promise<void> {
    await this.#change('delete', set, addresses)
  }

  async destroy(name: string): Promise<void> {
    try {
      await this.#socket.request(request('destroy', name, encode({ name })))
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
  }

  async #change(command: 'add' | 'delete', set: AddressSet, addresses: Iterable<IpAddress>): Promise<void> {
    const all = [...addresses]
    for (let start = 0; start < all.length; start += addressesInMessage) {
      const payload = encodeElements(set, all.slice(start, start + addressesInMessage))
      // Without NLM_F_EXCL what is there already (or not there any more) is no error.
      await this.#socket.request(request(command, set.name, payload))
    }
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]()
  }
}

function request(command: keyof typeof commands, name: string, payload: Uint8Array): NetlinkRequest {
  return { name: `${command} ipset ${name}`, type: (NFNL_SUBSYS_IPSET << 8) | commands[command], payload }
}

function encode(values: Parameters<typeof encodeAttributes<typeof setAttributes>>[1]): Uint8Array {
  return Buffer.concat([header, encodeAttributes(setAttributes, { protocol: protocolVersion, ...values })])
}

/** IPSET_ATTR_ADT: a list of elements, each with its line number, as if it came from a file. */
function encodeElements({ name, family }: AddressSet, addresses: readonly IpAddress[]): Uint8Array {
  const [ADT, DATA, IP, LINENO] = [8, 7, 1, 9]
  const writer = new AttributeWriter(64 + addresses.length * 40)
  writer.raw(encode({ name }))
  const list = writer.beginNest(ADT)
  for (const address of addresses) {
    const element = writer.beginNest(DATA)
    const ip = writer.beginNest(IP)
    writer.raw(encodeAttributes(addressAttributes[family], { address }))
    writer.endNest(ip)
    writer.endNest(element)
  }
  writer.endNest(list)
  writer.u32(LINENO, 0)
  return writer.bytes()
}

/** struct nfgenmsg: AF_INET, NFNETLINK_V0, no resource. */
const header = Buffer.from([2, 0, 0, 0])
