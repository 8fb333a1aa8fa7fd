/** Bytes from the network that are not the DHCP message, packet or option that they should be. */
export class DhcpMessageError extends Error {
  override readonly name = 'DhcpMessageError'
}
