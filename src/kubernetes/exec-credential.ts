import type { Clock } from '../base/clock.ts'
import { run, RunError } from '../linux/exec.ts'
import { AccessError } from './api-error.ts'
import type { ClusterConfig, ExecPlugin } from './kubeconfig.ts'

/** What a plugin printed. */
export interface ExecCredential {
  readonly token: string | undefined
  readonly certificate: string | undefined
  readonly key: string | undefined
  /** Milliseconds since 1970; undefined: good until the server refuses it. */
  readonly expires: number | undefined
}

/** A plugin that takes longer hangs, ms. */
const patienceMs = 60_000
/** A credential this close to its end is not used any more, ms: the request has a way to go. */
const marginMs = 5_000

/** Runs a credential plugin when a credential is needed and the last one is used up. One run at a time. */
export class ExecCredentialSource {
  readonly #plugin: ExecPlugin
  readonly #options: { readonly env: Readonly<Record<string, string | undefined>>; readonly clock: Clock }
  #last: ExecCredential | undefined
  #running: Promise<ExecCredential> | undefined

  /** `env` is the environment that the plugin's own variables are added to. */
  constructor(
    plugin: ExecPlugin,
    options: { readonly env: Readonly<Record<string, string | undefined>>; readonly clock: Clock },
  ) {
    this.#plugin = plugin
    this.#options = options
  }

  /** Throws {@link AccessError}. */
  async read(cluster: ClusterConfig): Promise<ExecCredential> {
    const last = this.#last
    const now = this.#options.clock.now().getTime()
    if (last && (last.expires === undefined || now < last.expires - marginMs)) return last
    this.#running ??= this.#run(cluster).finally(() => (this.#running = undefined))
    return (this.#last = await this.#running)
  }

  /** The server refused the last one. */
  forget(): void {
    this.#last = undefined
  }

  async #run(cluster: ClusterConfig): Promise<ExecCredential> {
    const { command, args, env, apiVersion, installHint } = this.#plugin
    const info = { apiVersion, kind: 'ExecCredential', spec: this.#spec(cluster) }
    try {
      const result = await run([command, ...args], {
        env: { ...this.#options.env, ...env, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
        timeout: patienceMs,
      })
      if (result.code !== 0) {
        const said = result.stderr.trim().split('\n').at(-1) ?? ''
        throw new AccessError(`the credential plugin ${command} failed with ${result.code ?? result.signal}: ${said}`)
      }
      return parseExecCredential(result.stdout, { command, apiVersion })
    } catch (error) {
      if (!(error instanceof RunError)) throw error
      const hint = error.code === 'ENOENT' && installHint !== undefined ? ` (${installHint.trim()})` : ''
      const reason =
        error.code === 'ENOENT' ? 'no such program' : error.code === 'ETIMEDOUT' ? 'it hangs' : error.message
      throw new AccessError(`the credential plugin ${command} cannot be run: ${reason}${hint}`, { cause: error })
    }
  }

  #spec(cluster: ClusterConfig): object {
    if (!this.#plugin.provideClusterInfo) return { interactive: false }
    const { server, certificateAuthority, insecureSkipTlsVerify, tlsServerName } = cluster
    return {
      interactive: false,
      cluster: {
        server: server.href,
        'insecure-skip-tls-verify': insecureSkipTlsVerify,
        ...(tlsServerName !== undefined && { 'tls-server-name': tlsServerName }),
        ...(certificateAuthority?.kind === 'inline' && {
          'certificate-authority-data': certificateAuthority.bytes.toString('base64'),
        }),
      },
    }
  }
}

/** Reads the ExecCredential that a plugin printed. Throws {@link AccessError}, without what was printed: it has secrets. */
export function parseExecCredential(text: string, from: { command: string; apiVersion: string }): ExecCredential {
  const fail = (reason: string): never => {
    throw new AccessError(`the credential plugin ${from.command} ${reason}`)
  }
  let raw: Record<string, unknown>
  try {
    raw = objectOf(JSON.parse(text))
  } catch {
    return fail('printed no JSON')
  }
  if (raw['kind'] !== 'ExecCredential' || raw['apiVersion'] !== from.apiVersion) {
    return fail(`printed no ExecCredential of ${from.apiVersion}`)
  }
  const status = objectOf(raw['status'])
  const field = (key: string): string | undefined => {
    const value = status[key]
    return typeof value === 'string' && value !== '' ? value : undefined
  }
  const token = field('token')
  const certificate = field('clientCertificateData')
  const key = field('clientKeyData')
  if (token === undefined && certificate === undefined) return fail('printed neither a token nor a certificate')
  if ((certificate === undefined) !== (key === undefined))
    return fail('printed a certificate without its key, or a key alone')
  const expiration = field('expirationTimestamp')
  const expires = expiration === undefined ? undefined : Date.parse(expiration)
  if (Number.isNaN(expires)) return fail('printed an expirationTimestamp that is no time')
  return { token, certificate, key, expires }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
