import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { formatKubeconfig, type Credentials } from '../api/credentials.ts'
import { systemClock } from '../base/clock.ts'
import { parseSubdomainName } from '../model/names.ts'
import { isLoopback, parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { NodeTokensView } from './control-api.ts'
import type { EventLog } from './events.ts'
import { HttpError } from './http-server.ts'
import { formatListen, type ListenAddress } from './listen-address.ts'

/** What tokens are made with. */
interface Issuer {
  readonly credentials: Credentials
  readonly listen: ListenAddress
  /** Names and addresses that other machines may use, the best first. */
  readonly hosts: readonly string[]
}

/** Tokens of nodes, as the control socket and the command line see them. Refuses until {@link serve} was called. */
export class NodeTokenControl {
  readonly #events: EventLog
  #issuer: Issuer | undefined

  constructor(events: EventLog) {
    this.#events = events
  }

  /** Takes up work. */
  serve(issuer: Issuer): void {
    this.#issuer = issuer
  }

  list(): NodeTokensView {
    return { tokens: this.#with().credentials.nodes.list() }
  }

  /** Makes a token for a node; returns the text of its kubeconfig. Throws {@link HttpError}. */
  issue(node: string, body: unknown): { readonly kubeconfig: string } {
    const issuer = this.#with()
    checkName(node)
    const { server } = (body ?? {}) as { server?: unknown }
    const url = server === undefined ? defaultServer(issuer) : checkServer(server, issuer)
    const token = issuer.credentials.nodes.issue(node, systemClock.now())
    this.#events.add('api', `${node} has a new token`)
    const { authority } = issuer.credentials
    return { kubeconfig: formatKubeconfig({ url, authority, token, user: `system:node:${node}` }) }
  }

  /** Ends the tokens of a node. Throws {@link HttpError}. */
  revoke(node: string): void {
    if (!this.#with().credentials.nodes.revoke(node)) throw new HttpError(404, `node ${node} has no token`)
    this.#events.add('api', `the tokens of ${node} are revoked`)
  }

  #with(): Issuer {
    if (this.#issuer) return this.#issuer
    throw new HttpError(503, 'this daemon has no embedded API (api.enabled), or is starting')
  }
}

function checkName(node: string): void {
  try {
    parseSubdomainName(node)
  } catch (error) {
    if (error instanceof ParseError) throw new HttpError(400, `node: ${error.message}`, { cause: error })
    throw error
  }
}

/** Where other machines reach the API. Throws {@link HttpError} where they cannot. */
function defaultServer({ listen, hosts }: Issuer): string {
  const { host, port } = listen
  const any = host === '0.0.0.0' || host === '::'
  const best = any
    ? hosts.find((name) => host === '::' || isIP(name) !== 6)
    : isLoopback(parseIp(host))
      ? undefined
      : host
  if (best !== undefined) return `https://${formatListen({ host: best, port })}`
  const why = any ? 'it is not known by which address other machines reach it' : `it listens on ${host} only`
  throw new HttpError(
    409,
    `other machines do not reach the API: ${why} (set api.listen and api.names, or give --server)`,
  )
}

/** Throws {@link HttpError}. */
function checkServer(server: unknown, { credentials }: Issuer): string {
  const url = typeof server === 'string' ? URL.parse(server) : null
  if (url?.protocol !== 'https:') {
    throw new HttpError(400, `server: ${JSON.stringify(server)} is not an address (expected https://HOST:PORT)`)
  }
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const certificate = new X509Certificate(credentials.server.certificate)
  const named = isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host)
  if (named) return url.origin
  throw new HttpError(400, `server: ${host} is not in the certificate of the API (add it to api.names, and restart)`)
}
