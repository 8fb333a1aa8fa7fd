import type { AttributeTable } from '../netlink/attributes.ts'

/* include/uapi/linux/ip_vs.h */

/** The generic netlink family, and the version of its messages. */
export const ipvsFamily = { name: 'IPVS', version: 1 } as const

/** IPVS_CMD_* */
export const commandNumbers = {
  newService: 1,
  setService: 2,
  deleteService: 3,
  getService: 4,
  newDest: 5,
  setDest: 6,
  deleteDest: 7,
  getDest: 8,
  setConfig: 12,
  getConfig: 13,
  getInfo: 15,
  flush: 17,
} as const

/** IP_VS_SVC_F_*: bits of {@link serviceAttributes}.flags. */
export const serviceFlags = { persistent: 0x1, hashed: 0x2, onePacket: 0x4, fallback: 0x8, hashPort: 0x10 } as const

/** IP_VS_CONN_F_FWD_MASK and its values. A real server that is an address of this machine becomes `local`. */
export const forwardingNumbers = { masquerade: 0, local: 1, tunnel: 2, route: 3, bypass: 4 } as const

/** The part of a real server's method that says how packets are forwarded. */
export const forwardingMask = 0x7

/** IPVS_STATS_ATTR_*, with 64 bits each. */
const statsAttributes = {
  connections: { id: 1, type: 'u64' },
  packetsIn: { id: 2, type: 'u64' },
  packetsOut: { id: 3, type: 'u64' },
  bytesIn: { id: 4, type: 'u64' },
  bytesOut: { id: 5, type: 'u64' },
} as const satisfies AttributeTable

/** IPVS_SVC_ATTR_*. Addresses are unions of 16 bytes, of which IPv4 has the first four. */
export const serviceAttributes = {
  addressFamily: { id: 1, type: 'u16' },
  mark: { id: 5, type: 'u32' },
  protocol: { id: 2, type: 'u16' },
  address: { id: 3, type: 'bytes' },
  port: { id: 4, type: 'u16be' },
  scheduler: { id: 6, type: 'string' },
  /** struct ip_vs_flags: the flags, and a mask of those that are said. */
  flags: { id: 7, type: 'bytes' },
  timeout: { id: 8, type: 'u32' },
  /** IPv4: the mask's bytes in network order; IPv6: a prefix length in host order. */
  netmask: { id: 9, type: 'bytes' },
  stats64: { id: 12, type: 'nest', of: statsAttributes },
} as const satisfies AttributeTable

/** IPVS_DEST_ATTR_* */
export const destAttributes = {
  addressFamily: { id: 11, type: 'u16' },
  address: { id: 1, type: 'bytes' },
  port: { id: 2, type: 'u16be' },
  forwarding: { id: 3, type: 'u32' },
  weight: { id: 4, type: 'u32' },
  upperThreshold: { id: 5, type: 'u32' },
  lowerThreshold: { id: 6, type: 'u32' },
  active: { id: 7, type: 'u32' },
  inactive: { id: 8, type: 'u32' },
  persistent: { id: 9, type: 'u32' },
  stats64: { id: 12, type: 'nest', of: statsAttributes },
} as const satisfies AttributeTable

/** IPVS_CMD_ATTR_* */
export const commandAttributes = {
  service: { id: 1, type: 'nest', of: serviceAttributes },
  dest: { id: 2, type: 'nest', of: destAttributes },
  timeoutTcp: { id: 4, type: 'u32' },
  timeoutTcpFin: { id: 5, type: 'u32' },
  timeoutUdp: { id: 6, type: 'u32' },
} as const satisfies AttributeTable

/** IPVS_INFO_ATTR_* */
export const infoAttributes = {
  version: { id: 1, type: 'u32' },
  connectionTableSize: { id: 2, type: 'u32' },
} as const satisfies AttributeTable
