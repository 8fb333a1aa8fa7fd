import { unusableRangeOf } from '../bridge/unusable-ranges.ts'
import type { PodNames } from '../dns/cluster-zone.ts'
import { defaultWorkers } from '../dns/fast-path.ts'
import type { HostsEntry } from '../dns/hosts-names.ts'
import { parseClients, parseRcode, readQueryFilter, type QueryFilter } from '../dns/query-log.ts'
import { type Name, parseName } from '../dns-message/name.ts'
import { parseType } from '../dns-message/type-names.ts'
import { type ForwardRule, parseUpstream, type Upstream } from '../dns-forward/upstream.ts'
import type { ManifestReader } from '../model/manifest-reader.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { DnsHttpKind } from './dns-http.ts'
import { parseListen, type ListenAddress } from './listen-address.ts'

/** The section `dns` of the configuration. */
export interface DnsConfig {
  readonly addresses: readonly IpAddress[]
  readonly port: number
  readonly zone: string
  /** Seconds. */
  readonly ttl: number
  readonly pods: PodNames
  readonly resolvConf: string
  /** Resolvers to ask instead of the node's own; undefined: none are named. */
  readonly upstreams: readonly Upstream[] | undefined
  /** Other resolvers for the names of some domains. */
  readonly domains: readonly ForwardRule[]
  /** Names that are written down, in the configuration or in a hosts file. */
  readonly hosts: readonly HostsEntry[]
  readonly hostsFile: string | undefined
  /** Zones of the outside addresses of Services. */
  readonly externalZones: readonly Name[]
  /** Pods are brought to the end of their search path in one question. */
  readonly serverSideSearch: boolean
  /** Threads that answer names of the cluster over UDP; 0: none, the main thread does it. */
  readonly workers: number
  /** CoreDNS's ports; undefined: not served. */
  readonly listen: Readonly<Record<DnsHttpKind, ListenAddress | undefined>>
  /** Which queries are logged; undefined: none. */
  readonly log: DnsLogConfig | undefined
}

export interface DnsLogConfig extends QueryFilter {
  readonly oneIn: number
}

/** The known keys. Those of `domains` are the user's. */
export const dnsKeys = {
  enabled: true,
  addresses: true,
  port: true,
  zone: true,
  ttl: true,
  pods: true,
  resolvConf: true,
  upstreams: true,
  domains: true,
  hosts: true,
  hostsFile: true,
  externalZones: true,
  serverSideSearch: true,
  workers: true,
  metricsListen: true,
  readyListen: true,
  healthListen: true,
  log: { enabled: true, clients: true, names: true, types: true, rcodes: true, oneIn: true },
} as const

const podNames: readonly PodNames[] = ['disabled', 'insecure', 'verified']

/** Reads the section; undefined when DNS is not wanted. `absolute` makes paths relative to the file. */
export function readDns(reader: ManifestReader, absolute: (text: string) => string): DnsConfig | undefined {
  const addresses = reader.parsedTexts('addresses', parseDnsAddress)
  const upstreams = reader.parsedTexts('upstreams', parseUpstream)
  const dns: DnsConfig = {
    addresses: addresses.length > 0 ? addresses : [parseIp('10.96.0.10')],
    port: reader.integer('port', { min: 1, max: 65_535 }) ?? 53,
    zone: reader.parsedText('zone', parseZone) ?? 'cluster.local',
    ttl: reader.integer('ttl', { min: 0, max: 3600 }) ?? 5,
    pods: reader.oneOf('pods', podNames) ?? 'insecure',
    resolvConf: reader.parsedText('resolvConf', absolute) ?? '/etc/resolv.conf',
    upstreams: upstreams.length > 0 ? upstreams : undefined,
    domains: readDomains(reader.object('domains')),
    hosts: readHosts(reader.object('hosts')),
    hostsFile: reader.parsedText('hostsFile', absolute),
    externalZones: reader.parsedTexts('externalZones', parseName),
    serverSideSearch: reader.boolean('serverSideSearch') ?? false,
    workers: reader.integer('workers', { min: 0, max: 64 }) ?? defaultWorkers(),
    listen: {
      metrics: reader.parsedText('metricsListen', parseListen),
      ready: reader.parsedText('readyListen', parseListen),
      health: reader.parsedText('healthListen', parseListen),
    },
    log: reader.has('log') ? readLog(reader.object('log')) : undefined,
  }
  // To ask ourselves would be a loop.
  for (const { key, address, port } of [dns.upstreams ?? [], ...dns.domains.map(({ servers }) => servers)].flat()) {
    if (port === dns.port && dns.addresses.includes(address))
      reader.fail('upstreams', `"${key}" is the cluster DNS itself`)
  }
  return (reader.boolean('enabled') ?? true) ? dns : undefined
}

function readDomains(reader: ManifestReader): ForwardRule[] {
  return reader.keys().flatMap((key): ForwardRule[] => {
    const servers = reader.parsedTexts(key, parseUpstream)
    if (reader.list(key).length === 0) reader.fail(key, 'names no resolver (expected a list of them)')
    try {
      return [{ domain: parseName(key), servers }]
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      reader.fail(key, error.message)
      return []
    }
  })
}

/** By name: its addresses. */
function readHosts(reader: ManifestReader): HostsEntry[] {
  return reader.keys().flatMap((key): HostsEntry[] => {
    const addresses = reader.parsedTexts(key, parseIp)
    if (reader.list(key).length === 0) reader.fail(key, 'has no address (expected a list of them)')
    try {
      const name = parseName(key)
      return addresses.map((address) => ({ address, names: [name] }))
    } catch (error) {
      if (!(error instanceof ParseError)) throw error
      reader.fail(key, error.message)
      return []
    }
  })
}

function readLog(reader: ManifestReader): DnsLogConfig | undefined {
  const filter = readQueryFilter({
    clients: reader.parsedTexts('clients', parseClients),
    names: reader.parsedTexts('names', parseName),
    types: reader.parsedTexts('types', parseType),
    rcodes: reader.parsedTexts('rcodes', parseRcode),
  })
  const oneIn = reader.integer('oneIn', { min: 1, max: 1_000_000 }) ?? 1
  return (reader.boolean('enabled') ?? true) ? { ...filter, oneIn } : undefined
}

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
