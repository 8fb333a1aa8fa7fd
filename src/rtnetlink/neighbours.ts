import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { macFromBytes, macToBytes, type MacAddress } from '../net/mac-address.ts'
import { decodeAttributes, encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { addressFamilyNumbers, familyFromNumber } from '../netlink/families.ts'
import { NLM_F_CREATE, NLM_F_REPLACE } from '../netlink/message.ts'
import type { NetlinkRequest, NetlinkSocket } from '../netlink/netlink-socket.ts'

/** include/uapi/linux/rtnetlink.h */
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30

/** enum NDA_* of include/uapi/linux/neighbour.h. */
export const neighbourAttributes = {
  destination: { id: 1, type: 'ip' },
  linkLayerAddress: { id: 2, type: 'bytes' },
} as const satisfies AttributeTable

/** NUD_* of include/uapi/linux/neighbour.h. */
const neighbourStates = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
} as const

export type NeighbourState = keyof typeof neighbourStates

/** An entry of the ARP or IPv6 neighbour table. */
export interface Neighbour {
  /** Index of the link. */
  readonly link: number
  readonly address: IpAddress
  /** Undefined while it is being asked for. */
  readonly mac: MacAddress | undefined
  readonly state: NeighbourState
}

export interface ReplaceNeighbour {
  readonly link: number
  readonly address: IpAddress
  readonly mac: MacAddress
  /** Default permanent: never asked for again. `reachable` and `stale` entries age as learnt ones do. */
  readonly state?: 'permanent' | 'reachable' | 'stale'
}

/** Builds RTM_NEWNEIGH that overwrites what is there. */
export function replaceNeighbour(neighbour: ReplaceNeighbour): NetlinkRequest {
  const { link, address, mac, state = 'permanent' } = neighbour
  return {
    name: `set neighbour ${address} (${mac}) on link ${link}`,
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    payload: Buffer.concat([
      neighbourHeader(ipFamilyOf(address), link, neighbourStates[state]),
      encodeAttributes(neighbourAttributes, { destination: address, linkLayerAddress: macToBytes(mac) }),
    ]),
  }
}

/** Builds RTM_DELNEIGH. The kernel answers ENOENT when there is none. */
export function deleteNeighbour(link: number, address: IpAddress): NetlinkRequest {
  return {
    name: `delete neighbour ${address} on link ${link}`,
    type: RTM_DELNEIGH,
    payload: Buffer.concat([
      neighbourHeader(ipFamilyOf(address), link, 0),
      encodeAttributes(neighbourAttributes, { destination: address }),
    ]),
  }
}

/** A dump of one family's table. */
export function listNeighbours(family: IpFamily): NetlinkRequest {
  return { name: 'list neighbours', type: RTM_GETNEIGH, payload: neighbourHeader(family, 0, 0) }
}

/** Reads an RTM_NEWNEIGH payload; undefined when it is not IP (a bridge's forwarding entry, say). */
export function decodeNeighbour(payload: Buffer): Neighbour | undefined {
  if (familyFromNumber(payload[0] ?? 0) === undefined) return undefined
  const { destination, linkLayerAddress } = decodeAttributes(neighbourAttributes, payload.subarray(12))
  if (destination === undefined) return undefined
  const state = payload.readUInt16LE(8)
  const name = Object.entries(neighbourStates).find(([, number]) => number === state)?.[0]
  return {
    link: payload.readInt32LE(4),
    address: destination,
    mac: linkLayerAddress?.length === 6 ? macFromBytes(linkLayerAddress) : undefined,
    state: (name as NeighbourState | undefined) ?? 'none',
  }
}

/** ARP and IPv6 neighbour entries of one namespace. Throws NetlinkError. */
export class Neighbours {
  readonly #socket: NetlinkSocket

  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async list(filter: { link?: number; family?: IpFamily } = {}): Promise<Neighbour[]> {
    const families: IpFamily[] = filter.family === undefined ? [4, 6] : [filter.family]
    const dumps = await Promise.all(families.map((family) => this.#socket.dump(listNeighbours(family))))
    return dumps
      .flat()
      .filter(({ type }) => type === RTM_NEWNEIGH)
      .map(({ payload }) => decodeNeighbour(payload))
      .filter((neighbour) => neighbour !== undefined)
      .filter(({ link }) => filter.link === undefined || link === filter.link)
  }

  async replace(neighbour: ReplaceNeighbour): Promise<void> {
    await this.#socket.request(replaceNeighbour(neighbour))
  }

  /** Throws NetlinkError ENOENT when there is none. */
  async delete(link: number, address: IpAddress): Promise<void> {
    await this.#socket.request(deleteNeighbour(link, address))
  }
}

/** struct ndmsg */
function neighbourHeader(family: IpFamily, link: number, state: number): Buffer {
  const header = Buffer.alloc(12)
  header[0] = addressFamilyNumbers[family]
  header.writeInt32LE(link, 4)
  header.writeUInt16LE(state, 8)
  return header
}
