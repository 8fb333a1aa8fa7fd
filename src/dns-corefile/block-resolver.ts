import { readFileSync } from 'node:fs'
import type { Log } from '../base/log.ts'
import { AccessRules, minimalAny } from '../dns/access-rules.ts'
import { ExternalNames } from '../dns/external-names.ts'
import { HostsNames } from '../dns/hosts-names.ts'
import { PodNamespaces } from '../dns/pod-namespaces.ts'
import type { NameStage } from '../dns/resolve.ts'
import type { ResolverOptions } from '../dns/resolver.ts'
import { Rewrites } from '../dns/rewrites.ts'
import { PodSearchPaths } from '../dns/search-path.ts'
import { isAtOrBelow, type Name, type NameKey, nameText } from '../dns-message/name.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { CacheBlock, CorefileBlock, Fallthrough, HostsBlock } from './corefile.ts'
import { ForwardTable } from './forward-table.ts'

export interface BlockResolverOptions {
  readonly log: Log
  /** Addresses that this server listens on. */
  readonly addresses: readonly IpAddress[]
  readonly lostFor: () => number | undefined
  /** Search domains of the node that pods have behind the cluster's. */
  readonly searchDomains: readonly Name[]
}

/** What a server block starts: options for a `Resolver`, and what follows files for it until it is disposed. */
export interface BlockParts extends Disposable {
  readonly options: ResolverOptions
  readonly hosts: HostsNames | undefined
}

/** Makes of a server block what answers its names. Throws the error of a certificate file that cannot be read. */
export function openBlock(block: CorefileBlock, options: BlockResolverOptions): BlockParts {
  using stack = new DisposableStack()
  const { kubernetes } = block
  const { log, addresses, lostFor } = options
  const isOwn = (address: IpAddress) => block.port === 53 && addresses.includes(address)
  const forwards = stack.use(new ForwardTable(block.forwards, { isOwn, log }))
  const hosts = block.hosts && stack.use(openHosts(block.hosts, log))
  const pods = block.searchPaths ? new PodNamespaces() : undefined
  const stages: NameStage[] = [
    ...(pods ? [pods] : []),
    ...(block.any ? [minimalAny] : []),
    ...block.access.map((rules) => new AccessRules(rules)),
    ...(hosts ? [hosts] : []),
    ...(block.external
      ? [new ExternalNames({ ...block.external, passesOn: block.external.fallthrough, serverAddresses: addresses })]
      : []),
  ]
  const passesOn = kubernetes && keysOf(kubernetes.fallthrough)
  const limit = block.forwards.find(({ maxConcurrent }) => maxConcurrent !== undefined)?.maxConcurrent
  const authorities = block.forwards.find(({ tlsAuthorities }) => tlsAuthorities !== undefined)?.tlsAuthorities
  const resolver: ResolverOptions = {
    cluster: kubernetes !== undefined,
    ...(kubernetes && {
      zone: nameText(kubernetes.zone),
      ttl: kubernetes.ttl,
      pods: kubernetes.pods,
      zoneOptions: {
        endpointPodNames: kubernetes.endpointPodNames,
        ignoreEmptyService: kubernetes.ignoreEmptyService,
        ...(kubernetes.namespaces && { namespaces: new Set(kubernetes.namespaces) }),
      },
      reverse: { zones: kubernetes.reverseZones, passesOn: passesOn ?? (() => false) },
    }),
    // Only where it speaks about names of the cluster: finished answers cannot be passed on.
    ...(kubernetes && passesOn?.(kubernetes.zone.key) && { passesOn }),
    ...(pods &&
      kubernetes && {
        search: new PodSearchPaths({
          zone: kubernetes.zone,
          namespaceOf: (client) => pods.namespaceOf(client),
          more: options.searchDomains,
        }),
      }),
    stages,
    ...(block.rewrites.length > 0 && { rewriter: new Rewrites(block.rewrites) }),
    ...(!forwards.coversAll && { refuses: (key: NameKey) => !forwards.forwards(key) }),
    serversOf: (name) => forwards.serversOf(name),
    epoch: () => forwards.epoch,
    ...(authorities !== undefined && { tlsAuthorities: readFileSync(authorities, 'utf8') }),
    resolvConf: '/etc/resolv.conf',
    lostFor,
    log,
    cache: cacheOf(block.cache),
    ...(limit !== undefined && { limits: { maxForwarded: limit } }),
  }
  const opened = stack.move()
  return { options: resolver, hosts, [Symbol.dispose]: () => opened.dispose() }
}

function openHosts(block: HostsBlock, log: Log): HostsNames {
  const passesOn = keysOf(block.fallthrough)
  return new HostsNames({
    file: block.file,
    zones: block.zones,
    entries: block.entries,
    ttl: block.ttl,
    reverse: block.reverse,
    interval: block.reloadMs,
    passesOn: passesOn ?? (() => false),
    log,
  })
}

/** Undefined: no name falls through. */
function keysOf(fallthrough: Fallthrough): ((key: NameKey) => boolean) | undefined {
  if (fallthrough === 'none') return undefined
  if (fallthrough === 'all') return () => true
  return (key) => fallthrough.some((zone) => isAtOrBelow(key, zone.key))
}

/** Without `cache` nothing is remembered. */
function cacheOf(cache: CacheBlock | undefined): NonNullable<ResolverOptions['cache']> {
  if (!cache) return { maxEntries: 0, maxDenials: 0, maxStale: 0, prefetch: false }
  return {
    maxEntries: cache.success.capacity,
    maxDenials: cache.denial.capacity,
    maxTtl: cache.success.ttl,
    maxNegativeTtl: cache.denial.ttl,
    maxStale: cache.serveStale,
    prefetch: cache.prefetch,
  }
}
