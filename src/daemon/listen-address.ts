import { parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'

/** Where a server listens. */
export interface ListenAddress {
  /** An IP address. */
  readonly host: string
  readonly port: number
}

/** `127.0.0.1:10249` or `[::1]:10249`. Throws {@link ParseError}. */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match && port <= 65_535) return { host: parseIp(match[1] ?? match[2] ?? ''), port }
  throw new ParseError(
    `"${text}" is not an address to listen on (expected IP:PORT, like 127.0.0.1:10249 or [::1]:10249)`,
  )
}

/** `127.0.0.1:10249` or `[::1]:10249`. */
export function formatListen({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
