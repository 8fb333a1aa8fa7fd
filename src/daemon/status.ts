import { fullness } from '../bridge/bridge-full.ts'
import type { HostNetworks } from '../bridge/host-networks.ts'
import type { DnsServer } from '../dns/server.ts'
import { formatCidr } from '../net/cidr.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import type { ServiceConnections } from '../proxy/service-connections.ts'
import type { HealthCheckServers } from '../proxy/health-check-servers.ts'
import type { SyncLoop, SyncOutcome, SyncStatus } from '../proxy/sync-loop.ts'
import type { MergedSources } from '../sources/merge.ts'
import { formatProblem, type FollowingSource, type Source } from '../sources/source.ts'
import type { Config } from './config.ts'
import { SliceCounts } from './slice-counts.ts'
import type {
  ApiView,
  DnsView,
  NetworkView,
  ServiceConnectionsView,
  ServicesView,
  StatusView,
  SyncView,
} from './control-api.ts'
import type { PodControl } from './pod-control.ts'
import type { ClusterMember } from './open-node.ts'
import { viewSource } from './view-source.ts'

/** A change older than this that is not in the kernel makes the daemon unhealthy, ms. Twice kube-proxy's sync period. */
const overdueMs = 60_000

/** Where the daemon stands: asked by `status`, the metrics and the health routes. Parts are added as they start. */
export class DaemonStatus {
  networks: HostNetworks | undefined
  pods: PodControl | undefined
  sources: MergedSources | undefined
  /** Where the objects come from, the first one counts. */
  followed: readonly (Source | FollowingSource)[] = []
  dns: DnsServer | undefined
  loop: SyncLoop | undefined
  healthChecks: HealthCheckServers | undefined
  connections: ServiceConnections | undefined
  api: ApiView | undefined
  cluster: ClusterMember | undefined
  readonly #counts = new SliceCounts()
  readonly #config: Config
  readonly #version: string
  readonly #started = performance.now()
  #allStarted = false
  #firstSync: SyncView | undefined
  #lastSync: SyncView | undefined

  constructor(config: Config, version: string) {
    this.#config = config
    this.#version = version
  }

  /** All parts are there. */
  markStarted(): void {
    this.#allStarted = true
  }

  /** Takes note of a sync; returns its view. */
  noteSync(outcome: SyncOutcome): SyncView {
    const view = syncView(outcome)
    this.#firstSync ??= view
    this.#lastSync = view
    return view
  }

  view(): StatusView {
    const waitingFor = this.#waitingFor()
    const snapshot = this.sources?.current
    return {
      version: this.#version,
      node: this.#config.nodeName,
      pid: process.pid,
      uptimeSeconds: (performance.now() - this.#started) / 1000,
      ready: waitingFor.length === 0,
      waitingFor,
      rssBytes: process.memoryUsage.rss(),
      sources: {
        synced: this.sources?.synced ?? false,
        objects: {
          services: snapshot?.services.size ?? 0,
          slices: this.#sliceCounts().slices,
          pods: snapshot?.pods.size ?? 0,
          nodes: snapshot?.nodes.size ?? 0,
        },
        problems: this.sources?.problems.filter(({ severity }) => severity === 'error').map(formatProblem) ?? [],
        list: this.followed.map(viewSource),
      },
      services: this.#services(),
      network: this.#network(),
      dns: this.#dns(),
      api: this.api,
      cluster: this.cluster?.view(),
    }
  }

  /** What is wrong with the daemon now; empty when it works. */
  complaints(): readonly string[] {
    const sync = this.loop?.status()
    if (!sync || sync.failuresInARow === 0) return []
    return sync.pendingMs > overdueMs || !sync.ready ? failing(sync) : []
  }

  #sliceCounts(): SliceCounts {
    return this.sources ? this.#counts.update(this.sources.current.slices) : this.#counts
  }

  #waitingFor(): string[] {
    if (!this.#allStarted) return ['start']
    const waiting: string[] = []
    if (!this.sources?.synced) {
      for (const name of this.sources?.waitingFor ?? []) waiting.push(`the first complete list of ${name}`)
      if (waiting.length === 0) waiting.push('the first complete list of every source')
    } else if (this.loop && !this.loop.status().ready) waiting.push('the first sync to the kernel')
    return waiting
  }

  #services(): ServicesView | undefined {
    const sync = this.loop?.status()
    if (!sync) return undefined
    const compiled = sync.services
    return {
      mode: sync.mode,
      services: compiled?.services.size ?? 0,
      endpoints: this.#sliceCounts().endpoints,
      problems: [
        ...failing(sync),
        ...(compiled ? [...compiled.problems.values()].flat() : []),
        ...(this.healthChecks?.problems ?? []),
      ],
      settled: sync.settled,
      pendingMs: Math.round(sync.pendingMs),
      syncs: sync.syncs,
      failures: sync.failures,
      repairs: sync.repairs,
      firstSync: this.#firstSync,
      lastSync: this.#lastSync,
      connections: this.#connections(),
    }
  }

  #connections(): ServiceConnectionsView | undefined {
    if (!this.connections) return undefined
    const { forgotten, connectionsReset, draining } = this.connections
    return {
      forgotten: { ipv4: forgotten[4], ipv6: forgotten[6] },
      reset: connectionsReset,
      draining: draining.map(({ service, protocol, ip, port, since, connections, endsInMs }) => ({
        service,
        endpoint: `${ipFamilyOf(ip) === 6 ? `[${ip}]` : ip}:${port}/${protocol}`,
        since: since.toISOString(),
        connections,
        endsInSeconds: endsInMs === undefined ? undefined : Math.ceil(endsInMs / 1000),
      })),
    }
  }

  #network(): NetworkView | undefined {
    const all = this.networks?.bridges.status() ?? []
    const [first] = all
    if (!first) return undefined
    const { name, bridge, subnets, mtu } = first.network
    return {
      name,
      bridge,
      subnets: subnets.map(({ cidr }) => formatCidr(cidr)),
      gateways: subnets.map(({ gateway }) => gateway),
      mtu,
      pods: this.networks?.status().reduce((sum, { endpoints }) => sum + endpoints, 0) ?? 0,
      problems: [...all.flatMap(({ network, endpoints }) => fullness(network, endpoints) ?? []), ...this.#notReady()],
      repairs: this.networks?.bridges.repairs ?? 0,
    }
  }

  /** Pods without traffic because of their readiness probe, each as one line. */
  #notReady(): string[] {
    return (this.pods?.notReady() ?? []).map(
      ({ pod, probe, reason = 'not asked yet' }) => `pod ${pod} is not ready: ${probe}: ${reason}`,
    )
  }

  #dns(): DnsView | undefined {
    if (!this.dns || !this.#config.dns) return undefined
    const { queries, forwarded, forwardFailures, cache, answers } = this.dns.stats
    const { addresses, zone } = this.#config.dns
    const counts = { queries, forwarded, forwardFailures, cacheHits: cache.hits, staleAnswers: cache.stale, answers }
    return { addresses, zone, ...counts }
  }
}

function syncView({ result, commitMs, totalMs }: SyncOutcome): SyncView {
  return {
    time: new Date().toISOString(),
    changedServices: result.servicesChanged,
    elements: result.elements,
    bytes: result.bytes,
    messages: result.messages,
    commitMs,
    wallMs: totalMs,
    kernelMs: result.kernelMs,
  }
}

function failing({ failuresInARow, lastError }: SyncStatus): readonly string[] {
  const reason = lastError instanceof Error ? lastError.message : String(lastError)
  return failuresInARow === 0 ? [] : [`Services cannot be brought to the kernel: ${reason}`]
}
