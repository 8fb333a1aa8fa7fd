import { ipFromBytes, writeIp, type IpAddress } from '../net/ip-address.ts'
import { macFromBytes, macToBytes, type MacAddress } from '../net/mac-address.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'
import { anyAddress } from './message.ts'

/** ARP for IPv4 on Ethernet (RFC 826), as far as it tells who uses an address. */
export interface ArpPacket {
  readonly kind: 'request' | 'reply'
  readonly senderMac: MacAddress
  /** `0.0.0.0` in a probe (RFC 5227): it asks without claiming. */
  readonly senderIp: IpAddress
  readonly targetIp: IpAddress
}

/** Asks whether somebody has an address (RFC 5227, 2.1.1). */
export function arpProbe(mac: MacAddress, address: IpAddress): Buffer {
  return encodeArp({ kind: 'request', senderMac: mac, senderIp: anyAddress, targetIp: address })
}

export function encodeArp(packet: ArpPacket): Buffer {
  const bytes = Buffer.alloc(28)
  // Ethernet, IPv4, and the lengths of their addresses.
  bytes.set([0, 1, 8, 0, 6, 4, 0, packet.kind === 'request' ? 1 : 2])
  bytes.set(macToBytes(packet.senderMac), 8)
  writeIp(packet.senderIp, bytes, 14)
  writeIp(packet.targetIp, bytes, 24)
  return bytes
}

/** Throws {@link DhcpMessageError}. */
export function decodeArp(bytes: Buffer): ArpPacket {
  const operation = bytes[7]
  const isArp = bytes.length >= 28 && bytes.subarray(0, 7).equals(Buffer.from([0, 1, 8, 0, 6, 4, 0]))
  if (!isArp || (operation !== 1 && operation !== 2)) throw new DhcpMessageError('not ARP for IPv4 on Ethernet')
  return {
    kind: operation === 1 ? 'request' : 'reply',
    senderMac: macFromBytes(bytes.subarray(8, 14)),
    senderIp: ipFromBytes(bytes.subarray(14, 18)),
    targetIp: ipFromBytes(bytes.subarray(24, 28)),
  }
}

/** Whether a packet shows that another one has an address, or is about to take it (RFC 5227, 2.1.1). */
export function showsConflict(
  packet: ArpPacket,
  own: { readonly address: IpAddress; readonly mac: MacAddress },
): boolean {
  if (packet.senderMac === own.mac) return false
  const isOthersProbe = packet.kind === 'request' && packet.senderIp === anyAddress && packet.targetIp === own.address
  return packet.senderIp === own.address || isOthersProbe
}
