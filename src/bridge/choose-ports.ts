import { ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { PortProbe } from '../linux/port-probe.ts'
import { formatHostPort, publicationsClash, sizeOf, type Publication, type PublishRequest } from './publication.ts'

/** A port that cannot be published as asked; nothing was changed. */
export class PublishError extends Error {
  override readonly name = 'PublishError'
}

/** What must be known to publish. */
export interface PublishContext {
  /** Families that the endpoint has addresses of, and that its network translates ports for. */
  readonly families: readonly IpFamily[]
  /** What is published already, with who did it. */
  readonly taken: Iterable<{ readonly owner: string; readonly publication: Publication }>
  /** As `probePort`. */
  readonly probe: (probe: PortProbe) => Port | 'taken' | 'no-address'
}

/** How often the kernel is asked for another free port before we believe that there is none. */
const maxChoices = 100

/**
 * Gives each request its ports: checks that no publication and no program of the host has them, and chooses free ones
 * where none was asked for. Nothing is reserved: until the rules are written, another program can take a port. It then
 * hears nothing from outside, for what is published is translated before a socket is looked for. Throws {@link PublishError}.
 */
export function choosePorts(requests: readonly PublishRequest[], context: PublishContext): readonly Publication[] {
  // By port: ranges of thousands are published for the media of telephony.
  const taken = Map.groupBy(context.taken, ({ publication }) => placeOf(publication))
  const chosen: Publication[] = []
  const chosenAt = new Map<string, Publication[]>()
  const choose = (publication: Publication): void => {
    chosen.push(publication)
    const place = placeOf(publication)
    chosenAt.set(place, [...(chosenAt.get(place) ?? []), publication])
  }
  const clash = (wanted: Publication): string | undefined => {
    const place = placeOf(wanted)
    const twin = chosenAt.get(place)?.find((other) => publicationsClash(other, wanted))
    if (twin) return `it is asked for twice`
    const other = taken.get(place)?.find(({ publication }) => publicationsClash(publication, wanted))
    return other && `${other.owner} has published it as ${formatHostPort(other.publication)}`
  }
  for (const request of requests) {
    checkFamily(request, context)
    const { hostPorts, ports } = request
    if (!hostPorts) {
      for (let port = ports.first; port <= ports.last; port = (port + 1) as Port) {
        choose(chooseFree(request, { ...context, port, clash }))
      }
    } else if (sizeOf(ports) < sizeOf(hostPorts)) {
      choose(chooseInRange(request, { ...context, clash }))
    } else {
      for (let offset = 0; offset < sizeOf(ports); offset++) {
        const publication = at(request, { hostPort: hostPorts.first + offset, port: ports.first + offset })
        const reason = obstacle(publication, { ...context, clash })
        if (reason !== undefined) throw refused(publication, reason)
        choose(publication)
      }
    }
  }
  return chosen
}

function placeOf({ protocol, hostPort }: Publication): string {
  return `${protocol} ${hostPort}`
}

type Clash = (wanted: Publication) => string | undefined

function checkFamily({ hostIp }: PublishRequest, { families }: PublishContext): void {
  if (families.length === 0) {
    throw new PublishError(
      'nothing can be published in this network (it is internal, or its gateway modes are isolated)',
    )
  }
  if (hostIp === undefined || families.includes(ipFamilyOf(hostIp))) return
  const [family] = families
  const expected = `expected an IPv${family} address: the endpoint has no IPv${ipFamilyOf(hostIp)} address to publish`
  throw new PublishError(`cannot publish at ${hostIp} (${expected})`)
}

function at(request: PublishRequest, ports: { hostPort: number; port: number }): Publication {
  const { hostIp, protocol } = request
  return { hostIp, hostPort: ports.hostPort as Port, port: ports.port as Port, protocol }
}

function chooseFree(request: PublishRequest, context: PublishContext & { port: Port; clash: Clash }): Publication {
  const { port, probe, families } = context
  const [ip] = hostAddresses(request, families)
  if (ip === undefined) throw new PublishError('nothing can be published in this network')
  for (let attempt = 0; attempt < maxChoices; attempt++) {
    const free = probe({ ip, port: undefined, protocol: request.protocol })
    if (free === 'no-address') throw new PublishError(`cannot publish at ${ip}: this host has no such address`)
    if (free === 'taken') break
    const publication = at(request, { hostPort: free, port })
    if (obstacle(publication, context) === undefined) return publication
  }
  const where = request.hostIp === undefined ? '' : ` at ${request.hostIp}`
  throw new PublishError(`no free ${request.protocol} port is left${where} (name one that is not in use)`)
}

function chooseInRange(request: PublishRequest, context: PublishContext & { clash: Clash }): Publication {
  const { hostPorts, ports } = request
  const { first, last } = hostPorts ?? ports
  for (let hostPort: number = first; hostPort <= last; hostPort++) {
    const publication = at(request, { hostPort, port: ports.first })
    if (obstacle(publication, context) === undefined) return publication
  }
  throw new PublishError(`no ${request.protocol} port from ${first} to ${last} is free`)
}

/** Why something cannot be published; undefined when it can. */
function obstacle(publication: Publication, context: PublishContext & { clash: Clash }): string | undefined {
  const { hostPort, protocol } = publication
  const clash = context.clash(publication)
  if (clash !== undefined) return clash
  for (const ip of hostAddresses(publication, context.families)) {
    const answer = context.probe({ ip, port: hostPort, protocol })
    if (answer === 'no-address') return `this host has no address ${ip}`
    if (answer === 'taken') return `a program of this host listens there ("ss -lnp sport = :${hostPort}" shows it)`
  }
  return undefined
}

function hostAddresses({ hostIp }: { hostIp: IpAddress | undefined }, families: readonly IpFamily[]): IpAddress[] {
  return hostIp === undefined ? families.map((family) => parseIp(family === 4 ? '0.0.0.0' : '::')) : [hostIp]
}

function refused(publication: Publication, reason: string): PublishError {
  const { protocol } = publication
  return new PublishError(`cannot publish ${protocol} port ${formatHostPort(publication)}: ${reason}`)
}
