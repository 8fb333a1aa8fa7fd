import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import { ClusterZone, type PodNames } from './cluster-zone.ts'
import type { AnswerCacheOptions } from '../dns-forward/answer-cache.ts'
import { type CacheCounters, CachingForwarder } from '../dns-forward/caching-forwarder.ts'
import { Cookies } from './cookies.ts'
import { Forwarder } from '../dns-forward/forward.ts'
import type { NetworkNames } from './network-names.ts'
import { ResolvConf } from '../dns-forward/resolv-conf.ts'
import { DnsCounts, type DnsCountsView } from './dns-counts.ts'
import { respond, type RespondOptions } from './respond.ts'
import { listenTcp } from './tcp-listener.ts'
import { type Client, type Listener, listenUdp } from './udp-listener.ts'
import { type ForwardRule, plainUpstream, serversFor, type Upstream } from '../dns-forward/upstream.ts'

/** kubeadm's address of the cluster DNS: the tenth of the default Service range. */
export const defaultDnsAddress: IpAddress = parseIp('10.96.0.10')

export interface DnsServerOptions {
  /** Addresses of this node to listen on, UDP and TCP each; default {@link defaultDnsAddress}. */
  readonly addresses?: readonly IpAddress[]
  /** Default 53. With 0 the kernel chooses, and {@link DnsServer.endpoints} says what. */
  readonly port?: number
  /** Default `cluster.local`. */
  readonly zone?: string
  /** Seconds, of answers and of denials; default 5. */
  readonly ttl?: number
  /** Default `insecure`. */
  readonly pods?: PodNames
  /** Names of one label that pods know of each other; default: such questions are forwarded. */
  readonly networkNames?: NetworkNames
  /** Resolvers to ask instead of the node's own. */
  readonly upstreams?: readonly Upstream[]
  /** Other resolvers for the names of some domains ("stub domains"). */
  readonly rules?: readonly ForwardRule[]
  /** PEM of the authorities that the certificates of DNS over TLS must come from; default: Node's. */
  readonly tlsAuthorities?: string
  /** The file that names the node's own resolvers; followed when it changes. */
  readonly resolvConf: string
  /** Where systemd-resolved names its upstreams; default `/run/systemd/resolve/resolv.conf`. */
  readonly resolvedConf?: string
  /** Port of the node's resolvers; default 53. */
  readonly upstreamPort?: number
  /** Seconds since the source of the snapshots was last heard, while it is lost; clients are told (RFC 8914). Called for queries, so it must be quick. */
  readonly lostFor?: () => number | undefined
  /** What `version.bind` says to class CH; REFUSED when absent. */
  readonly version?: string
  readonly log: Log
  readonly clock?: Clock
  /** Bounds of what is remembered of forwarded answers. */
  readonly cache?: AnswerCacheOptions
  readonly limits?: {
    /** See {@link ForwarderOptions}. */
    readonly maxForwarded?: number
    readonly forwardDeadline?: number
    readonly tryNextAfter?: number
    readonly maxConnections?: number
    readonly idleTimeout?: number
  }
}

export interface DnsServer extends AsyncDisposable {
  /** Takes the newest snapshot; the next query sees it. `synced`: it is made of complete lists. */
  update(snapshot: Snapshot, synced: boolean): void
  /** Opens all sockets, or none: rejects with {@link ListenError}. */
  listen(): Promise<void>
  readonly stats: DnsServerStats
  /** All that was counted of questions and answers. */
  readonly counts: DnsCountsView
  /** Where it listens; empty before {@link listen}. */
  readonly endpoints: readonly { readonly address: IpAddress; readonly udpPort: number; readonly tcpPort: number }[]
}

/** Counts since the start. */
export interface DnsServerStats {
  /** Messages that were understood as a query. */
  readonly queries: number
  /** Responses sent, by the name of their response code (`NOERROR`, `NXDOMAIN`, ...). */
  readonly answers: Readonly<Record<string, number>>
  /** Messages that were not answered: shorter than a header, or themselves responses. */
  readonly dropped: number
  /** Queries that ended in an error of ours. */
  readonly errors: number
  /** Questions sent on to the node's resolvers. */
  readonly forwarded: number
  /** Of these, those that nobody answered. */
  readonly forwardFailures: number
  /** What is remembered of what the resolvers said; nothing of the cluster is. */
  readonly cache: Readonly<CacheCounters> & {
    readonly answers: number
    readonly denials: number
    readonly bytes: number
  }
}

/** A DNS server for the names of a cluster that asks the node's resolvers for all others. Does nothing before `listen`. */
export function createDnsServer(options: DnsServerOptions): DnsServer {
  const {
    log,
    port = 53,
    addresses = [defaultDnsAddress],
    upstreamPort = 53,
    limits = {},
    upstreams,
    rules = [],
  } = options
  const counts = new DnsCounts()
  const resources = new AsyncDisposableStack()
  let endpoints: DnsServer['endpoints'] = []
  let resolvConf: ResolvConf | undefined
  const clock = options.clock ? { clock: options.clock } : {}
  const zone = new ClusterZone({
    ...clock,
    serverAddresses: addresses,
    ...(options.zone === undefined ? {} : { zone: options.zone }),
    ...(options.ttl === undefined ? {} : { ttl: options.ttl }),
    ...(options.pods === undefined ? {} : { pods: options.pods }),
  })
  const nodeServers = () => (resolvConf?.servers ?? []).map((address) => plainUpstream(address, upstreamPort))
  const forwarder = new Forwarder({
    ...clock,
    log,
    ...(options.tlsAuthorities === undefined ? {} : { tlsAuthorities: options.tlsAuthorities }),
    servers: (name) => serversFor(name.key, rules) ?? upstreams ?? nodeServers(),
    ...(limits.maxForwarded === undefined ? {} : { maxConcurrent: limits.maxForwarded }),
    ...(limits.forwardDeadline === undefined ? {} : { deadline: limits.forwardDeadline }),
    ...(limits.tryNextAfter === undefined ? {} : { tryNextAfter: limits.tryNextAfter }),
  })
  const cache = new CachingForwarder({ ...clock, ...options.cache, forwarder, epoch: () => resolvConf?.servers })
  const respondOptions: RespondOptions = {
    zone,
    forwarder: cache,
    cookies: new Cookies(),
    counts,
    rotation: { next: 0 },
    log,
    lostFor: options.lostFor,
    version: options.version,
    names: options.networkNames,
  }
  const handler = (transport: 'udp' | 'tcp') => (message: Uint8Array, client: Client) =>
    respond(message, transport, { client, options: respondOptions })

  const listenOn = async (
    address: IpAddress,
    opened: AsyncDisposableStack,
  ): Promise<DnsServer['endpoints'][number]> => {
    // The port that the kernel chose for UDP may be taken over TCP.
    for (let left = port === 0 ? 5 : 1; ;) {
      await using pair = new AsyncDisposableStack()
      const udp: Listener = pair.use(await listenUdp({ address, port, log, handle: handler('udp') }))
      try {
        const tcp = pair.use(
          await listenTcp({
            ...clock,
            address,
            // With port 0 TCP follows UDP, since clients ask again at the same port.
            port: udp.port,
            log,
            handle: handler('tcp'),
            ...(limits.maxConnections === undefined ? {} : { maxConnections: limits.maxConnections }),
            ...(limits.idleTimeout === undefined ? {} : { idleTimeout: limits.idleTimeout }),
          }),
        )
        opened.use(pair.move())
        return { address, udpPort: udp.port, tcpPort: tcp.port }
      } catch (error) {
        if (--left === 0) throw error
      }
    }
  }

  return {
    get stats() {
      const { forwarded, failures } = forwarder.counters
      return { ...summary(this.counts), forwarded, forwardFailures: failures, cache: cache.counters }
    },
    get counts() {
      return DnsCounts.total([counts])
    },
    get endpoints() {
      return endpoints
    },
    update: (snapshot, synced) => zone.update(snapshot, synced),
    async listen() {
      await using opened = new AsyncDisposableStack()
      resolvConf = opened.use(
        new ResolvConf({
          path: options.resolvConf,
          ...(options.resolvedConf === undefined ? {} : { resolvedPath: options.resolvedConf }),
          // To ask ourselves would be a loop.
          exclude: (ip) => port === upstreamPort && addresses.includes(ip),
          log,
        }),
      )
      const listening: DnsServer['endpoints'][number][] = []
      for (const address of addresses) listening.push(await listenOn(address, opened))
      endpoints = listening
      resources.use(opened.move())
      log.info({ endpoints, zone: options.zone ?? 'cluster.local' }, 'DNS server listens')
    },
    async [Symbol.asyncDispose]() {
      forwarder.stop()
      await resources.disposeAsync()
    },
  }
}

function summary({ requests, responses, dropped, errors }: DnsCountsView) {
  const answers: Record<string, number> = {}
  for (const { rcode, count } of responses) answers[rcode] = (answers[rcode] ?? 0) + count
  return { queries: requests.reduce((sum, { count }) => sum + count, 0), answers, dropped, errors }
}
