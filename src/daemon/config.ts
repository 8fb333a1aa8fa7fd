import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, resolve } from 'node:path'
import { loadAll } from 'js-yaml'
import { formatFieldProblem, type FieldProblem } from '../model/manifest-error.ts'
import { ManifestReader } from '../model/manifest-reader.ts'
import { unusableRangeOf } from '../bridge/unusable-ranges.ts'
import type { BridgeSettings } from '../model/network.ts'
import { networkFields, readNetworkSettings } from '../model/read-network-settings.ts'
import { parseLabelName } from '../model/names.ts'
import { parseCidr, parseNetwork, type Cidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'

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
  }
  /** The default network, whose bridge has the cluster DNS addresses. */
  readonly network: BridgeSettings | undefined
  /** Further networks. */
  readonly networks: readonly BridgeSettings[]
  /** `network.dockerUser`. `auto`: where Docker is, let packets of our bridges through its chain DOCKER-USER; `off`: do not. */
  readonly dockerUser: 'auto' | 'off'
  readonly services: ServicesConfig | undefined
  readonly dns: DnsConfig | undefined
  readonly http: {
    /** `HOST:PORT` of /metrics, /healthz and /readyz. Default `127.0.0.1:10249`. Undefined: none. */
    readonly listen: { readonly host: string; readonly port: number } | undefined
  }
  readonly log: { readonly level: LogLevel; readonly format: 'text' | 'json' }
  /** Remove everything from the kernel at exit. Default false: the dataplane goes on without the daemon. */
  readonly cleanupOnExit: boolean
}

export interface ServicesConfig {
  readonly mode: 'nftables'
  /** Where Services without a clusterIP get one from; at most one per family. */
  readonly serviceCIDRs: readonly Cidr[]
  /** Addresses of pods of all nodes. Traffic from them is local. The networks' own subnets count always. */
  readonly clusterCIDRs: readonly Cidr[]
  /** NodePorts are served on local addresses in these. Empty: on all but loopback ones. */
  readonly nodePortAddresses: readonly Cidr[]
  readonly masqueradeAll: boolean
  /** Pause between the end of one sync and the start of the next, in ms, while changes keep coming. */
  readonly minSyncPeriodMs: number
}

export interface DnsConfig {
  readonly addresses: readonly IpAddress[]
  readonly port: number
  readonly zone: string
  readonly ttl: number
  readonly resolvConf: string
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
  sources: { files: true },
  network: { enabled: true, dockerUser: true, name: true, ...networkFields },
  // Its elements have the same keys.
  networks: true,
  services: {
    enabled: true,
    mode: true,
    serviceCIDRs: true,
    clusterCIDRs: true,
    nodePortAddresses: true,
    masqueradeAll: true,
    minSyncPeriodMs: true,
  },
  dns: { enabled: true, addresses: true, port: true, zone: true, ttl: true, resolvConf: true },
  http: { enabled: true, listen: true },
  log: { level: true, format: true },
  cleanupOnExit: true,
} as const

type KeyTree = { readonly [key: string]: true | KeyTree }

/** Reads and checks a configuration file. Paths in it are relative to it. Throws {@link ConfigError}. */
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
  return parseConfig(raw, { origin: file, relativeTo: dirname(file) })
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
  const config: Config = {
    nodeName: reader.parsedText('nodeName', parseNotEmpty) ?? hostname(),
    stateDir: reader.parsedText('stateDir', absolute) ?? '/var/lib/fairlead',
    controlSocket: reader.parsedText('controlSocket', absolute) ?? '/run/fairlead/control.sock',
    sources: { files: sources.parsedTexts('files', absolute) },
    network: readNetwork(reader.object('network')),
    networks: readNetworks(reader),
    dockerUser: reader.object('network').oneOf('dockerUser', ['auto', 'off']) ?? 'auto',
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

/** How many problems a message lists. */
const shownProblems = 20

/** All of them, unless the file is something else altogether. */
function listProblems(problems: readonly FieldProblem[]): string {
  const shown = problems.slice(0, shownProblems).map(formatFieldProblem).join('; ')
  return problems.length > shownProblems ? `${shown}; and ${problems.length - shownProblems} more` : shown
}

function readNetwork(reader: ManifestReader): BridgeSettings | undefined {
  const name = reader.parsedText('name', parseLabelName) ?? 'default'
  const network = readNetworkSettings(reader, { name, bridge: 'fl0' })
  return (reader.boolean('enabled') ?? true) ? network : undefined
}

function readNetworks(reader: ManifestReader): readonly BridgeSettings[] {
  const elements = reader.list('networks')
  for (const [index, element] of elements.entries()) {
    reader.problems.push(...unknownKeys(element, { name: true, ...networkFields }, `networks[${index}]`))
  }
  return Array.from(reader.objects('networks'), (element) => {
    if (!element.has('name')) element.fail('name', 'is missing')
    return readNetworkSettings(element, { name: element.parsedText('name', parseLabelName) ?? '' })
  })
}

function readServices(reader: ManifestReader): ServicesConfig | undefined {
  const serviceCIDRs = oneFamilyEach(reader, 'serviceCIDRs', reader.parsedTexts('serviceCIDRs', parseNetwork))
  const services = {
    mode: reader.oneOf('mode', ['nftables']) ?? ('nftables' as const),
    serviceCIDRs: serviceCIDRs.length > 0 ? serviceCIDRs : [parseCidr('10.96.0.0/12'), parseCidr('fd00:10:96::/112')],
    clusterCIDRs: reader.parsedTexts('clusterCIDRs', parseNetwork),
    nodePortAddresses: reader.parsedTexts('nodePortAddresses', parseNetwork),
    masqueradeAll: reader.boolean('masqueradeAll') ?? false,
    minSyncPeriodMs: reader.integer('minSyncPeriodMs', { min: 0, max: 3_600_000 }) ?? 100,
  }
  return (reader.boolean('enabled') ?? true) ? services : undefined
}

function readDns(reader: ManifestReader, absolute: (text: string) => string): DnsConfig | undefined {
  const addresses = reader.parsedTexts('addresses', parseDnsAddress)
  const dns = {
    addresses: addresses.length > 0 ? addresses : [parseIp('10.96.0.10')],
    port: reader.integer('port', { min: 1, max: 65_535 }) ?? 53,
    zone: reader.parsedText('zone', parseZone) ?? 'cluster.local',
    ttl: reader.integer('ttl', { min: 0, max: 3600 }) ?? 5,
    resolvConf: reader.parsedText('resolvConf', absolute) ?? '/etc/resolv.conf',
  }
  return (reader.boolean('enabled') ?? true) ? dns : undefined
}

function readHttp(reader: ManifestReader): Config['http']['listen'] {
  const listen = reader.parsedText('listen', parseListen) ?? { host: '127.0.0.1', port: 10_249 }
  return (reader.boolean('enabled') ?? true) ? listen : undefined
}

function oneFamilyEach(reader: ManifestReader, key: string, cidrs: readonly Cidr[]): readonly Cidr[] {
  for (const marker of ['.', ':']) {
    if (cidrs.filter((cidr) => cidr.address.includes(marker)).length > 1) {
      reader.fail(key, `more than one ${marker === '.' ? 'IPv4' : 'IPv6'} network (expected at most one per family)`)
    }
  }
  return cidrs
}

function parseNotEmpty(text: string): string {
  if (text.trim() !== '') return text
  throw new ParseError('is empty')
}

/** It is put on the bridge, so it must be one that a host can have. */
function parseDnsAddress(text: string): IpAddress {
  const ip = parseIp(text)
  const clash = unusableRangeOf({ address: ip, prefix: ip.includes(':') ? 128 : 32 })
  if (clash) throw new ParseError(`"${text}" cannot be put on the bridge: it is ${clash}`)
  return ip
}

function parseZone(text: string): string {
  const zone = text.replace(/\.$/, '').toLowerCase()
  if (zone.length <= 200 && /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/.test(zone))
    return zone
  throw new ParseError(`"${text}" is not a DNS zone (expected a name like cluster.local)`)
}

function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match && port <= 65_535) return { host: parseIp(match[1] ?? match[2] ?? ''), port }
  throw new ParseError(
    `"${text}" is not an address to listen on (expected IP:PORT, like 127.0.0.1:10249 or [::1]:10249)`,
  )
}

function unknownKeys(raw: unknown, known: KeyTree, path: string): FieldProblem[] {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return []
  return Object.entries(raw).flatMap(([key, value], index): FieldProblem[] => {
    const full = path === '' ? key : `${path}.${key}`
    const entry = Object.hasOwn(known, key) ? known[key] : undefined
    if (entry === undefined) {
      // Beyond those that are shown, nobody reads what was meant.
      if (index >= shownProblems) return [{ path: full, reason: 'unknown key' }]
      const near = nearest(key, Object.keys(known))
      const expected =
        near === undefined ? `expected one of: ${Object.keys(known).join(', ')}` : `did you mean ${near}?`
      return [{ path: full, reason: `unknown key (${expected})` }]
    }
    return entry === true ? [] : unknownKeys(value, entry, full)
  })
}

/** The word that a typo most likely meant: at most two edits away. */
function nearest(word: string, words: readonly string[]): string | undefined {
  const scored = words.map((candidate) => ({
    candidate,
    distance: editDistance(word.toLowerCase(), candidate.toLowerCase()),
  }))
  const best = scored.toSorted((a, b) => a.distance - b.distance)[0]
  return best && best.distance <= 2 ? best.candidate : undefined
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitution)
    }
    row = next
  }
  return row[b.length] ?? 0
}
