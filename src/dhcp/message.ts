import { ipFromBytes, parseIp, writeIp, type IpAddress } from '../net/ip-address.ts'
import { macFromBytes, macToBytes, type MacAddress } from '../net/mac-address.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'
import { decodeOptions, encodeOptions, type DhcpOptions } from './options.ts'

/** RFC 2132, 9.6, in the order of its numbers, which begin with 1. */
export const dhcpMessageTypes = ['discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform'] as const

export type DhcpMessageType = (typeof dhcpMessageTypes)[number]

/** A message of RFC 2131 on Ethernet. Addresses that are not known are `0.0.0.0`. */
export interface DhcpMessage {
  /** What it is (option 53); says also who sends it: offers, acks and naks come from servers. */
  readonly type: DhcpMessageType
  /** 32 bits that a client picks, and finds in the answers. */
  readonly xid: number
  /** Seconds since the client began. */
  readonly secs: number
  /** Whether answers must come as broadcasts. */
  readonly broadcast: boolean
  /** The client's address, if it has one and answers for it. */
  readonly ciaddr: IpAddress
  /** The address that the client may have. */
  readonly yiaddr: IpAddress
  /** The next server of a boot process; not the DHCP server. */
  readonly siaddr: IpAddress
  /** The relay agent. */
  readonly giaddr: IpAddress
  /** The client's hardware address. */
  readonly chaddr: MacAddress
  readonly options: Omit<DhcpOptions, 'messageType'>
}

export const anyAddress: IpAddress = parseIp('0.0.0.0')

const magicCookie = 0x6382_5363
const headerLength = 240
/** Relays and servers of BOOTP's time drop what is shorter (RFC 1542, 2.1). */
const shortestMessage = 300
const serverTypes: ReadonlySet<DhcpMessageType> = new Set(['offer', 'ack', 'nak'])

export function encodeMessage(message: DhcpMessage): Buffer {
  const { type, options } = message
  const field = encodeOptions({ messageType: dhcpMessageTypes.indexOf(type) + 1, ...options })
  const bytes = Buffer.alloc(Math.max(headerLength + field.length, shortestMessage))
  bytes[0] = serverTypes.has(type) ? 2 : 1
  bytes[1] = 1
  bytes[2] = 6
  bytes.writeUInt32BE(message.xid, 4)
  bytes.writeUInt16BE(Math.min(message.secs, 0xffff), 8)
  bytes.writeUInt16BE(message.broadcast ? 0x8000 : 0, 10)
  writeIp(message.ciaddr, bytes, 12)
  writeIp(message.yiaddr, bytes, 16)
  writeIp(message.siaddr, bytes, 20)
  writeIp(message.giaddr, bytes, 24)
  bytes.set(macToBytes(message.chaddr), 28)
  bytes.writeUInt32BE(magicCookie, 236)
  bytes.set(field, headerLength)
  return bytes
}

/** Throws {@link DhcpMessageError} at anything that is not a DHCP message on Ethernet. */
export function decodeMessage(bytes: Buffer): DhcpMessage {
  if (bytes.length < headerLength) throw new DhcpMessageError(`a message has at least 240 bytes, not ${bytes.length}`)
  if (bytes[1] !== 1 || bytes[2] !== 6) throw new DhcpMessageError('the message is for hardware other than Ethernet')
  if (bytes.readUInt32BE(236) !== magicCookie) throw new DhcpMessageError('the message is BOOTP without DHCP options')
  const { messageType, ...options } = decodeOptions(bytes.subarray(headerLength), {
    sname: bytes.subarray(44, 108),
    file: bytes.subarray(108, 236),
  })
  const type = dhcpMessageTypes[(messageType ?? 0) - 1]
  if (type === undefined) throw new DhcpMessageError(`there is no message type ${messageType ?? '(none given)'}`)
  if (bytes[0] !== (serverTypes.has(type) ? 2 : 1)) throw new DhcpMessageError(`${type} comes from the wrong side`)
  const ip = (offset: number): IpAddress => ipFromBytes(bytes.subarray(offset, offset + 4))
  return {
    type,
    xid: bytes.readUInt32BE(4),
    secs: bytes.readUInt16BE(8),
    broadcast: (bytes.readUInt16BE(10) & 0x8000) !== 0,
    ciaddr: ip(12),
    yiaddr: ip(16),
    siaddr: ip(20),
    giaddr: ip(24),
    chaddr: macFromBytes(bytes.subarray(28, 34)),
    options,
  }
}
