import { networkOf, type Cidr } from '../net/cidr.ts'
import { ipFromBytes, ipToBytes, type IpAddress } from '../net/ip-address.ts'
import { DhcpMessageError } from './dhcp-message-error.ts'

/** A route that the server wants its clients to have (RFC 3442). A gateway of `0.0.0.0` means: directly on the link. */
export interface DhcpRoute {
  readonly destination: Cidr
  readonly gateway: IpAddress
}

/** The value of option 121: prefix length, as many bytes of the network as that needs, gateway (RFC 3442). */
export function encodeRoutes(routes: readonly DhcpRoute[]): Buffer {
  return Buffer.concat(
    routes.flatMap(({ destination, gateway }) => {
      const network = ipToBytes(networkOf(destination).address)
      const significant = network.subarray(0, Math.ceil(destination.prefix / 8))
      return [Uint8Array.of(destination.prefix), significant, ipToBytes(gateway)]
    }),
  )
}

/** Throws {@link DhcpMessageError}. Bits behind the prefix are cleared, as RFC 3442 asks. */
export function decodeRoutes(bytes: Buffer): DhcpRoute[] {
  const routes: DhcpRoute[] = []
  for (let at = 0; at < bytes.length;) {
    const prefix = bytes[at++]!
    if (prefix > 32) throw new DhcpMessageError(`option 121 (routes) has a prefix of ${prefix} bits`)
    const significant = Math.ceil(prefix / 8)
    if (at + significant + 4 > bytes.length) throw new DhcpMessageError('option 121 (routes) ends within a route')
    const network = Buffer.alloc(4)
    bytes.copy(network, 0, at, at + significant)
    at += significant
    const gateway = ipFromBytes(bytes.subarray(at, at + 4))
    routes.push({ destination: networkOf({ address: ipFromBytes(network), prefix }), gateway })
    at += 4
  }
  if (routes.length === 0) throw new DhcpMessageError('option 121 (routes) is empty')
  return routes
}
