import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { cidrContains } from '../net/cidr.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { RegisterBytes } from '../nftables/objects.ts'
import type { ProxySettings } from '../proxy/compile-services.ts'
import type { Frontend, ServiceFrontends } from '../proxy/frontends.ts'

/** A frontend at one address: node ports have one for each address of the node. */
export interface PlacedFrontend {
  readonly ip: IpAddress
  readonly frontend: Frontend
}

/** The frontends of a Service, each at each of its addresses. */
export function* placeFrontends(
  { frontends }: ServiceFrontends,
  nodeAddresses: readonly IpAddress[],
): Generator<PlacedFrontend> {
  for (const frontend of frontends) {
    if (frontend.kind !== 'node-port') yield { ip: frontend.ip, frontend }
    else for (const ip of nodeAddresses) if (ipFamilyOf(ip) === frontend.family) yield { ip, frontend }
  }
}

/** The key of a frontend in the sets. */
export function placedKey({ ip, frontend }: PlacedFrontend): RegisterBytes {
  return registerBytes({ ip }, { protocol: frontend.protocol }, { port: frontend.port })
}

/** Where node ports answer: `own` addresses within the settings' networks. IPVS cannot serve loopback ones: answers would not leave. */
export function nodePortAddresses(own: Iterable<IpAddress>, settings: ProxySettings): readonly IpAddress[] {
  const networks = settings.nodePortAddresses
  return [...own].filter(
    (ip) =>
      !ip.startsWith('127.') &&
      ip !== '::1' &&
      !ip.startsWith('fe80:') &&
      (!networks || networks.some((network) => sameFamily(network.address, ip) && cidrContains(network, ip))),
  )
}

function sameFamily(a: IpAddress, b: IpAddress): boolean {
  return ipFamilyOf(a) === ipFamilyOf(b)
}
