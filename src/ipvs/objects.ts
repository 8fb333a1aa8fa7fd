import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/**
 * The schedulers of ipvsadm(8), each a kernel module `ip_vs_NAME`: the way in which a virtual server chooses among its real
 * servers. `twos` came with Linux 5.12; Debian 12 does not build it.
 */
export const schedulers = [
  'rr',
  'wrr',
  'lc',
  'wlc',
  'sed',
  'nq',
  'sh',
  'dh',
  'lblc',
  'lblcr',
  'mh',
  'fo',
  'ovf',
  'twos',
] as const

/** See {@link schedulers}. */
export type Scheduler = (typeof schedulers)[number]

/** What packets a virtual server takes: those to an address and port, or those with a mark. */
export type VirtualAddress =
  | { readonly ip: IpAddress; readonly port: Port; readonly protocol: Protocol }
  | { readonly mark: number; readonly family: IpFamily }

/** A virtual server (the kernel's "service"), without its real servers. */
export interface VirtualServer {
  readonly at: VirtualAddress
  /** A name that is not in {@link schedulers} may come from the kernel. */
  readonly scheduler: Scheduler | (string & {})
  /** Clients come back to the real server that they had. */
  readonly persistence?: Persistence
  /** sh, mh: a client whose server has the weight 0 gets another one instead of none. @default false */
  readonly fallback?: boolean
  /** sh, mh: the client's port counts, too. @default false */
  readonly hashPort?: boolean
  /** UDP: each datagram is scheduled on its own. @default false */
  readonly onePacket?: boolean
}

/** Persistence: how long a client's choice is kept after its last connection has ended, and whose clients count as one. */
export interface Persistence {
  readonly seconds: number
  /** Clients that share so many bits of their addresses are one. @default all bits */
  readonly prefix?: number
}

/** How packets get to a real server. */
export type Forwarding = 'masquerade' | 'tunnel' | 'route'

/** A real server (the kernel's "destination") of a virtual server. */
export interface RealServer {
  readonly ip: IpAddress
  /** Counts with `masquerade` only. 0: as the client asked for, where the virtual server is a mark. */
  readonly port: Port | 0
  /** 0: no new connections, except those that persistence brings. */
  readonly weight: number
  /** @default `masquerade` */
  readonly forwarding?: Forwarding
  /** From so many connections on it gets no more; 0: no limit. @default 0 */
  readonly upperThreshold?: number
  /** Below so many it gets connections again; 0: three quarters of the upper one. @default 0 */
  readonly lowerThreshold?: number
}

/** What the kernel tells about a real server. */
export interface RealServerState extends RealServer {
  readonly counts: ConnectionCounts
  readonly traffic: Traffic
}

/** Connections of one real server, by what they are. */
export interface ConnectionCounts {
  /** Established. */
  readonly active: number
  /** Being opened or closed; for UDP, all. */
  readonly inactive: number
  /** Clients that persistence remembers. */
  readonly persistent: number
}

/** Since the server was added (or zeroed). */
export interface Traffic {
  readonly connections: bigint
  readonly packetsIn: bigint
  readonly packetsOut: bigint
  readonly bytesIn: bigint
  readonly bytesOut: bigint
}

/** A virtual server and its real servers, as wanted. */
export interface VirtualServerWithReals extends VirtualServer {
  readonly reals: readonly RealServer[]
}

/** A virtual server and its real servers, as the kernel has them. */
export interface VirtualServerState extends VirtualServer {
  readonly reals: readonly RealServerState[]
  readonly traffic: Traffic
}

/** One change. The kernel has no transactions: each is done, or refused, by itself and in order. */
export type Command =
  | { readonly op: 'add-virtual' | 'set-virtual'; readonly virtual: VirtualServer }
  | { readonly op: 'delete-virtual'; readonly at: VirtualAddress }
  | { readonly op: 'add-real' | 'set-real'; readonly at: VirtualAddress; readonly real: RealServer }
  | { readonly op: 'delete-real'; readonly at: VirtualAddress; readonly real: Pick<RealServer, 'ip' | 'port'> }

/** How long the kernel keeps connections that say nothing, in seconds. 0 in a wish: as it is. */
export interface Timeouts {
  readonly tcp: number
  /** After a FIN. */
  readonly tcpFin: number
  readonly udp: number
}

/** Names a virtual server: no two have the same. `TCP 10.96.0.1:80`, `TCP [fd00::1]:80`, or `FWM 7 IPv4`. */
export type VirtualKey = string

/** See {@link VirtualKey}; the words are ipvsadm's. */
export function virtualKey(at: VirtualAddress): VirtualKey {
  if ('mark' in at) return `FWM ${at.mark} IPv${at.family}`
  return `${at.protocol.toUpperCase()} ${placeText(at)}`
}

/** Names a real server within its virtual server: `10.0.0.1:80`. */
export function realKey(real: Pick<RealServer, 'ip' | 'port'>): string {
  return placeText(real)
}

/** The family whose clients a virtual server takes. */
export function virtualFamily(at: VirtualAddress): IpFamily {
  return 'mark' in at ? at.family : ipFamilyOf(at.ip)
}

function placeText({ ip, port }: { readonly ip: IpAddress; readonly port: Port | 0 }): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
}
