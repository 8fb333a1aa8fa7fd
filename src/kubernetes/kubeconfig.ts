import { dirname, resolve } from 'node:path'
import { load } from 'js-yaml'
import { formatFieldProblem } from '../model/manifest-error.ts'
import { ManifestReader, show } from '../model/manifest-reader.ts'
import { AccessError } from './api-error.ts'

/** Bytes that stand in the kubeconfig (base64 there), or in a file. */
export type Material =
  | { readonly kind: 'inline'; readonly bytes: Buffer }
  | { readonly kind: 'file'; readonly path: string }

/** How a user of a kubeconfig says who it is. */
export interface UserCredentials {
  readonly token?: string
  /** Read anew for each request: tokens of pods are replaced every hour. Counts over `token`. */
  readonly tokenFile?: string
  readonly username?: string
  readonly password?: string
  readonly clientCertificate?: Material
  readonly clientKey?: Material
  readonly exec?: ExecPlugin
}

/** A program that prints a credential (client.authentication.k8s.io). */
export interface ExecPlugin {
  readonly apiVersion: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly provideClusterInfo: boolean
  readonly installHint: string | undefined
}

/** One API server, and how to speak to it. */
export interface ClusterConfig {
  readonly server: URL
  readonly certificateAuthority?: Material
  readonly insecureSkipTlsVerify: boolean
  readonly tlsServerName?: string
  readonly user: UserCredentials
}

/**
 * Reads a kubeconfig (v1 Config) and picks its current context, or `context`. Relative paths in it are relative to its
 * folder. Throws {@link AccessError}, which names the field and never a secret.
 */
export function parseKubeconfig(
  text: string,
  from: { readonly path: string; readonly context?: string },
): ClusterConfig {
  if (text.trim() === '') throw new AccessError(`${from.path} is empty (expected a kubeconfig)`)
  let raw: unknown
  try {
    raw = load(text)
  } catch (error) {
    // The parser's message shows the line, which may be a token.
    const { mark } = error as { mark?: { line?: number } }
    const line = mark?.line === undefined ? '' : ` (line ${mark.line + 1})`
    throw new AccessError(`${from.path} is not YAML${line}`)
  }
  const reader = ManifestReader.of(raw)
  const fail = (reason: string): never => {
    throw new AccessError(`${from.path}: ${reason}`)
  }
  const wanted = from.context ?? reader.text('current-context') ?? ''
  const contexts = [...reader.objects('contexts')]
  if (wanted === '' && contexts.length === 0) fail('has no contexts (expected a kubeconfig with current-context)')
  const context = entry(reader, 'contexts', wanted)?.object('context')
  if (!context) return fail(`there is no context ${show(wanted)} (current-context)`)
  const clusterName = context.text('cluster') ?? ''
  const cluster = entry(reader, 'clusters', clusterName)?.object('cluster')
  if (!cluster) return fail(`context ${show(wanted)}: there is no cluster ${show(clusterName)}`)
  const userName = context.text('user') ?? ''
  const user = userName === '' ? undefined : entry(reader, 'users', userName)?.object('user')
  if (userName !== '' && !user) return fail(`context ${show(wanted)}: there is no user ${show(userName)}`)
  const folder = dirname(from.path)
  const server = readServer(cluster)
  const config: Omit<ClusterConfig, 'server'> = {
    ...material(cluster, 'certificate-authority', folder, 'certificateAuthority'),
    insecureSkipTlsVerify: cluster.boolean('insecure-skip-tls-verify') ?? false,
    ...optional('tlsServerName', cluster.text('tls-server-name')),
    // A credential never goes over a connection that anybody can read (client-go: IsConfigTransportTLS).
    user: user && server?.protocol === 'https:' ? readUser(user, folder) : {},
  }
  if ((cluster.text('proxy-url') ?? '') !== '') cluster.fail('proxy-url', 'is not supported')
  const [problem] = reader.problems
  if (problem || !server) return fail(problem ? formatFieldProblem(problem) : 'has no server')
  return { server, ...config }
}

/** The entry of a list of named things. */
function entry(reader: ManifestReader, list: string, name: string): ManifestReader | undefined {
  return [...reader.objects(list)].find((candidate) => candidate.raw('name') === name)
}

function readServer(cluster: ManifestReader): URL | undefined {
  const text = cluster.text('server') ?? ''
  if (text === '') return cluster.fail('server', 'is missing (expected a URL like https://10.0.0.1:6443)')
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  if (url && (url.protocol === 'https:' || url.protocol === 'http:')) return url
  return cluster.fail('server', `${show(text)} is not a URL (expected like https://10.0.0.1:6443)`)
}

function readUser(user: ManifestReader, folder: string): UserCredentials {
  if (user.has('auth-provider')) user.fail('auth-provider', 'is gone from Kubernetes since 1.26 (expected exec)')
  const tokenFile = user.text('tokenFile') ?? ''
  const credentials: UserCredentials = {
    ...optional('token', user.text('token') || undefined),
    ...optional('tokenFile', tokenFile === '' ? undefined : resolve(folder, tokenFile)),
    ...optional('username', user.text('username') || undefined),
    ...optional('password', user.text('password') || undefined),
    ...material(user, 'client-certificate', folder, 'clientCertificate'),
    ...material(user, 'client-key', folder, 'clientKey'),
    ...optional('exec', user.has('exec') ? readExec(user.object('exec'), folder) : undefined),
  }
  if (credentials.clientCertificate && !credentials.clientKey)
    user.fail('client-key', 'is missing beside the certificate')
  return credentials
}

const execVersions = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'] as const

function readExec(exec: ManifestReader, folder: string): ExecPlugin {
  const env: Record<string, string> = {}
  for (const variable of exec.objects('env')) env[variable.text('name') ?? ''] = variable.text('value') ?? ''
  const command = exec.text('command') ?? ''
  if (command === '') exec.fail('command', 'is missing')
  if (exec.text('interactiveMode') === 'Always') exec.fail('interactiveMode', 'is Always, and a daemon has no terminal')
  return {
    apiVersion:
      exec.oneOf('apiVersion', execVersions) ??
      exec.fail('apiVersion', `is missing (expected ${execVersions[0]})`) ??
      '',
    // As the shell has it: a name is looked up in PATH, a path is relative to the kubeconfig.
    command: command.includes('/') ? resolve(folder, command) : command,
    args: exec.parsedTexts('args', (text) => text),
    env,
    provideClusterInfo: exec.boolean('provideClusterInfo') ?? false,
    installHint: exec.text('installHint'),
  }
}

/** `name-data` counts over `name`. */
function material<Key extends string>(
  reader: ManifestReader,
  name: string,
  folder: string,
  key: Key,
): { [_ in Key]?: Material } {
  const inline = reader.text(`${name}-data`) ?? ''
  const path = reader.text(name) ?? ''
  if (inline !== '') return one(key, { kind: 'inline', bytes: Buffer.from(inline, 'base64') })
  return path === '' ? {} : one(key, { kind: 'file', path: resolve(folder, path) })
}

function optional<Key extends string, V>(key: Key, value: V | undefined): { [_ in Key]?: V } {
  return value === undefined ? {} : one(key, value)
}

function one<Key extends string, V>(key: Key, value: V): { [_ in Key]?: V } {
  return { [key]: value } as { [_ in Key]?: V }
}
