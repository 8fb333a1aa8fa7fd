import { ipFromBytes, writeIp, type IpAddress } from '../net/ip-address.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'

/** A UDP datagram in an IPv4 packet. */
export interface UdpPacket {
  readonly source: IpAddress
  readonly destination: IpAddress
  readonly sourcePort: number
  readonly destinationPort: number
  readonly payload: Buffer
}

const IPPROTO_UDP = 17

/** RFC 791 and RFC 768, with both checksums. */
export function encodeUdpPacket(packet: UdpPacket): Buffer {
  const { payload } = packet
  const udpLength = 8 + payload.length
  const bytes = Buffer.alloc(20 + udpLength)
  bytes[0] = 0x45
  // CS6, network control (RFC 4594, 3.1), as other clients do.
  bytes[1] = 0xc0
  bytes.writeUInt16BE(bytes.length, 2)
  bytes[8] = 64
  bytes[9] = IPPROTO_UDP
  writeIp(packet.source, bytes, 12)
  writeIp(packet.destination, bytes, 16)
  bytes.writeUInt16BE(checksum(bytes.subarray(0, 20), 0), 10)
  bytes.writeUInt16BE(packet.sourcePort, 20)
  bytes.writeUInt16BE(packet.destinationPort, 22)
  bytes.writeUInt16BE(udpLength, 24)
  bytes.set(payload, 28)
  // The pseudo header: both addresses, protocol and length.
  const sum = checksum(bytes.subarray(12), IPPROTO_UDP + udpLength)
  bytes.writeUInt16BE(sum === 0 ? 0xffff : sum, 26)
  return bytes
}

/**
 * Throws {@link DhcpMessageError}. The checksum of UDP is not looked at: a sender on this very machine leaves it to
 * hardware that the packet never reaches (checksum offload).
 */
export function decodeUdpPacket(bytes: Buffer): UdpPacket {
  const headerLength = ((bytes[0] ?? 0) & 0xf) * 4
  if ((bytes[0] ?? 0) >> 4 !== 4 || headerLength < 20) throw new DhcpMessageError('not an IPv4 packet')
  if (bytes.length < headerLength + 8) throw new DhcpMessageError('the packet ends within its headers')
  if (checksum(bytes.subarray(0, headerLength), 0) !== 0) throw new DhcpMessageError('wrong IPv4 checksum')
  const length = bytes.readUInt16BE(2)
  if (length < headerLength + 8 || length > bytes.length) throw new DhcpMessageError('wrong IPv4 length')
  if (bytes[9] !== IPPROTO_UDP) throw new DhcpMessageError('not UDP')
  // More fragments, or not the first.
  if ((bytes.readUInt16BE(6) & 0x3fff) !== 0) throw new DhcpMessageError('a fragment')
  const udp = bytes.subarray(headerLength, length)
  const udpLength = udp.readUInt16BE(4)
  if (udpLength < 8 || udpLength > udp.length) throw new DhcpMessageError('wrong UDP length')
  return {
    source: ipFromBytes(bytes.subarray(12, 16)),
    destination: ipFromBytes(bytes.subarray(16, 20)),
    sourcePort: udp.readUInt16BE(0),
    destinationPort: udp.readUInt16BE(2),
    payload: udp.subarray(8, udpLength),
  }
}

/** RFC 1071. Over bytes that hold their own right checksum, it is 0. */
function checksum(bytes: Buffer, initial: number): number {
  let sum = initial
  for (let i = 0; i + 1 < bytes.length; i += 2) sum += bytes.readUInt16BE(i)
  if (bytes.length % 2 === 1) sum += bytes[bytes.length - 1]! << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
