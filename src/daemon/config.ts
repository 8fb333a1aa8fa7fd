import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, resolve } from 'node:path'
import { loadAll } from 'js-yaml'
import { formatFieldProblem, type FieldProblem } from '../model/manifest-error.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import type { BridgeSettings, NetworkSettings } from '../model/network.ts'
import {
  bridgeNetworkFields,
  networkFields,
  readBridgeSettings,
  readNetworkSettings,
} from '../model/read-network-settings.ts'
import { parseLabelName } from '../model/names.ts'
import { ParseError } from '../net/parse-error.ts'
import {
  isKubeProxyConfiguration,
  readKubeProxyConfiguration,
  type KubeProxyParts,
} from './kube-proxy-configuration.ts'
import { parseListen, type ListenAddress } from './listen-address.ts'
import { kubeProxyKubernetes, readKubernetes, type KubernetesConfig } from './kubernetes-config.ts'
import { apiKeys, readApi, type ApiConfig } from './api-config.ts'
import { dockerKeys, readDocker, type DockerConfig } from './docker-config.ts'
import { dnsKeys, readDns, type DnsConfig } from './dns-config.ts'
import { nodeKeys, noNode, readNode, type NodeConfig } from './node-config.ts'
import { readServices, servicesKeys, type ServicesConfig } from './services-config.ts'
import { shownProblems, unknownKeys } from './unknown-keys.ts'

/** Everything that can be said to the daemon. `docs/config.md` lists the keys with their defaults. */
export interface Config {
  /** This node's name: endpoints with it are local. Default: the host name. */
  readonly nodeName: string
  /** Where leases and pods are remembered. Default `/var/lib/fairlead`. */
  readonly stateDir: string
  /** The control socket. Default `/run/fairlead/control.sock`. */
  readonly controlSocket: string
  readonly sources: {
    /** Files or folders of manifests, watched. */
    readonly files: readonly string[]
    /** The API server that is followed. */
    readonly kubernetes: KubernetesConfig | undefined
    /** The Docker engine whose labelled containers are followed. */
    readonly docker?: DockerConfig | undefined
  }
  /** The embedded API server. Default: there is one, unless another one is followed. */
  readonly api: ApiConfig | undefined
  /** What this machine is to other nodes. */
  readonly node: NodeConfig
  /** The default network, whose bridge has the cluster DNS addresses. */
  readonly network: BridgeSettings | undefined
  /** Further networks. */
  readonly networks: readonly NetworkSettings[]
  /** `network.dockerUser`. `auto`: where Docker is, let packets of our bridges through its chain DOCKER-USER; `off`: do not. */
  readonly dockerUser: 'auto' | 'off'
  /** `network.firewall`. What masquerades, publishes ports and guards pods of all bridge networks. */
  readonly firewall: 'nftables' | 'iptables'
  readonly services: ServicesConfig | undefined
  readonly dns: DnsConfig | undefined
  readonly http: {
    /** `HOST:PORT` of /metrics, /healthz and /readyz. Default `127.0.0.1:10249`. Undefined: none. */
    readonly listen: ListenAddress | undefined
  }
  readonly log: { readonly level: LogLevel; readonly format: 'text' | 'json' }
  /** Remove everything from the kernel at exit. Default false: the dataplane goes on without the daemon. */
  readonly cleanupOnExit: boolean
  /** Of a KubeProxyConfiguration: it starts the proxy and nothing else, with kube-proxy's own servers. */
  readonly kubeProxy?: KubeProxyParts
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** A configuration that cannot be used; every problem names the key, the value and what was expected. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** The known keys; a nested object for a section. What is not here is a typo. */
export const knownKeys = {
  nodeName: true,
  stateDir: true,
  controlSocket: true,
  sources: { files: true, kubernetes: { kubeconfig: true, context: true, inCluster: true }, docker: dockerKeys },
  api: apiKeys,
  node: nodeKeys,
  network: { enabled: true, dockerUser: true, firewall: true, name: true, ...bridgeNetworkFields },
  // Its elements have the same keys.
  networks: true,
  services: servicesKeys,
  dns: dnsKeys,
  http: { enabled: true, listen: true },
  log: { level: true, format: true },
  cleanupOnExit: true,
} as const

/** Reads and checks a configuration file, ours or kube-proxy's. Paths in it are relative to it. Throws {@link ConfigError}. */
export function loadConfig(file: string): Config {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new ConfigError(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, { cause: error })
  }
  let raw: unknown
  try {
    const documents = loadAll(text).filter((document) => document !== null)
    if (documents.length > 1) throw new ConfigError(`${file} has ${documents.length} documents (expected one)`)
    // A file without content, or with comments only, has none.
    raw = documents[0] ?? {}
  } catch (error) {
    if (error instanceof ConfigError) throw error
    throw new ConfigError(`${file} is not YAML: ${(error as Error).message}`, { cause: error })
  }
  if (isKubeProxyConfiguration(raw)) return parseKubeProxyConfig(raw, { origin: file })
  return parseConfig(raw, { origin: file, relativeTo: dirname(file) })
}

/** Checks a KubeProxyConfiguration: the configuration of a daemon that proxies Services and does nothing else. */
export function parseKubeProxyConfig(raw: unknown, from: { origin: string }): Config {
  const { configuration, problems } = readKubeProxyConfiguration(raw)
  if (problems.length > 0) throw new ConfigError(`${from.origin}: ${listProblems(problems)}`)
  const { nodeName, services, logLevel, logFormat, kubeProxy } = configuration
  return {
    ...defaultConfig(),
    nodeName,
    sources: { files: [], kubernetes: kubeProxyKubernetes(raw) },
    api: undefined,
    node: noNode,
    network: undefined,
    networks: [],
    dockerUser: 'off',
    firewall: 'nftables',
    services,
    dns: undefined,
    http: { listen: undefined },
    log: { level: logLevel, format: logFormat },
    kubeProxy,
  }
}

/** The configuration that an empty file means. */
export function defaultConfig(): Config {
  return parseConfig({}, { origin: 'defaults', relativeTo: '/' })
}

/** Checks a configuration and fills in defaults. Throws {@link ConfigError} that lists all problems. */
export function parseConfig(raw: unknown, from: { origin: string; relativeTo: string }): Config {
  const reader = ManifestReader.of(raw)
  const problems = reader.problems
  for (const problem of unknownKeys(raw, knownKeys, '')) problems.push(problem)
  const absolute = (text: string): string => resolve(from.relativeTo, parseNotEmpty(text))

  const sources = reader.object('sources')
  const kubernetes = readKubernetes(sources.object('kubernetes'), absolute)
  const nodeName = reader.parsedText('nodeName', parseNotEmpty) ?? hostname()
  const api = readApi(reader.object('api'), { absolute, followsOther: kubernetes !== undefined })
  const config: Config = {
    nodeName,
    stateDir: reader.parsedText('stateDir', absolute) ?? '/var/lib/fairlead',
    controlSocket: reader.parsedText('controlSocket', absolute) ?? '/run/fairlead/control.sock',
    sources: {
      files: sources.parsedTexts('files', absolute),
      kubernetes,
      docker: readDocker(sources.object('docker'), absolute),
    },
    api,
    node: readNode(reader.object('node'), {
      nodeName,
      ownApi: api !== undefined,
      followsOther: kubernetes !== undefined,
    }),
    network: readNetwork(reader.object('network')),
    networks: readNetworks(reader),
    dockerUser: reader.object('network').oneOf('dockerUser', ['auto', 'off']) ?? 'auto',
    firewall: reader.object('network').oneOf('firewall', ['nftables', 'iptables']) ?? 'nftables',
    services: readServices(reader.object('services')),
    dns: readDns(reader.object('dns'), absolute),
    http: { listen: readHttp(reader.object('http')) },
    log: {
      level: reader.object('log').oneOf('level', ['debug', 'info', 'warn', 'error']) ?? 'info',
      format: reader.object('log').oneOf('format', ['text', 'json']) ?? 'json',
    },
    cleanupOnExit: reader.boolean('cleanupOnExit') ?? false,
  }
  if (problems.length > 0) throw new ConfigError(`${from.origin}: ${listProblems(problems)}`)
  return config
}

/** All of them, unless the file is something else altogether. */
function listProblems(problems: readonly FieldProblem[]): string {
  const shown = problems.slice(0, shownProblems).map(formatFieldProblem).join('; ')
  return problems.length > shownProblems ? `${shown}; and ${problems.length - shownProblems} more` : shown
}

function readNetwork(reader: ManifestReader): BridgeSettings | undefined {
  const name = reader.parsedText('name', parseLabelName) ?? 'default'
  const network = readBridgeSettings(reader, { name, bridge: 'fl0' })
  return (reader.boolean('enabled') ?? true) ? network : undefined
}

function readNetworks(reader: ManifestReader): readonly NetworkSettings[] {
  const elements = reader.list('networks')
  for (const [index, element] of elements.entries()) {
    reader.problems.push(...unknownKeys(element, { name: true, ...networkFields }, `networks[${index}]`))
  }
  return Array.from(reader.objects('networks'), (element) => {
    if (!element.has('name')) element.fail('name', 'is missing')
    return readNetworkSettings(element, { name: element.parsedText('name', parseLabelName) ?? '' })
  })
}

function readHttp(reader: ManifestReader): Config['http']['listen'] {
  const listen = reader.parsedText('listen', parseListen) ?? { host: '127.0.0.1', port: 10_249 }
  return (reader.boolean('enabled') ?? true) ? listen : undefined
}

function parseNotEmpty(text: string): string {
  if (text.trim() !== '') return text
  throw new ParseError('is empty')
}

/** It is put on the bridge, so it must be one that a host can have. */
