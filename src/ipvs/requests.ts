import { ipFamilyOf, ipFromBytes, writeIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import { encodeAttributes, type AttributeValues } from '../netlink/attributes.ts'
import { addressFamilyNumbers } from '../netlink/families.ts'
import { genericHeader } from '../netlink/generic-netlink.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'
import {
  commandAttributes,
  commandNumbers,
  forwardingNumbers,
  ipvsFamily,
  serviceFlags,
  type destAttributes,
  type serviceAttributes,
} from './ipvs-messages.ts'
import {
  realKey,
  virtualFamily,
  virtualKey,
  type Command,
  type RealServer,
  type Timeouts,
  type VirtualAddress,
  type VirtualServer,
} from './objects.ts'

/** A request without its type, the family's number, which every kernel gives anew. */
export type IpvsRequest = Omit<NetlinkRequest, 'type'>

type ServiceValues = AttributeValues<typeof serviceAttributes>
type DestValues = AttributeValues<typeof destAttributes>

/** The request for one change. */
export function commandRequest(command: Command): IpvsRequest {
  switch (command.op) {
    case 'add-virtual':
      return request('add', 'newService', { service: virtualValues(command.virtual) }, command.virtual.at)
    case 'set-virtual':
      return request('set', 'setService', { service: virtualValues(command.virtual) }, command.virtual.at)
    case 'delete-virtual':
      return request('delete', 'deleteService', { service: addressValues(command.at) }, command.at)
    case 'add-real':
    case 'set-real': {
      const { at, real, op } = command
      const values = { service: addressValues(at), dest: realValues(real) }
      return request(op === 'add-real' ? 'add' : 'set', op === 'add-real' ? 'newDest' : 'setDest', values, at, real)
    }
    case 'delete-real': {
      const { at, real } = command
      return request('delete', 'deleteDest', { service: addressValues(at), dest: placeValues(real) }, at, real)
    }
    default:
      return command satisfies never
  }
}

/** Lists all virtual servers: a dump. */
export function listVirtuals(): IpvsRequest {
  return { name: 'list virtual servers', payload: payload('getService', {}) }
}

/** Lists the real servers of one virtual server: a dump, empty when there is no such virtual server. */
export function listReals(at: VirtualAddress): IpvsRequest {
  const name = `list real servers of ${virtualKey(at)}`
  return { name, payload: payload('getDest', { service: addressValues(at) }) }
}

/** Sets all three timeouts; 0 leaves one as it is. */
export function setTimeouts({ tcp, tcpFin, udp }: Timeouts): IpvsRequest {
  const values = { timeoutTcp: tcp, timeoutTcpFin: tcpFin, timeoutUdp: udp }
  return { name: 'set timeouts of IPVS', payload: payload('setConfig', values) }
}

/** Asks for the timeouts. */
export function getTimeouts(): IpvsRequest {
  return { name: 'get timeouts of IPVS', payload: payload('getConfig', {}) }
}

/** Asks for the version, and the size of the connection table. */
export function getInfo(): IpvsRequest {
  return { name: 'get version of IPVS', payload: payload('getInfo', {}) }
}

/** Deletes everything. */
export function flushAll(): IpvsRequest {
  return { name: 'delete all virtual servers', payload: payload('flush', {}) }
}

/** An address as the kernel's union nf_inet_addr: 16 bytes, IPv4 in the first four. */
export function unionBytes(ip: IpAddress): Uint8Array {
  const bytes = new Uint8Array(16)
  writeIp(ip, bytes, 0)
  return bytes
}

/** The other way round; the union does not say which family it is of. */
export function ipFromUnion(bytes: Uint8Array, family: IpFamily): IpAddress {
  return ipFromBytes(bytes.subarray(0, family === 4 ? 4 : 16))
}

/** See {@link serviceAttributes}.netmask. */
export function netmaskBytes(prefix: number, family: IpFamily): Uint8Array {
  const bytes = Buffer.alloc(4)
  if (family === 6) bytes.writeUInt32LE(prefix)
  else bytes.writeUInt32BE(prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0)
  return bytes
}

/** The other way round. */
export function prefixFromNetmask(bytes: Uint8Array, family: IpFamily): number {
  const buffer = Buffer.from(bytes)
  // Ones come first in a mask, so what is inverted has as many leading zeros.
  return family === 6 ? buffer.readUInt32LE() : Math.clz32(~buffer.readUInt32BE())
}

function request(
  verb: string,
  command: keyof typeof commandNumbers,
  values: AttributeValues<typeof commandAttributes>,
  at: VirtualAddress,
  real?: Pick<RealServer, 'ip' | 'port'>,
): IpvsRequest {
  const what = real ? `real server ${realKey(real)} of ${virtualKey(at)}` : `virtual server ${virtualKey(at)}`
  return { name: `${verb} ${what}`, payload: payload(command, values) }
}

function payload(command: keyof typeof commandNumbers, values: AttributeValues<typeof commandAttributes>): Uint8Array {
  const header = genericHeader(commandNumbers[command], ipvsFamily.version)
  return Buffer.concat([header, encodeAttributes(commandAttributes, values)])
}

function addressValues(at: VirtualAddress): ServiceValues {
  const addressFamily = addressFamilyNumbers[virtualFamily(at)]
  if ('mark' in at) return { addressFamily, mark: at.mark }
  return { addressFamily, protocol: protocolNumbers[at.protocol], address: unionBytes(at.ip), port: at.port }
}

/** The kernel wants all of it, also for what is not persistent (ip_vs_genl_parse_service). */
function virtualValues({ at, scheduler, ...options }: VirtualServer): ServiceValues {
  const { persistence, fallback = false, hashPort = false, onePacket = false } = options
  const family = virtualFamily(at)
  const bits =
    (persistence ? serviceFlags.persistent : 0) |
    (fallback ? serviceFlags.fallback : 0) |
    (hashPort ? serviceFlags.hashPort : 0) |
    (onePacket ? serviceFlags.onePacket : 0)
  const flags = Buffer.alloc(8)
  flags.writeUInt32LE(bits)
  flags.writeUInt32LE(0xffff_ffff, 4)
  const netmask = netmaskBytes(persistence?.prefix ?? (family === 4 ? 32 : 128), family)
  return { ...addressValues(at), scheduler, flags, timeout: persistence?.seconds ?? 0, netmask }
}

function placeValues({ ip, port }: Pick<RealServer, 'ip' | 'port'>): DestValues {
  return { addressFamily: addressFamilyNumbers[ipFamilyOf(ip)], address: unionBytes(ip), port }
}

function realValues(real: RealServer): DestValues {
  const { weight, forwarding = 'masquerade', upperThreshold = 0, lowerThreshold = 0 } = real
  return { ...placeValues(real), forwarding: forwardingNumbers[forwarding], weight, upperThreshold, lowerThreshold }
}
