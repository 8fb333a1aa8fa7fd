import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'

const special = /^(0\.|127\.|169\.254\.|22[4-9]\.|23\d\.|255\.255\.255\.255$|::1?$|fe[89ab]|ff)/

/**
 * Refuses addresses that no traffic of others may be sent to. Kubernetes has this rule for EndpointSlices (ValidateEndpointIP),
 * since they would lead into the node itself. Throws ParseError.
 */
export function refuseSpecialAddress(ip: IpAddress): void {
  if (!special.test(ip)) return
  throw new ParseError(`"${ip}" cannot be an endpoint (it is unspecified, loopback, link-local or multicast)`)
}

/** Parses the address of a pod or container, which traffic may be sent to. Throws ParseError. */
export function parseEndpointIp(text: string): IpAddress {
  const ip = parseIp(text)
  refuseSpecialAddress(ip)
  return ip
}
