import { parseCidr, type Cidr } from './cidr.ts'
import { parseIp, type IpAddress } from './ip-address.ts'

/**
 * Parses an address as Kubernetes objects may have it: old ones have zeros at the beginning of numbers, which Kubernetes reads
 * as decimal for ever (ParseIPSloppy of k8s.io/utils/net): `10.0.000.009` is 10.0.0.9. Throws {@link ParseError} of parse-error.ts.
 */
export function parseLegacyIp(text: string): IpAddress {
  return parseIp(withoutLeadingZeros(text))
}

/** The same for a network: `10.0.000.000/08`. Throws {@link ParseError} of parse-error.ts. */
export function parseLegacyCidr(text: string): Cidr {
  return parseCidr(withoutLeadingZeros(text))
}

function withoutLeadingZeros(text: string): string {
  return /^\d+\.\d+\.\d+\.\d+(\/\d+)?$/.test(text) ? text.replaceAll(/(?<!\d)0+(?=\d)/g, '') : text
}
