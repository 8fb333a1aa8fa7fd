import { isIPv4, isIPv6 } from 'node:net'
import { type IpAddress, parseIp } from '../net/ip-address.ts'

/** The address that a pod's label says (`10-7-1-11`, `fd00-10--51`); undefined when it says none. */
export function parseDashedAddress(label: string): IpAddress | undefined {
  const v4 = label.replaceAll('-', '.')
  if (isIPv4(v4)) return parseIp(v4)
  const v6 = label.replaceAll('-', ':')
  return isIPv6(v6) ? parseIp(v6) : undefined
}
