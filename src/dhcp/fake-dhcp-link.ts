import type { IpAddress } from '../net/ip-address.ts'
import { parseMac, type MacAddress } from '../net/mac-address.ts'
import { decodeArp, encodeArp, type ArpPacket } from './arp-packet.ts'
import type { DhcpLink, LinkListener, OpenLink } from './link.ts'
import { anyAddress, decodeMessage, encodeMessage, type DhcpMessage } from './message.ts'
import { clientPort, serverPort } from './requests.ts'
import { decodeUdpPacket, encodeUdpPacket } from './udp-packet.ts'

/** A message that a client sent, and how. */
export interface SentMessage extends DhcpMessage {
  readonly to: MacAddress
  readonly source: IpAddress
  readonly destination: IpAddress
}

/** A link for tests: keeps what is sent, and brings what a test says that a server or a neighbour sends. */
export class FakeDhcpLink implements DhcpLink {
  readonly sent: SentMessage[] = []
  readonly probes: ArpPacket[] = []
  /** When set, opening and sending throw it. */
  failure: Error | undefined
  #listener: LinkListener | undefined

  get isOpen(): boolean {
    return this.#listener !== undefined
  }

  open(listener: LinkListener): OpenLink {
    this.#check()
    this.#listener = listener
    return {
      sendIp: (payload, to) => {
        this.#check()
        const { payload: message, source, destination } = decodeUdpPacket(Buffer.from(payload))
        this.sent.push({ ...decodeMessage(message), to, source, destination })
      },
      sendArp: (payload) => {
        this.#check()
        this.probes.push(decodeArp(Buffer.from(payload)))
      },
      [Symbol.dispose]: () => (this.#listener = undefined),
    }
  }

  /** Takes the messages sent since the last call. */
  take(): SentMessage[] {
    return this.sent.splice(0)
  }

  /** Brings a message, in answer to the last one if it does not say otherwise; passed over while the link is closed. */
  deliver(message: Pick<DhcpMessage, 'type'> & Partial<DhcpMessage>, to: DhcpMessage): void {
    const payload = encodeMessage({
      xid: to.xid,
      secs: 0,
      broadcast: false,
      ciaddr: anyAddress,
      yiaddr: anyAddress,
      siaddr: anyAddress,
      giaddr: anyAddress,
      chaddr: to.chaddr,
      options: {},
      ...message,
    })
    const ports = { sourcePort: serverPort, destinationPort: clientPort }
    this.deliverBytes(encodeUdpPacket({ source: anyAddress, destination: anyAddress, ...ports, payload }))
  }

  /** Brings any bytes as an IP packet. */
  deliverBytes(payload: Buffer): void {
    this.#listener?.onIp(payload, parseMac('02:00:00:00:00:fe'))
  }

  /** A neighbour says that it has an address. */
  deliverArp(senderIp: IpAddress): void {
    const senderMac = parseMac('02:00:00:00:00:ee')
    this.#listener?.onArp(encodeArp({ kind: 'reply', senderMac, senderIp, targetIp: anyAddress }))
  }

  /** What the link's sockets do when the link is taken away. */
  break(error: Error): void {
    this.#listener?.onError(error)
  }

  #check(): void {
    if (this.failure) throw this.failure
  }
}
