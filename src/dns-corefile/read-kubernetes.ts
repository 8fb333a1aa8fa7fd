import { type Name, rootName } from '../dns-message/name.ts'
import { reverseZoneOf } from '../dns-message/reverse-name.ts'
import type { ExternalBlock, Fallthrough, HostsBlock, KubernetesBlock } from './corefile.ts'
import type { DirectiveReader } from './directive-reader.ts'
import type { PodNames } from '../dns/cluster-zone.ts'
import { parseHostsEntry, type HostsEntry } from '../dns/hosts-names.ts'
import { isIP } from 'node:net'

/** What readers of plugins know of the file. */
export interface PluginContext {
  /** Of the server block. */
  readonly zones: readonly Name[]
  /** A path as the file means it. */
  readonly path: (text: string) => string
  /** Tells that something is accepted, but not as CoreDNS has it. */
  readonly note: (reader: DirectiveReader, text: string) => void
}

const kubernetesOptions = [
  'kubeconfig',
  'pods',
  'ttl',
  'fallthrough',
  'endpoint_pod_names',
  'namespaces',
  'labels',
  'ignore',
  'startup_timeout',
  'apiserver_qps',
  'apiserver_burst',
  'apiserver_max_inflight',
]

/** `kubernetes [ZONES...] { ... }` */
export function readKubernetes(reader: DirectiveReader, { zones, path, note }: PluginContext): KubernetesBlock {
  const named = reader.args.length > 0 ? reader.zones(reader.args) : zones
  const reverseZones = named.filter(({ key }) => reverseZoneOf(key))
  const [zone, ...others] = named.filter(({ key }) => !reverseZoneOf(key))
  if (others.length > 0) reader.fail('names more than one cluster zone (expected one, and reverse zones beside it)')
  let block: KubernetesBlock = {
    zone: zone ?? rootName,
    reverseZones,
    kubeconfig: undefined,
    pods: 'disabled',
    ttl: 5,
    fallthrough: 'none',
    endpointPodNames: false,
    ignoreEmptyService: false,
    namespaces: undefined,
    labels: undefined,
  }
  if (!zone) reader.fail('has reverse zones only (expected a cluster zone like cluster.local beside them)')
  for (const line of reader.lines()) {
    const { args } = line
    switch (line.directive.name) {
      case 'kubeconfig': {
        const [file = '', context] = line.expect(1, 2, 'kubeconfig FILE [CONTEXT]').args
        block = { ...block, kubeconfig: { path: path(file), context } }
        break
      }
      case 'pods':
        block = { ...block, pods: podsOf(line.expect(1, 1, 'pods disabled|insecure|verified')) }
        break
      case 'ttl':
        block = { ...block, ttl: line.expect(1, 1, 'ttl SECONDS').integer(args[0], { min: 0, max: 3600 }) }
        break
      case 'fallthrough':
        block = { ...block, fallthrough: readFallthrough(line) }
        break
      case 'endpoint_pod_names':
        block = { ...block, endpointPodNames: true }
        break
      case 'namespaces':
        block = { ...block, namespaces: line.expect(1, 1000, 'namespaces NAME...').args }
        break
      case 'labels':
        block = { ...block, labels: line.expect(1, 1000, 'labels SELECTOR').args.join(' ') }
        break
      case 'ignore':
        if (args.join(' ') !== 'empty_service') line.fail(`"${args.join(' ')}" (expected ignore empty_service)`)
        block = { ...block, ignoreEmptyService: true }
        break
      case 'startup_timeout':
      case 'apiserver_qps':
      case 'apiserver_burst':
      case 'apiserver_max_inflight':
        note(line, 'names that are known are answered at once, and each kind of object has one list and one watch')
        break
      default:
        line.unknown(kubernetesOptions)
    }
  }
  return block
}

const podModes: readonly PodNames[] = ['disabled', 'insecure', 'verified']

function podsOf(line: DirectiveReader): PodNames {
  const mode = podModes.find((mode) => mode === line.args[0])
  return mode ?? line.fail(`"${line.args[0]}" is no way to name pods (expected ${podModes.join(', ')})`)
}

/** `fallthrough [ZONES...]` */
export function readFallthrough(line: DirectiveReader): Fallthrough {
  return line.args.length === 0 ? 'all' : line.zones(line.args)
}

/** `k8s_external [ZONES...] { apex ttl fallthrough }` */
export function readExternal(reader: DirectiveReader, { zones }: PluginContext): ExternalBlock {
  const named = reader.args.length > 0 ? reader.zones(reader.args) : zones
  let block: ExternalBlock = { zones: named, apex: 'dns', ttl: 5, fallthrough: false }
  for (const line of reader.lines()) {
    switch (line.directive.name) {
      case 'apex':
        block = { ...block, apex: (line.expect(1, 1, 'apex LABEL').args[0] ?? '').toLowerCase() }
        break
      case 'ttl':
        block = { ...block, ttl: line.expect(1, 1, 'ttl SECONDS').integer(line.args[0], { min: 0, max: 3600 }) }
        break
      case 'fallthrough':
        block = { ...block, fallthrough: true }
        break
      default:
        line.unknown(['apex', 'ttl', 'fallthrough'])
    }
  }
  return block
}

/** `hosts [FILE [ZONES...]] { INLINE ttl no_reverse reload fallthrough }` */
export function readHosts(reader: DirectiveReader, { zones, path }: PluginContext): HostsBlock {
  const [file, ...named] = reader.args
  const entries: HostsEntry[] = []
  let block: HostsBlock = {
    // As in CoreDNS: without a file and without entries it is the machine's own.
    file: file === undefined ? undefined : path(file),
    zones: named.length > 0 ? reader.zones(named) : zones,
    entries,
    ttl: 3600,
    reverse: true,
    reloadMs: 5000,
    fallthrough: 'none',
  }
  for (const line of reader.lines()) {
    const { name } = line.directive
    if (isIP(name) !== 0) entries.push(line.parse(name, () => parseHostsEntry([name, ...line.args])))
    else if (name === 'ttl')
      block = { ...block, ttl: line.expect(1, 1, 'ttl SECONDS').integer(line.args[0], { min: 1, max: 65_535 }) }
    else if (name === 'no_reverse') block = { ...block, reverse: false }
    else if (name === 'reload')
      block = { ...block, reloadMs: line.duration(line.expect(1, 1, 'reload DURATION').args[0] ?? '') }
    else if (name === 'fallthrough') block = { ...block, fallthrough: readFallthrough(line) }
    else line.unknown(['ADDRESS NAME...', 'ttl', 'no_reverse', 'reload', 'fallthrough'])
  }
  return file === undefined && entries.length === 0 ? { ...block, file: '/etc/hosts' } : block
}
