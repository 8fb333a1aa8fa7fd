import type { IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Affinity } from './frontends.ts'
import type { ServiceEndpoint } from './select-endpoints.ts'

/** An address at which a Service port has several endpoints (pods with hostNetwork), and their ports, in order. */
export interface SharedAddress {
  readonly ip: IpAddress
  readonly ports: readonly Port[]
}

/**
 * What a client is remembered with: the endpoint or, where all ports of a Service count, its address. Of several endpoints at one address,
 * all but the first are also told apart by their place among its ports, in the hope that pods open their ports in the same order.
 */
export function memberName({ remembers, shared }: Affinity, { ip, port }: ServiceEndpoint): string {
  if (remembers === 'endpoint') return `${ip} ${port}`
  const place = shared?.find((address) => address.ip === ip)?.ports.indexOf(port) ?? 0
  return place > 0 ? `${ip} #${place + 1}` : ip
}

/** Of the endpoints of one Service port, wherever they count; undefined where no two share an address, as nearly always. */
export function sharedAddresses(endpoints: Iterable<ServiceEndpoint>): readonly SharedAddress[] | undefined {
  const found = new Map<IpAddress, Set<Port>>()
  for (const { ip, port } of endpoints) {
    const known = found.get(ip)
    if (known) known.add(port)
    else found.set(ip, new Set([port]))
  }
  const shared = [...found].filter(([, ports]) => ports.size > 1)
  if (shared.length === 0) return undefined
  return shared.map(([ip, ports]) => ({ ip, ports: [...ports].sort((a, b) => a - b) }))
}
