import { ParseError } from './parse-error.ts'

/** A transport protocol in lower case; Kubernetes writes it in upper case. */
export type Protocol = 'tcp' | 'udp' | 'sctp'

/** IANA protocol numbers. */
export const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const satisfies Record<Protocol, number>

/** Parses `TCP`, `UDP` or `SCTP`, in any case. Throws {@link ParseError}. */
export function parseProtocol(text: string): Protocol {
  const lower = text.toLowerCase()
  if (lower === 'tcp' || lower === 'udp' || lower === 'sctp') return lower
  throw new ParseError(`"${text}" is not a protocol (expected TCP, UDP or SCTP)`)
}

export function protocolFromNumber(number: number): Protocol | undefined {
  if (number === 6) return 'tcp'
  if (number === 17) return 'udp'
  return number === 132 ? 'sctp' : undefined
}
