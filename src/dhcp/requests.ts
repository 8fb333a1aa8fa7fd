import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { macToBytes, parseMac, type MacAddress } from '../net/mac-address.ts'
import type { DhcpLease } from './lease.ts'
import { anyAddress, encodeMessage, type DhcpMessage, type DhcpMessageType } from './message.ts'
import { dhcpOptions, type DhcpOptionName } from './options.ts'
import { encodeUdpPacket } from './udp-packet.ts'

/** What a client says of itself in every message. */
export interface DhcpIdentity {
  readonly mac: MacAddress
  /** By what the server knows the client (option 61). Default: the MAC address. */
  readonly clientId?: Uint8Array
  /** Sent to the server (option 12), which may make a DNS name of it. */
  readonly hostname?: string
}

/** What a client has to say in its present state, and to whom: table 5 of RFC 2131. */
export type ClientMessage =
  | { readonly kind: 'discover' }
  | { readonly kind: 'select'; readonly address: IpAddress; readonly server: IpAddress }
  | { readonly kind: 'reboot'; readonly address: IpAddress }
  | { readonly kind: 'renew' | 'rebind' | 'release'; readonly lease: DhcpLease }
  | { readonly kind: 'decline'; readonly lease: DhcpLease }

export const serverPort = 67
export const clientPort = 68
export const broadcastMac = parseMac('ff:ff:ff:ff:ff:ff')
const broadcastAddress = parseIp('255.255.255.255')

/** Classless routes come before routers, as RFC 3442 asks. */
const wanted: readonly DhcpOptionName[] = [
  'subnetMask',
  'routes',
  'routers',
  'dnsServers',
  'domain',
  'mtu',
  'leaseSeconds',
  'server',
  'renewSeconds',
  'rebindSeconds',
]

/** The IPv4 packet that carries a message, and the hardware address that it goes to. */
export function encodeClientMessage(
  message: ClientMessage,
  options: { readonly identity: DhcpIdentity; readonly xid: number; readonly secs: number },
): { readonly packet: Buffer; readonly to: MacAddress } {
  const { identity } = options
  const asks = message.kind !== 'decline' && message.kind !== 'release'
  const body: DhcpMessage = {
    type: typeOf(message),
    xid: options.xid,
    secs: options.secs,
    // Answers may come to an address that the host does not have yet: they are read below IP.
    broadcast: false,
    ciaddr: anyAddress,
    yiaddr: anyAddress,
    siaddr: anyAddress,
    giaddr: anyAddress,
    chaddr: identity.mac,
    options: {
      clientId: identity.clientId ?? Uint8Array.of(1, ...macToBytes(identity.mac)),
      ...(asks && {
        maxMessageSize: 1472,
        requestedOptions: Uint8Array.from(wanted, (name) => dhcpOptions[name].code),
        ...(identity.hostname !== undefined && { hostname: identity.hostname }),
      }),
    },
  }
  const { fields, unicast } = specificsOf(message)
  const bytes = encodeMessage({ ...body, ...fields, options: { ...body.options, ...fields.options } })
  const packet = encodeUdpPacket({
    source: fields.ciaddr ?? anyAddress,
    destination: unicast?.server ?? broadcastAddress,
    sourcePort: clientPort,
    destinationPort: serverPort,
    payload: bytes,
  })
  return { packet, to: unicast?.serverMac ?? broadcastMac }
}

function typeOf({ kind }: ClientMessage): DhcpMessageType {
  return kind === 'discover' || kind === 'decline' || kind === 'release' ? kind : 'request'
}

function specificsOf(message: ClientMessage): { fields: Partial<DhcpMessage>; unicast?: DhcpLease } {
  switch (message.kind) {
    case 'discover':
      return { fields: {} }
    case 'select':
      return { fields: { options: { requestedAddress: message.address, server: message.server } } }
    case 'reboot':
      return { fields: { options: { requestedAddress: message.address } } }
    case 'renew':
      return { fields: { ciaddr: message.lease.address.address }, unicast: message.lease }
    case 'rebind':
      return { fields: { ciaddr: message.lease.address.address } }
    case 'release': {
      const { lease } = message
      return { fields: { ciaddr: lease.address.address, options: { server: lease.server } }, unicast: lease }
    }
    case 'decline': {
      const { lease } = message
      return { fields: { options: { requestedAddress: lease.address.address, server: lease.server } } }
    }
    default:
      return message satisfies never
  }
}
