import { networkInterfaces } from 'node:os'
import { parseIp, type IpAddress } from '../net/ip-address.ts'

/** The addresses of this thread's network namespace, but for those of links that are down or without a carrier. */
export function ownAddresses(): ReadonlySet<IpAddress> {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return new Set(all.map(({ address }) => parseIp(address.split('%')[0] ?? address)))
}
