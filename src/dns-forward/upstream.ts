import { type IpAddress, parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort } from '../net/port.ts'
import { isAtOrBelow, type Name, type NameKey } from '../dns-message/name.ts'

/** A resolver to ask, as {@link parseUpstream} or resolv.conf names it. */
export interface Upstream {
  /** Equal for equal resolvers; for people too. */
  readonly key: string
  readonly address: IpAddress
  readonly port: number
  /** DNS over TLS (RFC 7858); undefined: UDP, and TCP for what is truncated. */
  readonly tls: { readonly serverName: string | undefined } | undefined
  /** TCP for all questions. */
  readonly tcpOnly?: boolean
}

/** Other resolvers for the names of some domains. */
export interface ForwardRule {
  /** Of a name in several of them the longest counts. */
  readonly domain: Name
  readonly servers: readonly Upstream[]
}

/** A resolver by its address; port 53 by default. */
export function plainUpstream(address: IpAddress, port = 53): Upstream {
  const key = port === 53 ? address : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  return { key, address, port, tls: undefined }
}

/**
 * Reads `10.0.0.53`, `10.0.0.53:5353`, `[fd00::35]:5353`, or `tls://9.9.9.9#dns.quad9.net` (port 853; the name after `#` is what
 * its certificate must be of, without one it must be of the address). Throws {@link ParseError}.
 */
export function parseUpstream(text: string): Upstream {
  const match = /^(tls:\/\/)?(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)|([0-9a-fA-F:.]+?))(?::(\d+))?(?:#(.+))?$/.exec(text)
  // Without brackets the end of an IPv6 address is no port.
  const bare = match?.[4] !== undefined && match[5] !== undefined ? `${match[4]}:${match[5]}` : match?.[4]
  const address = match?.[2] ?? match?.[3] ?? bare
  const isTls = match?.[1] !== undefined
  if (!match || address === undefined || (match[6] !== undefined && !isTls))
    throw new ParseError(
      `"${text}" is not a resolver (expected like 10.0.0.53, 10.0.0.53:5353 or tls://9.9.9.9#dns.quad9.net)`,
    )
  const portText = bare === undefined || bare === match[4] ? match[5] : undefined
  const port = portText === undefined ? (isTls ? 853 : 53) : parsePort(Number(portText))
  const plain = plainUpstream(parseIp(address), port)
  return isTls ? { ...plain, key: text, tls: { serverName: match[6] } } : plain
}

/** The servers of the rule with the longest domain that the name is in; undefined when it is in none. */
export function serversFor(key: NameKey, rules: readonly ForwardRule[]): readonly Upstream[] | undefined {
  let best: ForwardRule | undefined
  for (const rule of rules) {
    if (!isAtOrBelow(key, rule.domain.key)) continue
    if (!best || rule.domain.wire.length > best.domain.wire.length) best = rule
  }
  return best?.servers
}
