import { hostname } from 'node:os'
import { ManifestReader, show } from '../model/manifest-reader.ts'
import type { FieldProblem } from '../model/manifest-error.ts'
import { parseCidr, type Cidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { ConntrackSettings } from './conntrack-settings.ts'
import { parseGoDuration } from '../net/go-duration.ts'
import { kubeProxyApi, kubeProxyDefaults, kubeProxyKeys, withoutEffect } from './kube-proxy-keys.ts'
import { parseListen, type ListenAddress } from './listen-address.ts'
import { detectLocalOf, oneFamilyEach, parseNodePortAddress, readIpvs, type ServicesConfig } from './services-config.ts'
import { unknownKeys } from './unknown-keys.ts'

/** What a KubeProxyConfiguration asks for. */
export interface KubeProxyConfiguration {
  /** In lower case, as kube-proxy has it. */
  readonly nodeName: string
  readonly services: ServicesConfig
  readonly logLevel: 'debug' | 'info'
  readonly logFormat: 'text' | 'json'
  readonly kubeProxy: KubeProxyParts
}

/** What only such a file has: kube-proxy's servers and its settings of the machine. */
export interface KubeProxyParts {
  readonly healthz: ListenAddress
  readonly metrics: ListenAddress
  /** Stop when a server cannot listen; otherwise it is tried again every 5 s. */
  readonly bindAddressHardFail: boolean
  readonly oomScoreAdj: number
  readonly conntrack: ConntrackSettings
  /** The file with kube-proxy's defaults filled in, as `/configz` shows it. */
  readonly effective: Readonly<Record<string, unknown>>
  /** Keys of the file that change nothing here, each with the reason. */
  readonly notes: readonly string[]
}

/** Whether a parsed YAML file is meant as kube-proxy's configuration. */
export function isKubeProxyConfiguration(raw: unknown): boolean {
  return typeof raw === 'object' && raw !== null && 'kind' in raw && raw.kind === kubeProxyApi.kind
}

/** Reads a KubeProxyConfiguration (v1alpha1); problems, unknown keys among them, are in the list that comes with it. */
export function readKubeProxyConfiguration(raw: unknown): {
  readonly configuration: KubeProxyConfiguration
  readonly problems: readonly FieldProblem[]
} {
  const reader = ManifestReader.of(raw)
  reader.oneOf('apiVersion', [kubeProxyApi.apiVersion])
  if (!reader.has('apiVersion')) reader.fail('apiVersion', `is missing (expected ${kubeProxyApi.apiVersion})`)
  reader.problems.push(...unknownKeys(raw, kubeProxyKeys, ''))
  const services = readServices(reader)
  const logging = reader.object('logging')
  const verbosity = logging.integer('verbosity', { min: 0, max: 100 }) ?? 0
  const configuration: KubeProxyConfiguration = {
    nodeName: (reader.parsedText('hostnameOverride', trimmed) || hostname()).toLowerCase(),
    services,
    logLevel: verbosity >= debugVerbosity ? 'debug' : 'info',
    logFormat: logging.oneOf('format', ['text', 'json', '']) === 'json' ? 'json' : 'text',
    kubeProxy: {
      ...readServers(reader),
      bindAddressHardFail: reader.boolean('bindAddressHardFail') ?? false,
      oomScoreAdj: reader.integer('oomScoreAdj', { min: -1000, max: 1000 }) ?? kubeProxyDefaults.oomScoreAdj,
      conntrack: readConntrack(reader.object('conntrack')),
      effective: withDefaults(raw),
      notes: notesOf(raw, services.mode),
    },
  }
  checkTypes(reader, services.mode)
  return { configuration, problems: reader.problems }
}

/** klog's level for what kube-proxy says while debugging. */
const debugVerbosity = 4

function readServices(reader: ManifestReader): ServicesConfig {
  const mode = readMode(reader)
  // userspace mode, until it was removed in 1.26, took the settings of iptables.
  const ofMode = readModeSettings(reader.object(mode === 'nftables' ? 'nftables' : 'iptables'))
  const periods = mode === 'ipvs' ? readModeSettings(reader.object('ipvs')) : ofMode
  if (mode === 'nftables') readModeSettings(reader.object('iptables'))
  else readModeSettings(reader.object('nftables'))
  const localhost = reader.object('iptables').boolean('localhostNodePorts') ?? true
  const addresses = reader.parsedTexts('nodePortAddresses', parseNodePortAddress)
  const localMode =
    reader.oneOf('detectLocalMode', ['', 'ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix']) ||
    'ClusterCIDR'
  const bindAddress = reader.parsedText('bindAddress', (text) => (text === '' ? undefined : parseIp(text)))
  return {
    mode,
    serviceCIDRs: [],
    detectLocal: detectLocalOf(reader, localMode, readClusterCIDR(reader)),
    // An empty list is no list: what kube-proxy does in nftables mode holds in every mode.
    nodePortAddresses: addresses.length > 0 ? addresses : ['primary'],
    localhostNodePorts: mode !== 'iptables' || localhost,
    ...(bindAddress !== undefined && !isUnspecified(bindAddress) && { primaryAddress: bindAddress }),
    masqueradeAll: ofMode.masqueradeAll,
    masqueradeBit: ofMode.masqueradeBit,
    externalIPs: true,
    minSyncPeriodMs: periods.minSyncPeriodMs,
    overdueMs: 2 * periods.syncPeriodMs,
    ...(mode === 'ipvs' && { ipvs: readIpvs(reader.object('ipvs')) }),
  }
}

/** An absent mode is iptables, as in kube-proxy 1.36. */
function readMode(reader: ManifestReader): ServicesConfig['mode'] {
  const mode = reader.text('mode')
  switch (mode) {
    case 'nftables':
    case 'iptables':
    case 'ipvs':
    case 'userspace':
      return mode
    case undefined:
    case '':
      return 'iptables'
    case 'kernelspace':
      reader.fail('mode', '"kernelspace" is for Windows (expected nftables, iptables, ipvs or userspace)')
      return 'iptables'
    default:
      reader.fail('mode', `${show(mode)} is not known here (expected nftables, iptables, ipvs or userspace)`)
      return 'iptables'
  }
}

interface ModeSettings {
  readonly masqueradeAll: boolean
  readonly masqueradeBit: number
  readonly syncPeriodMs: number
  readonly minSyncPeriodMs: number
}

function readModeSettings(section: ManifestReader): ModeSettings {
  // Zero stands for the default, in kube-proxy too.
  const syncPeriodMs = section.parsedText('syncPeriod', parseGoDuration) || 30_000
  const minSyncPeriodMs = section.parsedText('minSyncPeriod', parseGoDuration) ?? 0
  if (minSyncPeriodMs > syncPeriodMs) section.fail('syncPeriod', 'is shorter than minSyncPeriod')
  return {
    masqueradeAll: section.boolean('masqueradeAll') ?? false,
    masqueradeBit: section.integer('masqueradeBit', { min: 0, max: 31 }) ?? 14,
    syncPeriodMs,
    // kube-proxy's default is a second, since its syncs are dear. Ours need no such rest; what the file asks for counts.
    minSyncPeriodMs: minSyncPeriodMs || 20,
  }
}

function readClusterCIDR(reader: ManifestReader): readonly Cidr[] {
  const parse = (text: string): readonly Cidr[] =>
    text === '' ? [] : text.split(',').map((part) => parseCidr(part.trim()))
  return oneFamilyEach(reader, 'clusterCIDR', reader.parsedText('clusterCIDR', parse) ?? [])
}

/** `bindAddress` binds nothing; its family chooses the default addresses (v1alpha1/defaults.go). */
function readServers(reader: ManifestReader): Pick<KubeProxyParts, 'healthz' | 'metrics'> {
  const bindAddress = reader.raw('bindAddress')
  const six = typeof bindAddress === 'string' && bindAddress.includes(':')
  const read = (key: string, host: string, port: number): ListenAddress => {
    const parse = (text: string): ListenAddress => (text === '' ? { host, port } : parseListen(withPort(text, port)))
    return reader.parsedText(key, parse) ?? { host, port }
  }
  return {
    healthz: read('healthzBindAddress', six ? '::' : '0.0.0.0', 10_256),
    metrics: read('metricsBindAddress', six ? '::1' : '127.0.0.1', 10_249),
  }
}

/** A bare IP address gets the port (kube-proxy's AppendPortIfNeeded). */
function withPort(text: string, port: number): string {
  try {
    const ip = parseIp(text)
    return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
  } catch (error) {
    if (error instanceof ParseError) return text
    throw error
  }
}

function readConntrack(reader: ManifestReader): ConntrackSettings {
  const { conntrack } = kubeProxyDefaults
  const count = { min: 0, max: 2 ** 31 - 1 }
  const duration = (key: keyof typeof conntrack): number =>
    reader.parsedText(key, parseGoDuration) ?? parseGoDuration(String(conntrack[key]))
  return {
    maxPerCore: reader.integer('maxPerCore', count) ?? conntrack.maxPerCore,
    min: reader.integer('min', count) ?? conntrack.min,
    tcpEstablishedTimeoutMs: duration('tcpEstablishedTimeout'),
    tcpCloseWaitTimeoutMs: duration('tcpCloseWaitTimeout'),
    tcpBeLiberal: reader.boolean('tcpBeLiberal') ?? false,
    udpTimeoutMs: duration('udpTimeout'),
    udpStreamTimeoutMs: duration('udpStreamTimeout'),
  }
}

/** Looks at the keys that nothing else reads, so that a wrong type is said there too. */
function checkTypes(reader: ManifestReader, mode: ServicesConfig['mode']): void {
  const client = reader.object('clientConnection')
  for (const key of ['kubeconfig', 'acceptContentTypes', 'contentType']) client.text(key)
  client.integer('burst', { min: 0, max: 2 ** 31 - 1 })
  client.parsed('qps', parseNumber)
  const ipvs = reader.object('ipvs')
  for (const key of ['syncPeriod', 'minSyncPeriod']) ipvs.parsedText(key, parseGoDuration)
  // Another mode does not care which scheduler it is.
  if (mode !== 'ipvs') {
    for (const key of ['tcpTimeout', 'tcpFinTimeout', 'udpTimeout']) ipvs.parsedText(key, parseGoDuration)
    ipvs.text('scheduler')
    ipvs.boolean('strictARP')
  }
  ipvs.parsedTexts('excludeCIDRs', parseCidr)
  const winkernel = reader.object('winkernel')
  for (const key of ['networkName', 'sourceVip', 'rootHnsEndpointName']) winkernel.text(key)
  for (const key of ['enableDSR', 'forwardHealthCheckVip']) winkernel.boolean(key)
  for (const key of ['enableProfiling', 'windowsRunAsService']) reader.boolean(key)
  for (const key of ['portRange', 'showHiddenMetricsForVersion']) reader.text(key)
  reader.parsedText('configSyncPeriod', parseGoDuration)
  reader.object('featureGates')
}

function parseNumber(value: unknown): number {
  if (typeof value === 'number' && value >= 0) return value
  throw new ParseError(`${show(value)} is not a number of at least 0`)
}

function notesOf(raw: unknown, mode: string): string[] {
  const reader = ManifestReader.of(raw)
  const notes = Object.entries(withoutEffect).flatMap(([path, reason]) => {
    if (path === 'ipvs' && mode === 'ipvs') return []
    const [section = '', key] = path.split('.')
    const value = key === undefined ? reader.raw(section) : ManifestReader.of(reader.raw(section) ?? {}).raw(key)
    return isTelling(value, path) ? [`${path} has no effect: ${reason}`] : []
  })
  const other = mode === 'nftables' ? 'iptables' : 'nftables'
  if (isTelling(reader.raw(other), other)) notes.push(`${other} has no effect: mode is ${mode}`)
  return notes
}

/** Whether a key says something: tools write every key, most with the value that means nothing or the default. */
function isTelling(value: unknown, path: string): boolean {
  const standard = path
    .split('.')
    .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], kubeProxyDefaults)
  if (value === undefined || value === null || value === '' || value === false || value === 0) return false
  if (value === '0' || value === '0s' || value === standard) return false
  if (Array.isArray(value)) return value.length > 0
  if (typeof value !== 'object') return true
  return Object.entries(value).some(([key, inner]) => isTelling(inner, `${path}.${key}`))
}

function withDefaults(raw: unknown): Readonly<Record<string, unknown>> {
  return merge(kubeProxyDefaults, raw) as Readonly<Record<string, unknown>>
}

/** `over` where it says something, `under` elsewhere. */
function merge(under: unknown, over: unknown): unknown {
  if (over === undefined || over === null || over === '') return under ?? over
  if (typeof over !== 'object' || Array.isArray(over) || typeof under !== 'object' || under === null) return over
  const keys = new Set([...Object.keys(under), ...Object.keys(over)])
  const at = (object: unknown, key: string): unknown => (object as Record<string, unknown>)[key]
  return Object.fromEntries([...keys].map((key) => [key, merge(at(under, key), at(over, key))]))
}

function isUnspecified(ip: IpAddress): boolean {
  return ip === '0.0.0.0' || ip === '::'
}

function trimmed(text: string): string {
  return text.trim()
}
