import type { AccessRulesOptions } from '../dns/access-rules.ts'
import type { PodNames } from '../dns/cluster-zone.ts'
import type { HostsEntry } from '../dns/hosts-names.ts'
import type { RewriteRule } from '../dns/rewrites.ts'
import type { Upstream } from '../dns-forward/upstream.ts'
import type { Name } from '../dns-message/name.ts'

/** A Corefile, as far as it is understood; what is not was refused. */
export interface Corefile {
  readonly blocks: readonly CorefileBlock[]
  /** What was accepted and is not as CoreDNS has it, each as one line with its place. */
  readonly notes: readonly string[]
}

/** A server block: the names that it answers on a port, and how. */
export interface CorefileBlock {
  readonly zones: readonly Name[]
  readonly port: number
  readonly line: number
  /** Undefined: all addresses of this machine. */
  readonly bind: readonly BindBlock[] | undefined
  readonly health: { readonly listen: HostPort; readonly lameduckMs: number } | undefined
  readonly ready: HostPort | undefined
  readonly prometheus: HostPort | undefined
  /** Without effect: resolvers that stop answering are logged always. */
  readonly errors: boolean
  readonly logs: readonly LogBlock[]
  readonly reload: { readonly intervalMs: number; readonly jitterMs: number } | undefined
  readonly kubernetes: KubernetesBlock | undefined
  readonly external: ExternalBlock | undefined
  readonly hosts: HostsBlock | undefined
  readonly forwards: readonly ForwardBlock[]
  readonly cache: CacheBlock | undefined
  readonly rewrites: readonly RewriteRule[]
  readonly access: readonly AccessRulesOptions[]
  /** Questions of type ANY get one small record. */
  readonly any: boolean
  /** `autopath @kubernetes`: the search path of pods is walked for them. */
  readonly searchPaths: boolean
  /** The names of the plugins, for metrics. */
  readonly plugins: readonly string[]
}

/** Host undefined: all addresses. */
export interface HostPort {
  readonly host: string | undefined
  readonly port: number
}

export interface BindBlock {
  /** Addresses, or names of interfaces. */
  readonly on: readonly string[]
  readonly except: readonly string[]
}

/** Names that fall through to the next plugin when they are unknown here: all, or those in some zones. */
export type Fallthrough = 'none' | 'all' | readonly Name[]

export interface KubernetesBlock {
  readonly zone: Name
  /** Parts of in-addr.arpa and ip6.arpa; names elsewhere in them are not answered. */
  readonly reverseZones: readonly Name[]
  readonly kubeconfig: { readonly path: string; readonly context: string | undefined } | undefined
  readonly pods: PodNames
  readonly ttl: number
  readonly fallthrough: Fallthrough
  readonly endpointPodNames: boolean
  readonly ignoreEmptyService: boolean
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined
  /** A label selector of Services. */
  readonly labels: string | undefined
}

export interface ExternalBlock {
  readonly zones: readonly Name[]
  readonly apex: string
  readonly ttl: number
  readonly fallthrough: boolean
}

export interface HostsBlock {
  readonly file: string | undefined
  readonly zones: readonly Name[]
  readonly entries: readonly HostsEntry[]
  readonly ttl: number
  readonly reverse: boolean
  readonly reloadMs: number
  readonly fallthrough: Fallthrough
}

export interface ForwardBlock {
  readonly from: Name
  readonly upstreams: readonly Upstream[]
  /** A resolv.conf whose name servers are asked, and followed. */
  readonly resolvConf: string | undefined
  readonly except: readonly Name[]
  readonly policy: 'random' | 'round_robin' | 'sequential'
  readonly maxConcurrent: number | undefined
  /** A file with the authorities of DNS over TLS. */
  readonly tlsAuthorities: string | undefined
}

export interface CacheBlock {
  readonly zones: readonly Name[]
  /** Seconds and entries; 0 seconds: such answers are not remembered. */
  readonly success: { readonly capacity: number; readonly ttl: number }
  readonly denial: { readonly capacity: number; readonly ttl: number }
  readonly prefetch: boolean
  /** Seconds; 0: old answers are not given. */
  readonly serveStale: number
}

export interface LogBlock {
  readonly zones: readonly Name[]
  readonly classes: ReadonlySet<'all' | 'success' | 'denial' | 'error'>
}
