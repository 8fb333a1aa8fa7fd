import { randomBytes, timingSafeEqual } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import type { Role } from './api-handler.ts'
import {
  createAuthority,
  createServerCertificate,
  isUsable,
  isUsableAuthority,
  type ServerCertificate,
} from './certificate.ts'
import { NodeTokens } from './node-tokens.ts'
import { digestOf, readText, writeSecret } from './secret-file.ts'

/** What clients over TCP need, and what the server shows them. */
export interface Credentials {
  readonly server: ServerCertificate
  /** What clients trust (PEM): the authority that the server's certificate is by. It stays when that one is made anew. */
  readonly authority: string
  /** Bearer tokens, by what they are good for. */
  readonly tokens: Readonly<Record<'admin' | 'read-only', string>>
  /** Tokens of nodes; they come and go while the server runs. */
  readonly nodes: NodeTokens
  /** Who a request is from, by its bearer token; undefined: nobody known. */
  authenticate(request: IncomingMessage): Role | undefined
}

/** Reads the credentials of a folder (0700), and makes what is missing or too old. Every file has mode 0600. */
export function openCredentials(
  folder: string,
  options: { readonly hosts: readonly string[]; readonly now: Date },
): Credentials {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const tokens = {
    admin: openToken(join(folder, 'admin.token')),
    'read-only': openToken(join(folder, 'read-only.token')),
  }
  const { hosts, now } = options
  const authority = openPair(join(folder, 'ca'), {
    isUsable: (pair) => isUsableAuthority(pair, now),
    create: () => createAuthority(now),
  })
  const server = openPair(join(folder, 'server'), {
    isUsable: (pair) => isUsable(pair, { authority, hosts, now }),
    create: () => createServerCertificate(authority, hosts, now),
  })
  const nodes = NodeTokens.open(join(folder, 'node-tokens.json'))
  const digests = (['admin', 'read-only'] as const).map((role) => ({ role, digest: digestOf(tokens[role]) }))
  return {
    server,
    authority: authority.certificate,
    tokens,
    nodes,
    authenticate(request) {
      const [, token] = /^Bearer +([\x21-\x7e]+)$/i.exec(request.headers.authorization ?? '') ?? []
      if (token === undefined) return undefined
      const digest = digestOf(token)
      const known = digests.find((known) => timingSafeEqual(known.digest, digest))
      return known?.role ?? nodes.authenticate(digest, request)
    },
  }
}

/** What a kubeconfig says. */
export interface KubeconfigOptions {
  readonly url: string
  /** What the client trusts, PEM. */
  readonly authority: string
  readonly token: string
  /** Who the token says one is, for people. @default fairlead */
  readonly user?: string
}

/** Writes a kubeconfig (mode 0600) with which kubectl reaches the server at `url`. */
export function writeKubeconfig(file: string, options: KubeconfigOptions): void {
  writeSecret(file, formatKubeconfig(options))
}

/** The text of a kubeconfig. */
export function formatKubeconfig(options: KubeconfigOptions): string {
  const name = 'fairlead'
  const { user = name } = options
  const authority = Buffer.from(options.authority).toString('base64')
  // JSON is YAML.
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server: options.url, 'certificate-authority-data': authority } }],
    users: [{ name: user, user: { token: options.token } }],
    contexts: [{ name, context: { cluster: name, user } }],
    'current-context': name,
  }
  return `${JSON.stringify(config, undefined, 2)}\n`
}

/** `PATH.crt` and `PATH.key`, made anew when they are of no use any more. */
function openPair(
  path: string,
  options: { isUsable: (pair: ServerCertificate) => boolean; create: () => ServerCertificate },
): ServerCertificate {
  const files = { certificate: `${path}.crt`, key: `${path}.key` }
  const old = { certificate: readText(files.certificate) ?? '', key: readText(files.key) ?? '' }
  if (options.isUsable(old)) return old
  const pair = options.create()
  writeSecret(files.key, pair.key)
  writeSecret(files.certificate, pair.certificate)
  return pair
}

function openToken(file: string): string {
  const old = readText(file)?.trim() ?? ''
  if (old.length >= 20) return old
  const token = randomBytes(32).toString('base64url')
  writeSecret(file, `${token}\n`)
  return token
}
