import type { ManifestReader } from '../model/manifest-reader.ts'
import { parseCidr, parseNetwork, type Cidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { schedulers } from '../ipvs/objects.ts'
import type { IpvsSettings } from '../proxy-ipvs/ipvs-mode.ts'
import { parseGoDuration } from '../net/go-duration.ts'
import type { KeyTree } from './unknown-keys.ts'

/** The ways to bring Services to the kernel. */
export const serviceModes = ['nftables', 'iptables', 'ipvs', 'userspace'] as const

/** See {@link serviceModes}. */
export type ServiceMode = (typeof serviceModes)[number]

/** `services` of the configuration. */
export interface ServicesConfig {
  readonly mode: ServiceMode
  /** Where Services without a clusterIP get one from; at most one per family. Empty: they get none. */
  readonly serviceCIDRs: readonly Cidr[]
  readonly detectLocal: DetectLocal
  /** Local addresses that NodePorts are served on. Empty: all but loopback ones. */
  readonly nodePortAddresses: readonly NodePortAddress[]
  /** False: not on loopback addresses, even where `nodePortAddresses` names them (kube-proxy's iptables.localhostNodePorts). */
  readonly localhostNodePorts: boolean
  /** Counts as the node's own address in its family, before those of its Node object. @default none */
  readonly primaryAddress?: IpAddress
  readonly masqueradeAll: boolean
  /** Which bit of the packet mark asks for masquerade, 0 to 31. */
  readonly masqueradeBit: number
  /** Whether externalIPs are served. */
  readonly externalIPs: boolean
  /** Pause between the end of one sync and the start of the next, in ms, while changes keep coming. */
  readonly minSyncPeriodMs: number
  /** For mode ipvs; read once, when the mode begins. @default the kernel's timeouts, scheduler rr */
  readonly ipvs?: IpvsSettings
  /** A change that is not in the kernel after this long makes the daemon unhealthy, ms. */
  readonly overdueMs: number
}

/** How packets of this node's (or the cluster's) pods are told from others. */
export type DetectLocal =
  /** By source address; the networks' own subnets count too. */
  | { readonly kind: 'cluster'; readonly cidrs: readonly Cidr[] }
  /** By source address: the `podCIDRs` of this node's Node object, as they are at the moment. */
  | { readonly kind: 'node' }
  /** By the interface that they come in at; with `prefix`, all whose names begin with `name`. */
  | { readonly kind: 'interface'; readonly name: string; readonly prefix: boolean }
  | { readonly kind: 'none' }

/** Networks, or a word: `primary`, the addresses of the Node object; `localhost`, 127.0.0.1 and ::1; `all`, all others. */
export type NodePortAddress = Cidr | NodePortWord

/** See {@link NodePortAddress}. */
export type NodePortWord = 'primary' | 'localhost' | 'all'

/** Keys of `services`. */
export const servicesKeys = {
  enabled: true,
  mode: true,
  serviceCIDRs: true,
  clusterCIDRs: true,
  detectLocalMode: true,
  detectLocal: { bridgeInterface: true, interfaceNamePrefix: true },
  nodePortAddresses: true,
  masqueradeAll: true,
  masqueradeBit: true,
  externalIPs: true,
  minSyncPeriodMs: true,
  ipvs: { scheduler: true, strictARP: true, tcpTimeout: true, tcpFinTimeout: true, udpTimeout: true },
} as const satisfies KeyTree

/** A change older than this is overdue unless the configuration says else, ms: twice kube-proxy's default sync period. */
export const defaultOverdueMs = 60_000

/** Reads `services`; undefined when it is switched off. Problems go to the reader. */
export function readServices(reader: ManifestReader): ServicesConfig | undefined {
  const serviceCIDRs = oneFamilyEach(reader, 'serviceCIDRs', reader.parsedTexts('serviceCIDRs', parseNetwork))
  const services: ServicesConfig = {
    mode: reader.oneOf('mode', serviceModes) ?? 'nftables',
    serviceCIDRs: serviceCIDRs.length > 0 ? serviceCIDRs : [parseCidr('10.96.0.0/12'), parseCidr('fd00:10:96::/112')],
    detectLocal: readDetectLocal(reader),
    nodePortAddresses: reader.parsedTexts('nodePortAddresses', parseNodePortAddress),
    localhostNodePorts: true,
    masqueradeAll: reader.boolean('masqueradeAll') ?? false,
    masqueradeBit: reader.integer('masqueradeBit', { min: 0, max: 31 }) ?? 14,
    externalIPs: reader.boolean('externalIPs') ?? true,
    minSyncPeriodMs: reader.integer('minSyncPeriodMs', { min: 0, max: 3_600_000 }) ?? 100,
    overdueMs: defaultOverdueMs,
    ...(reader.has('ipvs') && { ipvs: readIpvs(reader.object('ipvs')) }),
  }
  return (reader.boolean('enabled') ?? true) ? services : undefined
}

/** `ipvs`, in our configuration as in kube-proxy's: timeouts are Go durations; an empty scheduler is rr. */
export function readIpvs(reader: ManifestReader): IpvsSettings {
  const seconds = (key: string): number => Math.round((reader.parsedText(key, parseGoDuration) ?? 0) / 1000)
  return {
    scheduler: reader.oneOf('scheduler', ['', ...schedulers]) || 'rr',
    strictARP: reader.boolean('strictARP') ?? false,
    timeouts: { tcp: seconds('tcpTimeout'), tcpFin: seconds('tcpFinTimeout'), udp: seconds('udpTimeout') },
  }
}

const localModes = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const

function readDetectLocal(reader: ManifestReader): DetectLocal {
  const mode = reader.oneOf('detectLocalMode', [...localModes, 'none'])
  const cidrs = reader.parsedTexts('clusterCIDRs', parseNetwork)
  return mode === 'none' ? { kind: 'none' } : detectLocalOf(reader, mode ?? 'ClusterCIDR', cidrs)
}

/** What `detectLocalMode` and `detectLocal` mean together, in our configuration as in kube-proxy's. */
export function detectLocalOf(
  reader: ManifestReader,
  mode: (typeof localModes)[number],
  cidrs: readonly Cidr[],
): DetectLocal {
  const names = reader.object('detectLocal')
  const bridge = names.parsedText('bridgeInterface', parseInterface)
  const prefix = names.parsedText('interfaceNamePrefix', parseInterface)
  const needed = (key: string, name: string | undefined): string =>
    name ?? names.fail(key, `is missing (detectLocalMode ${mode} needs it)`) ?? ''
  switch (mode) {
    case 'ClusterCIDR':
      return { kind: 'cluster', cidrs }
    case 'NodeCIDR':
      return { kind: 'node' }
    case 'BridgeInterface':
      return { kind: 'interface', name: needed('bridgeInterface', bridge), prefix: false }
    case 'InterfaceNamePrefix':
      return { kind: 'interface', name: needed('interfaceNamePrefix', prefix), prefix: true }
    default:
      return mode satisfies never
  }
}

/** `primary`, `localhost`, `all` or a network; host bits are let pass, as kube-proxy does. */
export function parseNodePortAddress(text: string): NodePortAddress {
  if (text === 'primary' || text === 'localhost' || text === 'all') return text
  try {
    return parseCidr(text)
  } catch (error) {
    const reason = `"${text}" is not known here (expected primary, localhost, all or a network like 10.0.0.0/8)`
    throw new ParseError(reason, { cause: error })
  }
}

/** An interface name that the kernel takes (IFNAMSIZ); an empty one counts as absent. */
function parseInterface(text: string): string | undefined {
  if (text === '') return undefined
  if (text.length <= 15 && !/[\s/]/.test(text)) return text
  throw new ParseError(`"${text}" is not an interface name (expected at most 15 characters, no spaces, no slash)`)
}

/** At most one network per family. */
export function oneFamilyEach(reader: ManifestReader, key: string, cidrs: readonly Cidr[]): readonly Cidr[] {
  for (const marker of ['.', ':']) {
    if (cidrs.filter((cidr) => cidr.address.includes(marker)).length > 1) {
      reader.fail(key, `more than one ${marker === '.' ? 'IPv4' : 'IPv6'} network (expected at most one per family)`)
    }
  }
  return cidrs
}
