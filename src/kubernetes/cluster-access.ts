import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { AccessError } from './api-error.ts'
import { ExecCredentialSource } from './exec-credential.ts'
import { parseKubeconfig, type ClusterConfig, type ExecPlugin, type Material } from './kubeconfig.ts'

/** Where an API server and its credentials are described. */
export type ClusterLocation =
  | { readonly kind: 'kubeconfig'; readonly path: string; readonly context?: string }
  /** As every pod finds it: an address in the environment, token and CA in files. */
  | { readonly kind: 'in-cluster' }

/** What one request needs. */
export interface RequestAccess {
  readonly server: URL
  /** The `Authorization` header. */
  readonly authorization: string | undefined
  readonly tls: {
    readonly ca?: string | Buffer
    readonly cert?: string | Buffer
    readonly key?: string | Buffer
    readonly servername?: string
    readonly rejectUnauthorized: boolean
  }
}

/** Where the service account of a pod is mounted. */
const serviceAccountFolder = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * Knows how to reach an API server. Everything is read anew for each request (there are a few per minute), so that replaced
 * tokens, certificates, CAs and kubeconfigs are used from the next request on.
 */
export class ClusterAccess {
  readonly #location: ClusterLocation
  readonly #env: Readonly<Record<string, string | undefined>>
  readonly #clock: Clock
  #exec: { readonly plugin: string; readonly source: ExecCredentialSource } | undefined

  constructor(
    location: ClusterLocation,
    options: { readonly env: Readonly<Record<string, string | undefined>>; readonly clock: Clock },
  ) {
    this.#location = location
    this.#env = options.env
    this.#clock = options.clock
  }

  /** Throws {@link AccessError}. */
  async read(): Promise<RequestAccess> {
    const config = await this.#config()
    const { user, server, tlsServerName, insecureSkipTlsVerify } = config
    const exec = user.exec && (await this.#execSource(user.exec).read(config))
    const ca = await readMaterial(config.certificateAuthority)
    const cert = exec?.certificate ?? (await readMaterial(user.clientCertificate))
    const key = exec?.key ?? (await readMaterial(user.clientKey))
    return {
      server,
      authorization: await authorizationOf(config, exec?.token),
      tls: {
        ...(ca !== undefined && { ca }),
        ...(cert !== undefined && { cert }),
        ...(key !== undefined && { key }),
        ...(tlsServerName !== undefined && { servername: tlsServerName }),
        rejectUnauthorized: !insecureSkipTlsVerify,
      },
    }
  }

  /** Whether the location can be read; credentials are not looked at. Throws {@link AccessError}. */
  async check(): Promise<{ readonly server: URL }> {
    return await this.#config()
  }

  /** The server said 401: a credential that was made is made anew. */
  refused(): void {
    this.#exec?.source.forget()
  }

  async #config(): Promise<ClusterConfig> {
    if (this.#location.kind === 'in-cluster') return inClusterConfig(this.#env, serviceAccountFolder)
    const { path, context } = this.#location
    const text = (await readSecretFile(path)).toString()
    return parseKubeconfig(text, { path, ...(context !== undefined && { context }) })
  }

  #execSource(plugin: ExecPlugin): ExecCredentialSource {
    const text = JSON.stringify(plugin)
    if (this.#exec?.plugin !== text) {
      const source = new ExecCredentialSource(plugin, { env: this.#env, clock: this.#clock })
      this.#exec = { plugin: text, source }
    }
    return this.#exec.source
  }
}

/** The configuration of a pod's service account (client-go: rest.InClusterConfig). Throws {@link AccessError}. */
export function inClusterConfig(env: Readonly<Record<string, string | undefined>>, folder: string): ClusterConfig {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? ''
  const port = env['KUBERNETES_SERVICE_PORT'] ?? ''
  if (host === '' || port === '') {
    throw new AccessError(
      'this is no pod of a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set',
    )
  }
  const server = URL.parse(`https://${host.includes(':') ? `[${host}]` : host}:${port}`)
  if (!server) throw new AccessError(`KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are no address`)
  return {
    server,
    certificateAuthority: { kind: 'file', path: join(folder, 'ca.crt') },
    insecureSkipTlsVerify: false,
    user: { tokenFile: join(folder, 'token') },
  }
}

async function authorizationOf({ user }: ClusterConfig, execToken: string | undefined): Promise<string | undefined> {
  if (user.tokenFile !== undefined) {
    const token = (await readSecretFile(user.tokenFile)).toString().trim()
    if (token === '') throw new AccessError(`${user.tokenFile} is empty (expected a token)`)
    return `Bearer ${token}`
  }
  const token = user.token ?? execToken
  if (token !== undefined) return `Bearer ${token}`
  if (user.username === undefined) return undefined
  return `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}`
}

async function readMaterial(material: Material | undefined): Promise<Buffer | undefined> {
  if (material === undefined) return undefined
  return material.kind === 'inline' ? material.bytes : await readSecretFile(material.path)
}

async function readSecretFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new AccessError(`cannot read ${path}: ${code}`, { cause: error })
  }
}
