import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { AnswerCacheOptions } from '../dns-forward/answer-cache.ts'
import { CachingForwarder } from '../dns-forward/caching-forwarder.ts'
import { Forwarder } from '../dns-forward/forward.ts'
import { ResolvConf } from '../dns-forward/resolv-conf.ts'
import { type ForwardRule, plainUpstream, serversFor, type Upstream } from '../dns-forward/upstream.ts'
import type { Name, NameKey } from '../dns-message/name.ts'
import type { Query } from '../dns-message/query.ts'
import type { Answer } from '../dns-message/record-set.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { type ReverseScope, ScopedZone } from './scoped-zone.ts'
import { ClusterZone, type ClusterZoneOptions, type PodNames } from './cluster-zone.ts'
import { DnsCounts } from './dns-counts.ts'
import type { NetworkNames } from './network-names.ts'
import { type NameStage, type QuestionRewriter, resolveQuery, type SearchPaths } from './resolve.ts'

/** What names are answered from, and whom is asked about others. */
export interface ResolverOptions {
  /** Default `cluster.local`. */
  readonly zone?: string
  /** False: no cluster at all; all names are others'. Default true. */
  readonly cluster?: boolean
  /** Seconds, of answers and of denials; default 5. */
  readonly ttl?: number
  /** Default `insecure`. */
  readonly pods?: PodNames
  readonly zoneOptions?: Pick<
    ClusterZoneOptions,
    'endpointPodNames' | 'ignoreEmptyService' | 'namespaces' | 'ownNetworks'
  >
  /** Which reverse names are the cluster's; default: those that it knows. */
  readonly reverse?: ReverseScope
  /** Names of one label that pods know of each other; default: such questions are forwarded. */
  readonly networkNames?: NetworkNames
  /** Asked in order, before the cluster. */
  readonly stages?: readonly NameStage[]
  readonly rewriter?: QuestionRewriter
  /** Default: what is asked is all that is answered. */
  readonly search?: SearchPaths
  /** Names that are not to be forwarded, but REFUSED. */
  readonly refuses?: (key: NameKey) => boolean
  /** Denials of the cluster that do not count. */
  readonly passesOn?: (key: NameKey) => boolean
  /** Resolvers to ask instead of the node's own. */
  readonly upstreams?: readonly Upstream[]
  /** Whom to ask about a name, instead of all of the above and of `rules`. */
  readonly serversOf?: (name: Name) => readonly Upstream[]
  /** Something that is another when `serversOf` names others: then all that is remembered is forgotten. */
  readonly epoch?: () => unknown
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
  readonly cache?: AnswerCacheOptions & { readonly prefetch?: boolean }
  readonly limits?: {
    /** See `ForwarderOptions`. */
    readonly maxForwarded?: number
    readonly forwardDeadline?: number
    readonly tryNextAfter?: number
  }
}

/**
 * Knows the names of a cluster, and asks resolvers for all others. Has no socket. Does nothing before {@link open}; dispose it to give up what is
 * in flight.
 */
export class Resolver implements Disposable {
  readonly options: ResolverOptions
  readonly zone: ClusterZone | undefined
  /** What those count who hand out its answers. */
  readonly counts = new DnsCounts()
  readonly #forwarder: Forwarder
  readonly #cache: CachingForwarder
  readonly #context: Omit<Parameters<typeof resolveQuery>[1], 'client'>
  readonly #stages: readonly NameStage[]
  #resolvConf: ResolvConf | undefined

  /** `addresses`: its own, the addresses of `ns.dns.<zone>`. */
  constructor(options: ResolverOptions, addresses: readonly IpAddress[]) {
    this.options = options
    const { log, limits = {}, upstreams, rules = [], upstreamPort = 53 } = options
    const clock = options.clock ? { clock: options.clock } : {}
    if (options.cluster ?? true)
      this.zone = new ClusterZone({
        ...clock,
        ...options.zoneOptions,
        serverAddresses: addresses,
        ...(options.zone === undefined ? {} : { zone: options.zone }),
        ...(options.ttl === undefined ? {} : { ttl: options.ttl }),
        ...(options.pods === undefined ? {} : { pods: options.pods }),
      })
    const nodeServers = () => (this.#resolvConf?.servers ?? []).map((address) => plainUpstream(address, upstreamPort))
    this.#forwarder = new Forwarder({
      ...clock,
      log,
      ...(options.tlsAuthorities === undefined ? {} : { tlsAuthorities: options.tlsAuthorities }),
      servers: options.serversOf ?? ((name) => serversFor(name.key, rules) ?? upstreams ?? nodeServers()),
      ...(limits.maxForwarded === undefined ? {} : { maxConcurrent: limits.maxForwarded }),
      ...(limits.forwardDeadline === undefined ? {} : { deadline: limits.forwardDeadline }),
      ...(limits.tryNextAfter === undefined ? {} : { tryNextAfter: limits.tryNextAfter }),
    })
    const epoch = options.epoch ?? (() => this.#resolvConf?.servers)
    this.#cache = new CachingForwarder({ ...clock, ...options.cache, forwarder: this.#forwarder, epoch })
    this.#stages = options.stages ?? []
    this.#context = {
      zone: this.zone && options.reverse ? new ScopedZone(this.zone, options.reverse) : this.zone,
      forwarder: this.#cache,
      lostFor: options.lostFor,
      version: options.version,
      names: options.networkNames,
      stages: options.stages,
      rewriter: options.rewriter,
      search: options.search,
      refuses: options.refuses,
      passesOn: options.passesOn,
    }
  }

  /** Follows the node's resolvers from now on. `isOwn`: addresses that would ask ourselves. */
  open(isOwn: (address: IpAddress) => boolean): void {
    if (this.options.serversOf) return
    const { resolvConf: path, resolvedConf, log } = this.options
    this.#resolvConf ??= new ResolvConf({
      path,
      ...(resolvedConf === undefined ? {} : { resolvedPath: resolvedConf }),
      exclude: isOwn,
      log,
    })
  }

  /** Takes the newest snapshot; `synced`: it is made of complete lists. */
  update(snapshot: Snapshot, synced: boolean): void {
    for (const stage of this.#stages) stage.update?.(snapshot)
    this.zone?.update(snapshot, synced)
  }

  /** Answers a query: at once when we know, later when others have to be asked. */
  resolve(query: Query, client: string): Answer | Promise<Answer> {
    return resolveQuery(query, { ...this.#context, client })
  }

  /** Of what was forwarded, and what is remembered of it. */
  get counters(): Forwarder['counters'] & { readonly cache: CachingForwarder['counters'] } {
    return { ...this.#forwarder.counters, cache: this.#cache.counters }
  }

  /** What each of the other servers was asked and answered, by its key. */
  get upstreams(): Forwarder['upstreams'] {
    return this.#forwarder.upstreams
  }

  [Symbol.dispose](): void {
    this.#forwarder.stop()
    this.#resolvConf?.[Symbol.dispose]()
  }
}
