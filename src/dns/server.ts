import type { Snapshot } from '../model/snapshot.ts'
import { type IpAddress, parseIp } from '../net/ip-address.ts'
import type { CacheCounters } from '../dns-forward/caching-forwarder.ts'
import { Cookies } from './cookies.ts'
import { isAtOrBelow, type Name, rootName } from '../dns-message/name.ts'
import { DnsCounts, type DnsCountsView } from './dns-counts.ts'
import { Resolver, type ResolverOptions } from './resolver.ts'
import { FastPath, type WorkerCounters } from './fast-path.ts'
import type { SampleRing } from './query-samples.ts'
import { respond, type RespondOptions } from './respond.ts'
import type { SeenQuery } from './seen-query.ts'
import { listenTcp } from './tcp-listener.ts'
import type { Client } from './udp-listener.ts'

/** kubeadm's address of the cluster DNS: the tenth of the default Service range. */
export const defaultDnsAddress: IpAddress = parseIp('10.96.0.10')

export interface DnsServerOptions extends ResolverOptions {
  /** Addresses of this node to listen on, UDP and TCP each; default {@link defaultDnsAddress}. */
  readonly addresses?: readonly IpAddress[]
  /** Default 53. With 0 the kernel chooses, and {@link DnsServer.endpoints} says what. */
  readonly port?: number
  /** The names that are served; all others, but those of `otherZones`, are REFUSED. Default: all. */
  readonly serves?: readonly Name[]
  /** Names that somebody else answers on the same sockets; the longest zone counts. They are opened, updated and ended by the server. */
  readonly otherZones?: readonly { readonly zone: Name; readonly resolver: Resolver }[]
  /** Told of each query that was answered by the general path; what workers answer is in {@link DnsServer.samples}. Must be quick. */
  readonly seen?: (query: SeenQuery) => void
  /**
   * Threads that answer names of the cluster over UDP from finished answers; 0: this thread does it. Default:
   * {@link defaultWorkers}.
   */
  readonly workers?: number
  /**
   * Whether a server that this user runs at the same addresses is joined, so that it can be ended without a lost query;
   * needs workers. Default false: then it is an error that somebody is there.
   */
  readonly joins?: boolean
  readonly limits?: ResolverOptions['limits'] & {
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
  /** Whether workers answer here, so that another server can join; before {@link listen}: whether they will try. */
  readonly usesWorkers: boolean
  /** What knows the names of `serves`. */
  readonly resolver: Resolver
  /** All that was counted of questions and answers. */
  readonly counts: DnsCountsView
  /** Samples of the queries that workers answered, one ring per worker; none until {@link SampleRing.every} is set. */
  readonly samples: readonly SampleRing[]
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
  readonly workers: WorkerCounters
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
  const { log, port = 53, addresses = [defaultDnsAddress], limits = {} } = options
  const resources = new AsyncDisposableStack()
  let endpoints: DnsServer['endpoints'] = []
  const clock = options.clock ? { clock: options.clock } : {}
  const resolver = new Resolver(options, addresses)
  const { counts } = resolver
  const own = (options.serves ?? [rootName]).map((zone) => ({ zone, resolver }))
  const served = [...own, ...(options.otherZones ?? [])].toSorted((a, b) => b.zone.wire.length - a.zone.wire.length)
  const respondOptions: RespondOptions = {
    resolverOf: (key) => served.find(({ zone }) => isAtOrBelow(key, zone.key))?.resolver,
    counts,
    rotation: { next: 0 },
    cookies: new Cookies(),
    log,
    seen: options.seen,
  }
  const fast = new FastPath({
    resolver,
    isAlone: (zone) =>
      respondOptions.resolverOf(zone) === resolver &&
      served.every((other) => other.resolver === resolver || !isAtOrBelow(other.zone.key, zone)),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    joins: options.joins ?? false,
    ...clock,
    log,
  })
  const handler = (transport: 'udp' | 'tcp') => (message: Uint8Array, client: Client) =>
    respond(message, transport, { client, options: respondOptions })

  const listenOn = async (
    address: IpAddress,
    opened: AsyncDisposableStack,
  ): Promise<DnsServer['endpoints'][number]> => {
    // The port that the kernel chose for UDP may be taken over TCP.
    for (let left = port === 0 ? 5 : 1; ;) {
      await using pair = new AsyncDisposableStack()
      const udp = pair.use(await fast.listen({ address, port, log, handle: handler('udp') }))
      try {
        const tcp = pair.use(
          await listenTcp({
            ...clock,
            address,
            // With port 0 TCP follows UDP, since clients ask again at the same port.
            port: udp.port,
            // A new server may join this one; whether somebody is there already, UDP has found out.
            reusePort: fast.hasWorkers,
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
      const { forwarded, failures, cache } = resolver.counters
      return { ...summary(this.counts), workers: fast.counters, forwarded, forwardFailures: failures, cache }
    },
    get counts() {
      return DnsCounts.total([counts, ...fast.counts])
    },
    get samples() {
      return fast.samples
    },
    resolver,
    get usesWorkers() {
      return endpoints.length > 0 ? fast.hasWorkers : fast.isPossible
    },
    get endpoints() {
      return endpoints
    },
    update(snapshot, synced) {
      for (const { resolver } of served) resolver.update(snapshot, synced)
    },
    async listen() {
      await using opened = new AsyncDisposableStack()
      opened.defer(() => fast.abandon())
      // To ask ourselves would be a loop.
      for (const { resolver } of served)
        resolver.open((ip) => port === (resolver.options.upstreamPort ?? 53) && addresses.includes(ip))
      const listening: DnsServer['endpoints'][number][] = []
      for (const address of addresses) listening.push(await listenOn(address, opened))
      fast.start()
      endpoints = listening
      resources.use(opened.move())
      log.info({ endpoints, zone: options.zone ?? 'cluster.local' }, 'DNS server listens')
    },
    async [Symbol.asyncDispose]() {
      // What was asked before this moment is answered.
      await fast[Symbol.asyncDispose]()
      for (const { resolver } of served) resolver[Symbol.dispose]()
      await resources.disposeAsync()
    },
  }
}

function summary({ requests, responses, dropped, errors }: DnsCountsView) {
  const answers: Record<string, number> = {}
  for (const { rcode, count } of responses) answers[rcode] = (answers[rcode] ?? 0) + count
  return { queries: requests.reduce((sum, { count }) => sum + count, 0), answers, dropped, errors }
}
