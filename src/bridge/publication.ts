import { ipFamilyOf, parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort, type Port } from '../net/port.ts'

/** What can be published. */
export type PublishedProtocol = 'tcp' | 'udp'

/** Ports from first to last, both included. */
export interface PortRange {
  readonly first: Port
  readonly last: Port
}

/** What a user asks for with `--publish`. */
export interface PublishRequest {
  /** The host's address to publish at; `0.0.0.0` and `::` are all of one family, undefined all of both. */
  readonly hostIp: IpAddress | undefined
  /** Undefined: free ports are chosen. More of them than ports: the first that is free is taken. */
  readonly hostPorts: PortRange | undefined
  readonly ports: PortRange
  readonly protocol: PublishedProtocol
}

/** One port of the host that leads to a port of an endpoint. */
export interface Publication {
  /** As in {@link PublishRequest}. */
  readonly hostIp: IpAddress | undefined
  readonly hostPort: Port
  readonly port: Port
  readonly protocol: PublishedProtocol
}

const grammar = 'expected [HOST-IP:][HOST-PORT[-LAST]]:PORT[-LAST][/tcp|udp], like 8080:80 or 127.0.0.1::53/udp'

/**
 * Parses `[hostIP:]hostPort[-last]:port[-last][/tcp|udp]`; an IPv6 address stands in brackets, and an empty host port, or
 * a port alone, asks for a free one. Throws {@link ParseError}.
 */
export function parsePublish(text: string): PublishRequest {
  try {
    return parse(text)
  } catch (error) {
    throw new ParseError(`--publish ${text}: ${(error as Error).message}`, { cause: error })
  }
}

function parse(text: string): PublishRequest {
  const [, rest = '', protocolText] = /^([^/]*)(?:\/(.*))?$/.exec(text) ?? []
  const protocol = (protocolText ?? 'tcp').toLowerCase()
  if (protocol !== 'tcp' && protocol !== 'udp') {
    throw new ParseError(`"${protocolText}" is no protocol that can be published (expected tcp or udp)`)
  }
  const bracketed = /^\[([^\]]*)\]:(.*)$/.exec(rest)
  const words = bracketed ? [bracketed[1] ?? '', ...(bracketed[2] ?? '').split(':')] : rest.split(':')
  if (words.length > 3) {
    throw new ParseError(`too many colons (${grammar}; an IPv6 address stands in brackets, like [::1]:8080:80)`)
  }
  if (bracketed && words.length < 3) throw new ParseError(`no port after the host's (${grammar})`)
  const [portText = '', hostText = '', hostIpText] = words.toReversed()
  const ports = parseRange(portText)
  const hostPorts = hostText === '' ? undefined : parseRange(hostText)
  if (hostPorts && sizeOf(ports) > 1 && sizeOf(hostPorts) !== sizeOf(ports)) {
    throw new ParseError(`${sizeOf(hostPorts)} host ports for ${sizeOf(ports)} ports (expected as many, or none)`)
  }
  return {
    hostIp: hostIpText === undefined ? undefined : parseHostIp(hostIpText),
    hostPorts,
    ports,
    protocol,
  }
}

function parseHostIp(text: string): IpAddress {
  const ip = parseIp(text)
  if (/^(ff|fe[89ab])/.test(ip) || /^(22[4-9]|2[3-5]\d)\./.test(ip)) {
    throw new ParseError(
      `nothing can be published at ${ip} (expected an address of this host that others can route to)`,
    )
  }
  return ip
}

function parseRange(text: string): PortRange {
  const [, firstText, lastText] = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(text) ?? []
  if (firstText === undefined) throw new ParseError(`"${text}" is neither a port nor a range of ports (${grammar})`)
  const first = parsePort(Number(firstText))
  const last = lastText === undefined ? first : parsePort(Number(lastText))
  if (last < first) throw new ParseError(`the range ${text} ends before it begins`)
  return { first, last }
}

/** How many ports there are in a range. */
export function sizeOf({ first, last }: PortRange): number {
  return last - first + 1
}

/** As `--publish` has it: `127.0.0.1:8080:80/tcp`. */
export function formatPublication({ hostIp, hostPort, port, protocol }: Publication): string {
  return `${formatHostPort({ hostIp, hostPort })}->${port}/${protocol}`
}

/** `127.0.0.1:8080`, `[::1]:8080`, `*:8080` */
export function formatHostPort({ hostIp, hostPort }: Pick<Publication, 'hostIp' | 'hostPort'>): string {
  if (hostIp === undefined) return `*:${hostPort}`
  return ipFamilyOf(hostIp) === 6 ? `[${hostIp}]:${hostPort}` : `${hostIp}:${hostPort}`
}

/** Whether an address stands for all of its family. */
export function isAnyAddress(ip: IpAddress): boolean {
  return ip === '0.0.0.0' || ip === '::'
}

/** Whether two publications would answer at the same address and port. Pure. */
export function publicationsClash(a: Publication, b: Publication): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false
  const { hostIp: one } = a
  const { hostIp: other } = b
  if (one === undefined || other === undefined || one === other) return true
  return ipFamilyOf(one) === ipFamilyOf(other) && (isAnyAddress(one) || isAnyAddress(other))
}

/** Reads what {@link Publication} became as JSON. Throws ParseError or TypeError. */
export function parsePublication(value: unknown): Publication {
  const { hostIp, hostPort, port, protocol } = value as Partial<Publication>
  if (protocol !== 'tcp' && protocol !== 'udp') throw new TypeError('a publication has no protocol')
  return {
    hostIp: hostIp === undefined ? undefined : parseIp(hostIp),
    hostPort: parsePort(hostPort),
    port: parsePort(port),
    protocol,
  }
}
