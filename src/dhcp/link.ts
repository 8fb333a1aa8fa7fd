import type { MacAddress } from '../net/mac-address.ts'

/** Hears what comes in on an open link. `payload` begins behind the Ethernet header. */
export interface LinkListener {
  onIp(payload: Buffer, from: MacAddress): void
  onArp(payload: Buffer): void
  /** Nothing more will come. */
  onError(error: unknown): void
}

/** A link that is listened to, until disposed. Sending throws SyscallError when the link is down or gone. */
export interface OpenLink extends Disposable {
  sendIp(payload: Uint8Array, to: MacAddress): void
  sendArp(payload: Uint8Array, to: MacAddress): void
}

/** A link that DHCP can be spoken on, whether it has an address or not. Opening it throws SyscallError (ENODEV). */
export interface DhcpLink {
  open(listener: LinkListener): OpenLink
}
