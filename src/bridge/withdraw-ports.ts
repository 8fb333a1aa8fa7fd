import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort, type Port } from '../net/port.ts'
import { PublishError } from './choose-ports.ts'
import { formatHostPort, type Publication, type PublishedProtocol, type PublishRequest } from './publication.ts'

/** Ports of the host that shall not lead to an endpoint any more. */
export interface WithdrawRequest {
  /** Undefined: published at whatever address. */
  readonly hostIp: IpAddress | undefined
  readonly hostPort: Port
  readonly protocol: PublishedProtocol
}

const grammar = 'expected [HOST-IP:]HOST-PORT[/tcp|udp], like 8080 or 127.0.0.1:53/udp'

/**
 * Parses `[hostIP:]hostPort[/tcp|udp]`, and what `formatPublication` writes (`*:8080->80/tcp`), so that it can be copied from
 * there. An IPv6 address stands in brackets. Throws {@link ParseError}.
 */
export function parseWithdraw(text: string): WithdrawRequest {
  const [, bracketed, plain, port, protocol = 'tcp'] =
    /^(?:\[([^\]]+)\]:|([^:[\]]+):)?(\d{1,6})(?:->\d+)?(?:\/(tcp|udp))?$/i.exec(text) ?? []
  try {
    if (port === undefined) throw new ParseError(grammar)
    const ip = bracketed ?? plain
    return {
      hostIp: ip === undefined || ip === '*' ? undefined : parseIp(ip),
      hostPort: parsePort(Number(port)),
      protocol: protocol.toLowerCase() as PublishedProtocol,
    }
  } catch (error) {
    throw new ParseError(`published port ${text}: ${(error as Error).message}`, { cause: error })
  }
}

/** The publications that a request means. Pure. */
export function findPublications(
  { published = [] }: { readonly published?: readonly Publication[] },
  { hostIp, hostPort, protocol }: WithdrawRequest,
): readonly Publication[] {
  return published.filter((one) => {
    return one.hostPort === hostPort && one.protocol === protocol && (hostIp === undefined || one.hostIp === hostIp)
  })
}

/** Splits publications into those that stay and those that end. Pure. Throws {@link PublishError} for one that is not there. */
export function withdrawPublications(
  lease: { readonly published?: readonly Publication[] },
  requests: readonly WithdrawRequest[],
): { readonly kept: readonly Publication[]; readonly withdrawn: readonly Publication[] } {
  const withdrawn = new Set<Publication>()
  for (const request of requests) {
    const found = findPublications(lease, request)
    if (found.length === 0) {
      throw new PublishError(
        `${request.protocol} port ${formatHostPort(request)} is not published (see fairlead pod ls)`,
      )
    }
    for (const publication of found) withdrawn.add(publication)
  }
  return { kept: (lease.published ?? []).filter((one) => !withdrawn.has(one)), withdrawn: [...withdrawn] }
}

/** Changes of one endpoint's ports. */
interface NetworkPorts {
  readonly network: string
  readonly publish: readonly PublishRequest[]
  readonly withdraw: readonly WithdrawRequest[]
}

/**
 * Says which of a pod's networks a change of its ports is about: what is published goes to the named or else to the first one,
 * and what is withdrawn is looked for in the named or else in all. What is nowhere is asked of the first. Pure.
 */
export function splitByNetwork(
  { publish, withdraw, network: named }: Omit<NetworkPorts, 'network'> & { readonly network?: string },
  { first, leases }: { first: string; leases: readonly { network: string; published?: readonly Publication[] }[] },
): NetworkPorts[] {
  const home = named ?? first
  const inAll = leases.filter(({ network }) => named === undefined || network === named)
  const holders = withdraw.map((wish) => inAll.filter((lease) => findPublications(lease, wish).length > 0))
  const changes = new Map<string, NetworkPorts>()
  if (publish.length > 0) changes.set(home, { network: home, publish, withdraw: [] })
  for (const [index, wish] of withdraw.entries()) {
    // One that is nowhere is refused by whoever is asked.
    const asked = holders[index]?.length ? holders[index].map(({ network }) => network) : [home]
    for (const network of asked) {
      const change = changes.get(network) ?? { network, publish: [], withdraw: [] }
      changes.set(network, { ...change, withdraw: [...change.withdraw, wish] })
    }
  }
  return [...changes.values()]
}
