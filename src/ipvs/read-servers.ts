import type { IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import { protocolFromNumber } from '../net/protocol.ts'
import { decodeAttributes, type AttributeValues } from '../netlink/attributes.ts'
import { familyFromNumber } from '../netlink/families.ts'
import { genericHeaderLength } from '../netlink/generic-netlink.ts'
import {
  commandAttributes,
  forwardingMask,
  forwardingNumbers,
  infoAttributes,
  serviceFlags,
  type serviceAttributes,
} from './ipvs-messages.ts'
import type { Forwarding, RealServerState, Timeouts, Traffic, VirtualAddress, VirtualServer } from './objects.ts'
import { ipFromUnion, prefixFromNetmask } from './requests.ts'

/** Reads an answer of the kernel as a virtual server; undefined for one that this library has no words for. */
export function readVirtual(payload: Buffer): (VirtualServer & { readonly traffic: Traffic }) | undefined {
  const { service } = decodeAttributes(commandAttributes, payload.subarray(genericHeaderLength))
  const family = familyFromNumber(service?.addressFamily ?? 0)
  if (!service || family === undefined) return undefined
  const at = readAddress(service, family)
  if (!at) return undefined
  const bits = service.flags ? Buffer.from(service.flags).readUInt32LE() : 0
  const prefix = service.netmask && prefixFromNetmask(service.netmask, family)
  const isWhole = prefix === undefined || prefix === (family === 4 ? 32 : 128)
  const persistence = { seconds: service.timeout ?? 0, ...(!isWhole && { prefix }) }
  return {
    at,
    scheduler: service.scheduler ?? '',
    ...(bits & serviceFlags.persistent && { persistence }),
    ...(bits & serviceFlags.fallback && { fallback: true }),
    ...(bits & serviceFlags.hashPort && { hashPort: true }),
    ...(bits & serviceFlags.onePacket && { onePacket: true }),
    traffic: readTraffic(service.stats64),
  }
}

/** Reads an answer of the kernel as a real server of a virtual server of this family; undefined for another kind of answer. */
export function readReal(payload: Buffer, virtualFamily: IpFamily): RealServerState | undefined {
  const { dest } = decodeAttributes(commandAttributes, payload.subarray(genericHeaderLength))
  if (!dest?.address) return undefined
  const family = familyFromNumber(dest.addressFamily ?? 0) ?? virtualFamily
  const forwarding = forwardingOf(dest.forwarding ?? 0)
  return {
    ip: ipFromUnion(dest.address, family),
    port: (dest.port ?? 0) as Port,
    weight: dest.weight ?? 0,
    ...(forwarding !== 'masquerade' && { forwarding }),
    ...(dest.upperThreshold && { upperThreshold: dest.upperThreshold }),
    ...(dest.lowerThreshold && { lowerThreshold: dest.lowerThreshold }),
    counts: { active: dest.active ?? 0, inactive: dest.inactive ?? 0, persistent: dest.persistent ?? 0 },
    traffic: readTraffic(dest.stats64),
  }
}

/** Reads the answer to {@link getTimeouts}. */
export function readTimeouts(payload: Buffer): Timeouts {
  const values = decodeAttributes(commandAttributes, payload.subarray(genericHeaderLength))
  return { tcp: values.timeoutTcp ?? 0, tcpFin: values.timeoutTcpFin ?? 0, udp: values.timeoutUdp ?? 0 }
}

/** Reads the answer to {@link getInfo}: the version as `1.2.1`. */
export function readInfo(payload: Buffer): { readonly version: string; readonly connectionTableSize: number } {
  const values = decodeAttributes(infoAttributes, payload.subarray(genericHeaderLength))
  const { version = 0, connectionTableSize = 0 } = values
  return { version: [version >> 16, (version >> 8) & 0xff, version & 0xff].join('.'), connectionTableSize }
}

type ServiceAnswer = AttributeValues<typeof serviceAttributes>

function readAddress(service: ServiceAnswer, family: IpFamily): VirtualAddress | undefined {
  if (service.mark !== undefined) return { mark: service.mark, family }
  const protocol = protocolFromNumber(service.protocol ?? 0)
  if (!protocol || !service.address || service.port === undefined) return undefined
  return { ip: ipFromUnion(service.address, family), port: service.port as Port, protocol }
}

/** A real server that is an address of this machine reads as what was asked for: the kernel keeps that apart. */
function forwardingOf(method: number): Forwarding {
  switch (method & forwardingMask) {
    case forwardingNumbers.tunnel:
      return 'tunnel'
    case forwardingNumbers.route:
      return 'route'
    default:
      return 'masquerade'
  }
}

function readTraffic(stats: ServiceAnswer['stats64']): Traffic {
  const { connections = 0n, packetsIn = 0n, packetsOut = 0n, bytesIn = 0n, bytesOut = 0n } = stats ?? {}
  return { connections, packetsIn, packetsOut, bytesIn, bytesOut }
}
