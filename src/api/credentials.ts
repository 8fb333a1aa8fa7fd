import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import type { Role } from './api-handler.ts'
import { createServerCertificate, isUsable, type ServerCertificate } from './certificate.ts'

/** What clients over TCP need, and what the server shows them. */
export interface Credentials {
  readonly server: ServerCertificate
  /** Bearer tokens, by what they are good for. */
  readonly tokens: Readonly<Record<Role, string>>
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
  const files = { certificate: join(folder, 'server.crt'), key: join(folder, 'server.key') }
  const old = { certificate: readText(files.certificate) ?? '', key: readText(files.key) ?? '' }
  const usable = isUsable(old, options.hosts, options.now)
  const server = usable ? old : createServerCertificate(options.hosts, options.now)
  if (!usable) {
    writeSecret(files.key, server.key)
    writeSecret(files.certificate, server.certificate)
  }
  const digests = (['admin', 'read-only'] as const).map((role) => ({ role, digest: digestOf(tokens[role]) }))
  return {
    server,
    tokens,
    authenticate(request) {
      const [, token] = /^Bearer +([\x21-\x7e]+)$/i.exec(request.headers.authorization ?? '') ?? []
      if (token === undefined) return undefined
      const digest = digestOf(token)
      return digests.find((known) => timingSafeEqual(known.digest, digest))?.role
    },
  }
}

/** Writes a kubeconfig (mode 0600) with which kubectl reaches the server at `url`. */
export function writeKubeconfig(
  file: string,
  options: { readonly url: string; readonly certificate: string; readonly token: string },
): void {
  const name = 'fairlead'
  const authority = Buffer.from(options.certificate).toString('base64')
  // JSON is YAML.
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server: options.url, 'certificate-authority-data': authority } }],
    users: [{ name, user: { token: options.token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
  }
  writeSecret(file, `${JSON.stringify(config, undefined, 2)}\n`)
}

function openToken(file: string): string {
  const old = readText(file)?.trim() ?? ''
  if (old.length >= 20) return old
  const token = randomBytes(32).toString('base64url')
  writeSecret(file, `${token}\n`)
  return token
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Whole or not at all, and never readable by others in between. */
function writeSecret(file: string, text: string): void {
  const temporary = `${file}.new`
  writeFileSync(temporary, text, { mode: 0o600 })
  renameSync(temporary, file)
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
