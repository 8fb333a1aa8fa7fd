import type { MacAddress } from '../net/mac-address.ts'
import { macFromBytes } from '../net/mac-address.ts'
import { decodeAttributes, encodeAttributes, type AttributeTable, type AttributeValues } from '../netlink/attributes.ts'

/** include/uapi/linux/rtnetlink.h */
export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18

/** include/uapi/linux/if.h */
export const IFF_UP = 0x1
export const IFF_LOOPBACK = 0x8
export const IFF_LOWER_UP = 0x1_0000

/** enum IFLA_BR_*: IFLA_INFO_DATA of a bridge. */
export const bridgeAttributes = {
  stpState: { id: 5, type: 'u32' },
  multicastSnooping: { id: 23, type: 'u8' },
  nfCallIptables: { id: 36, type: 'u8' },
  nfCallIp6tables: { id: 37, type: 'u8' },
} as const satisfies AttributeTable

/** enum IFLA_BRPORT_*: IFLA_INFO_SLAVE_DATA of a bridge port. */
export const bridgePortAttributes = {
  state: { id: 1, type: 'u8' },
  hairpin: { id: 4, type: 'u8' },
  learning: { id: 8, type: 'u8' },
  isolated: { id: 33, type: 'u8' },
} as const satisfies AttributeTable

/** enum VETH_INFO_*: IFLA_INFO_DATA of a veth. The peer is a struct ifinfomsg and IFLA_* attributes behind it. */
export const vethAttributes = {
  peer: { id: 1, type: 'bytes' },
} as const satisfies AttributeTable

/** enum IFLA_INFO_*. What `data` and `slaveData` hold depends on the kinds. */
const linkInfoAttributes = {
  kind: { id: 1, type: 'string' },
  data: { id: 2, type: 'bytes' },
  slaveKind: { id: 4, type: 'string' },
  slaveData: { id: 5, type: 'bytes' },
} as const satisfies AttributeTable

/** enum IFLA_* of include/uapi/linux/if_link.h. */
export const linkAttributes = {
  address: { id: 1, type: 'bytes' },
  name: { id: 3, type: 'string' },
  mtu: { id: 4, type: 'u32' },
  link: { id: 5, type: 'u32' },
  master: { id: 10, type: 'u32' },
  operstate: { id: 16, type: 'u8' },
  info: { id: 18, type: 'nest', of: linkInfoAttributes },
  alias: { id: 20, type: 'string' },
  group: { id: 27, type: 'u32' },
  netnsFd: { id: 28, type: 'u32' },
  extensionMask: { id: 29, type: 'u32' },
  linkNetnsId: { id: 37, type: 's32' },
} as const satisfies AttributeTable

/** Attributes of a link by name, as {@link linkAttributes} says. */
export type LinkAttributes = AttributeValues<typeof linkAttributes>

/** RFC 2863 operational states, in the kernel's order (include/uapi/linux/if.h). */
export const operstates = ['unknown', 'not-present', 'down', 'lower-layer-down', 'testing', 'dormant', 'up'] as const

export type Operstate = (typeof operstates)[number]

/** What a bridge does with one of its ports. */
export interface BridgePortOptions {
  /** Isolated ports do not talk to each other, only to the others and to the bridge itself. */
  readonly isolated?: boolean
  /** Frames may leave by the port that they came from. */
  readonly hairpin?: boolean
  readonly learning?: boolean
}

/** A network interface as the kernel describes it. */
export interface Link {
  readonly index: number
  readonly name: string
  /** `bridge`, `veth`, ...; undefined for loopback and physical links. */
  readonly kind: string | undefined
  readonly loopback: boolean
  /** Undefined where there is none of 6 bytes (tunnels). */
  readonly mac: MacAddress | undefined
  readonly mtu: number
  /** Index of the bridge (or bond...) that this is a port of. */
  readonly master: number | undefined
  /** Switched on by the administrator. */
  readonly up: boolean
  /** Has a carrier: the other side is up too. */
  readonly carrier: boolean
  readonly operstate: Operstate
  readonly group: number
  readonly alias: string | undefined
  /** Of a veth: its peer's index, in the peer's namespace. */
  readonly peerIndex: number | undefined
  /** Of a veth: this namespace's id for the peer's, when that is another one. */
  readonly peerNetnsId: number | undefined
  /** Of a bridge port. */
  readonly port: Required<BridgePortOptions> | undefined
  /** Of a bridge. */
  readonly bridge: { readonly multicastSnooping: boolean } | undefined
}

/** Encodes struct ifinfomsg; `change` says which bits of `flags` to take. */
export function linkHeader(fields: { family?: number; index?: number; flags?: number; change?: number } = {}): Buffer {
  const { family = 0, index = 0, flags = 0, change = 0 } = fields
  const header = Buffer.alloc(16)
  header.writeUInt8(family, 0)
  header.writeInt32LE(index, 4)
  header.writeUInt32LE(flags, 8)
  header.writeUInt32LE(change, 12)
  return header
}

/** struct ifinfomsg and attributes, as all RTM_*LINK messages are. */
export function linkPayload(header: Parameters<typeof linkHeader>[0], attributes: LinkAttributes): Buffer {
  return Buffer.concat([linkHeader(header), encodeAttributes(linkAttributes, attributes)])
}

/** Reads an RTM_NEWLINK or RTM_DELLINK payload. */
export function decodeLink(payload: Buffer): Link {
  const attributes = decodeAttributes(linkAttributes, payload.subarray(16))
  const flags = payload.readUInt32LE(8)
  const { kind, data, slaveKind, slaveData } = attributes.info ?? {}
  const isVeth = kind === 'veth'
  return {
    index: payload.readInt32LE(4),
    name: attributes.name ?? '',
    kind,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    mac: attributes.address?.length === 6 ? macFromBytes(attributes.address) : undefined,
    mtu: attributes.mtu ?? 0,
    master: attributes.master,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    operstate: operstates[attributes.operstate ?? 0] ?? 'unknown',
    group: attributes.group ?? 0,
    alias: attributes.alias,
    peerIndex: isVeth ? attributes.link : undefined,
    peerNetnsId: isVeth ? attributes.linkNetnsId : undefined,
    port: slaveKind === 'bridge' && slaveData ? decodePort(slaveData) : undefined,
    bridge: kind === 'bridge' && data ? decodeBridge(data) : undefined,
  }
}

function decodePort(data: Uint8Array): Required<BridgePortOptions> {
  const { isolated, hairpin, learning } = decodeAttributes(bridgePortAttributes, data)
  return { isolated: isolated === 1, hairpin: hairpin === 1, learning: learning === 1 }
}

function decodeBridge(data: Uint8Array): { multicastSnooping: boolean } {
  const { multicastSnooping } = decodeAttributes(bridgeAttributes, data)
  // A kernel without IGMP snooping does not send the attribute.
  return { multicastSnooping: multicastSnooping === 1 }
}
