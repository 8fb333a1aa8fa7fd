import type { Log } from '../base/log.ts'
import { ExternalNames } from '../dns/external-names.ts'
import { HostsNames } from '../dns/hosts-names.ts'
import type { NetworkNames } from '../dns/network-names.ts'
import { PodNamespaces } from '../dns/pod-namespaces.ts'
import { QueryFeed } from '../dns/query-feed.ts'
import { QueryLog } from '../dns/query-log.ts'
import type { NameStage } from '../dns/resolve.ts'
import { PodSearchPaths } from '../dns/search-path.ts'
import { createDnsServer, type DnsServer } from '../dns/server.ts'
import { parseName } from '../dns-message/name.ts'
import type { Cidr } from '../net/cidr.ts'
import { createCoreDnsMetrics, type ServedBlock } from './coredns-metrics.ts'
import type { DnsConfig } from './dns-config.ts'
import { DnsHttp } from './dns-http.ts'
import { DnsTop } from './dns-top.ts'

export interface OpenDnsOptions {
  readonly names: NetworkNames | undefined
  /** Those of Services and pods. */
  readonly ownNetworks: readonly Cidr[]
  readonly lostFor: () => number | undefined
  /** What is waited for until names that are unknown do not exist. */
  readonly waitingFor: () => readonly string[]
  readonly version: string
  readonly log: Log
  /** Where what is opened is put, to be ended with the daemon. */
  readonly stack: AsyncDisposableStack
}

/** The cluster DNS of the daemon, and those who watch it. */
export interface OpenDns {
  readonly server: DnsServer
  readonly feed: QueryFeed
  readonly top: DnsTop
}

/** Opens the cluster DNS as the configuration says it. Rejects with ListenError, and with DnsHttpError for CoreDNS's other ports. */
export async function openDns(config: DnsConfig, options: OpenDnsOptions): Promise<OpenDns> {
  const { log, stack } = options
  const { upstreams, domains: rules, hosts, hostsFile, externalZones, serverSideSearch, ...rest } = config
  const pods = serverSideSearch ? new PodNamespaces() : undefined
  const written = hosts.length > 0 || hostsFile !== undefined
  const hostsNames = written ? stack.use(new HostsNames({ file: hostsFile, entries: hosts, log })) : undefined
  const stages: NameStage[] = [
    ...(pods ? [pods] : []),
    ...(hostsNames ? [hostsNames] : []),
    ...(externalZones.length > 0
      ? [new ExternalNames({ zones: externalZones, ttl: config.ttl, serverAddresses: config.addresses })]
      : []),
  ]
  const top = new DnsTop()
  const queryLog = config.log && new QueryLog({ ...config.log, write: (line) => log.info(line, 'DNS query') })
  const feed = stack.use(
    new QueryFeed({
      taps: [
        top,
        ...(queryLog ? [{ every: 1, seen: (query: Parameters<QueryLog['seen']>[0]) => queryLog.seen(query) }] : []),
      ],
      onLost: (lost) => log.debug({ lost }, 'More DNS queries were answered than could be looked at'),
    }),
  )
  const { addresses, port, zone, ttl, resolvConf, workers } = rest
  const server = stack.use(
    createDnsServer({
      addresses,
      port,
      zone,
      ttl,
      pods: rest.pods,
      resolvConf,
      workers,
      rules,
      ...(upstreams && { upstreams }),
      zoneOptions: { ownNetworks: options.ownNetworks },
      stages,
      ...(pods && {
        search: new PodSearchPaths({ zone: parseName(zone), namespaceOf: (client) => pods.namespaceOf(client) }),
      }),
      lostFor: options.lostFor,
      ...(options.names && { networkNames: options.names }),
      seen: feed.seen,
      log,
    }),
  )
  await openHttp({ server, hostsNames }, config, options)
  await server.listen()
  feed.follow(server.samples)
  return { server, feed, top }
}

async function openHttp(
  { server, hostsNames }: { readonly server: DnsServer; readonly hostsNames: HostsNames | undefined },
  config: DnsConfig,
  { version, waitingFor, log, stack }: OpenDnsOptions,
): Promise<void> {
  const block: ServedBlock = {
    server: `dns://${config.addresses[0] ?? ''}:${config.port}`,
    zone: '.',
    counts: () => server.counts,
    counters: () => server.resolver.counters,
    upstreams: () => server.resolver.upstreams,
    plugins: ['kubernetes', 'forward', 'cache', ...(hostsNames ? ['hosts'] : [])],
    hosts: hostsNames && (() => hostsNames.size),
  }
  const { metrics, ready, health } = config.listen
  const http = stack.use(new DnsHttp({ metrics: createCoreDnsMetrics(version, () => [block]), waitingFor, log }))
  await http.configure([
    ...(metrics ? [{ kind: 'metrics' as const, listen: metrics, key: 'dns.metricsListen' }] : []),
    ...(ready ? [{ kind: 'ready' as const, listen: ready, key: 'dns.readyListen' }] : []),
    ...(health ? [{ kind: 'health' as const, listen: health, key: 'dns.healthListen' }] : []),
  ])
}
