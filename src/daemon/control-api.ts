/**
 * What goes over the control socket: HTTP with JSON bodies on a unix socket (mode 0600). The same shapes are what
 * `--json` prints.
 *
 *     GET    /status
 *     GET    /explain?from=FROM&to=TO         ServiceExplanationView
 *     GET    /verify                          VerifyView
 *     GET    /events                          one JSON object a line, for ever
 *     GET    /mode                            ModeView
 *     POST   /mode                            {mode} -> ModeView, once the old mode is gone
 *     POST   /reload                          ReloadView, once the configuration is taken over
 *     GET    /networks
 *     POST   /networks                        NetworkRequest -> NetworkSummaryView
 *     GET    /networks/:name                  NetworkDetailsView
 *     DELETE /networks/:name
 *     POST   /networks/:name/pods             ConnectPodRequest -> PodView
 *     DELETE /networks/:name/pods/:namespace/:pod
 *     GET    /pods
 *     POST   /pods                            PodRequest -> PodView
 *     GET    /pods/:namespace/:name/exec      ExecSpec
 *     POST   /pods/:namespace/:name/ports     PodPortsBody -> PodView
 *     DELETE /pods/:namespace/:name
 */

/** `GET /explain?from=FROM&to=TO` */
export interface ServiceExplanationView {
  readonly from: string
  /** The client's address. */
  readonly source: string
  /** Whom the settings take the client for. */
  readonly origin: 'pod' | 'node' | 'outside'
  /** Where its packets come in; undefined: the node makes them. */
  readonly interface: string | undefined
  readonly to: string
  readonly outcome: 'endpoints' | 'rejected' | 'dropped' | 'not-ours'
  /** Why it is rejected, dropped or none of ours. */
  readonly why: string | undefined
  readonly service: string | undefined
  readonly frontend: string | undefined
  /** Candidates, those with a share of new connections first. */
  readonly endpoints: readonly {
    readonly endpoint: string
    /** A pod of this machine. */
    readonly pod: string | undefined
    readonly node: string | undefined
    readonly zone: string | undefined
    /** From 0 to 1. */
    readonly share: number
    /** Why it gets no new connections. */
    readonly why: string | undefined
  }[]
  /** Whether the endpoint sees this node's address instead of the client's. */
  readonly masquerade: boolean | undefined
  /** How one of the endpoints is chosen. */
  readonly choice: string | undefined
  /** What is wrong with the Service. */
  readonly problems: readonly string[]
  readonly mode: string
  /** The chains, rules and elements in the kernel that decide. */
  readonly evidence: readonly string[]
  /** Where the kernel is not as wanted. */
  readonly differences: readonly string[]
  /** The kernel was compared. */
  readonly compared: boolean
}

/** `GET /verify` */
export interface VerifyView {
  readonly mode: string
  readonly services: number
  /** What it would take to make the kernel as wanted, in the mode's words; empty: it is. */
  readonly differences: readonly string[]
  readonly tookMs: number
}

/** `GET /mode` */
export interface ModeView {
  /** The one that is in the kernel. */
  readonly mode: string
  readonly modes: readonly string[]
}

/** `POST /reload` */
export interface ReloadView {
  /** Of the configuration, the keys that wait for the next start. */
  readonly later: readonly string[]
}

/** `GET /status` */
export interface StatusView {
  readonly version: string
  readonly node: string
  readonly pid: number
  readonly uptimeSeconds: number
  /** The first complete state is in the kernel. */
  readonly ready: boolean
  /** Why it is not ready; empty when it is. */
  readonly waitingFor: readonly string[]
  readonly rssBytes: number
  readonly sources: {
    readonly synced: boolean
    readonly objects: Readonly<Record<'services' | 'slices' | 'pods' | 'nodes', number>>
    /** Manifests that cannot be used, each as one line. */
    readonly problems: readonly string[]
    /** Where the objects come from; of two that have one object, the first counts. */
    readonly list: readonly SourceView[]
  }
  readonly services: ServicesView | undefined
  readonly network: NetworkView | undefined
  readonly dns: DnsView | undefined
  readonly api: ApiView | undefined
  /** Undefined: this machine is by itself. */
  readonly cluster: ClusterView | undefined
}

/** This machine as a node, and the others. */
export interface ClusterView {
  /** Its Node, Lease and Pods are written to the API. */
  readonly registered: boolean
  /** Since its Lease was renewed; undefined: it never was. */
  readonly renewedSeconds: number | undefined
  readonly nodes: readonly NodeView[]
  /** To the pods of other nodes. */
  readonly routes: readonly {
    readonly node: string
    readonly destination: string
    readonly via: string
    readonly link: string
  }[]
  /** How often routes were put back. */
  readonly repairs: number
  readonly problems: readonly string[]
}

/** A node as the API has it. */
export interface NodeView {
  readonly name: string
  readonly addresses: readonly string[]
  readonly podCIDRs: readonly string[]
  readonly ready: 'True' | 'False' | 'Unknown'
  readonly self: boolean
}

/** `GET /api/nodes` */
export interface NodeTokensView {
  readonly tokens: readonly { readonly node: string; readonly issued: string; readonly pending: boolean }[]
}

/** Where the embedded API is reached. */
export interface ApiView {
  readonly url: string
  /** For kubectl, with the admin's token; mode 0600. */
  readonly kubeconfig: string
  /** For `fairlead get` and the like. */
  readonly socket: string
}

/** One source of objects. */
export interface SourceView {
  readonly name: string
  /** It gave its first complete list. */
  readonly synced: boolean
  /** By kind, as snapshots name them: `services`, `slices` counts Services that have slices. */
  readonly objects: Readonly<Record<string, number>>
  /** What is wrong in it now. */
  readonly problems: number
  /** Of an API server: each resource that is followed. */
  readonly resources: readonly ResourceView[]
}

/** One resource of an API server. */
export interface ResourceView {
  readonly resource: string
  readonly synced: boolean
  /** A watch is open. */
  readonly connected: boolean
  readonly objects: number
  /** Since the last event, bookmark or list; undefined: there was none. */
  readonly ageSeconds: number | undefined
  readonly lists: number
  readonly watches: number
  readonly events: number
  readonly failures: number
  /** Audits that found changes lost. */
  readonly auditFailures: number
  readonly error: string | undefined
}

export interface ServicesView {
  readonly mode: string
  readonly services: number
  readonly endpoints: number
  /** Why the last sync failed; conflicts between Services. Each is one line. */
  readonly problems: readonly string[]
  /** All that the sources said is in the kernel: nothing waits, and no sync is under way. */
  readonly settled: boolean
  /** How long the oldest change waits that is not in the kernel yet; 0 when none does. */
  readonly pendingMs: number
  readonly syncs: number
  readonly failures: number
  /** How often something that another program changed was put back. */
  readonly repairs: number
  readonly firstSync: SyncView | undefined
  readonly lastSync: SyncView | undefined
  /** Undefined where the kernel's connection table cannot be read. */
  readonly connections: ServiceConnectionsView | undefined
}

/** Established connections of Services that changed. */
export interface ServiceConnectionsView {
  /** Stale UDP connections that were forgotten, ever. */
  readonly forgotten: { readonly ipv4: number; readonly ipv6: number }
  /** Connections that were ended because their Service says so (`fairlead.dev/drain-seconds`), ever. */
  readonly reset: number
  /** Endpoints that take no new connections, and may still have some. */
  readonly draining: readonly {
    readonly service: string
    /** `10.0.0.1:80/tcp` */
    readonly endpoint: string
    readonly since: string
    /** Undefined before the first count. */
    readonly connections: number | undefined
    /** Until what is left is ended; undefined: never. */
    readonly endsInSeconds: number | undefined
  }[]
}

/** One sync that changed something. */
export interface SyncView {
  readonly time: string
  /** Services looked at again. */
  readonly changedServices: number
  readonly elements: number
  readonly bytes: number
  readonly messages: number
  /** Milliseconds: until all was in the kernel; all of it, with what became of old connections then; and the kernel's part. */
  readonly commitMs: number
  readonly wallMs: number
  readonly kernelMs: number
}

export interface NetworkView {
  readonly name: string
  readonly bridge: string
  readonly subnets: readonly string[]
  readonly gateways: readonly string[]
  readonly mtu: number
  readonly pods: number
  /** Networks that are nearly full, each as one line. */
  readonly problems: readonly string[]
  /** How often something that another program changed was put back. */
  readonly repairs: number
}

/** `POST /networks`: the name, and the fields of a network as the configuration has them. */
export interface NetworkRequest {
  readonly name: string
  readonly [field: string]: unknown
}

/** An element of `GET /networks`. */
export interface NetworkSummaryView {
  readonly name: string
  readonly driver: string
  /** Of driver bridge, whose networks have all of the fields that are marked with it. */
  readonly bridge?: string
  /** Of drivers macvlan and ipvlan: the host's link, the driver's mode, and where addresses come from. */
  readonly parent?: string
  readonly mode?: string
  readonly addresses?: 'pool' | 'dhcp'
  /** Who wants it: it can be removed by command only when a command made it. */
  readonly origin: 'configuration' | 'manifest' | 'command'
  readonly subnets: readonly {
    readonly subnet: string
    readonly gateway: string
    readonly ipRange?: string
    readonly auxAddresses?: readonly string[]
  }[]
  /** Absent: the parent's. */
  readonly mtu?: number
  /** Of driver bridge. */
  readonly internal?: boolean
  /** Of driver bridge. */
  readonly icc?: boolean
  /** Of driver bridge. */
  readonly masquerade?: boolean | readonly string[]
  /** Of driver bridge. */
  readonly gatewayMode?: { readonly ipv4: string; readonly ipv6: string }
  readonly labels: Readonly<Record<string, string>>
  readonly endpoints: number
}

/** `GET /networks/:name` */
export interface NetworkDetailsView extends NetworkSummaryView {
  /** The bridge's. */
  readonly mac?: string
  /** Of driver bridge. */
  readonly hairpin?: boolean
  readonly interfaceName: string | undefined
  /** Of driver bridge. */
  readonly followsUplink?: boolean
  readonly pools: readonly { readonly subnet: string; readonly used: number; readonly size: number }[]
  readonly attached: readonly {
    readonly owner: string
    readonly ips: readonly string[]
    readonly mac: string
    /** `*:8080->80/tcp` */
    readonly published: readonly string[]
    readonly aliases: readonly string[]
    readonly netns: string
    /** The link on the host: the endpoint's own, or the parent that it is on. */
    readonly port: string
    readonly state: 'up' | 'down' | 'missing'
    /** With addresses of a DHCP server: which one, and until when they are ours (RFC 3339; absent: for ever). */
    readonly dhcp?: { readonly server: string; readonly expires?: string }
    /** What came in to the pod since the link was made; absent where the kernel counts nothing. */
    readonly received?: CountersView
    readonly sent?: CountersView
  }[]
}

export interface CountersView {
  readonly packets: number
  readonly bytes: number
  readonly errors: number
  readonly dropped: number
}

export interface DnsView {
  readonly addresses: readonly string[]
  readonly zone: string
  readonly queries: number
  /** Of these, those that resolvers were asked for. */
  readonly forwarded: number
  /** Of those, the ones that nobody answered. */
  readonly forwardFailures: number
  /** Answered from memory. */
  readonly cacheHits: number
  /** Answered from memory after their time, because nobody could be asked. */
  readonly staleAnswers: number
  /** Responses by their code. */
  readonly answers: Readonly<Record<string, number>>
}

/** `POST /pods` */
export interface PodRequest {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  /** Empty: the pod has a network, but nothing runs in it yet. */
  readonly command: readonly string[]
  /** Static addresses, at most one per family. */
  readonly ips?: readonly string[]
  readonly mac?: string
  /** Ports to publish, as `--publish` has them: `8080:80`, `127.0.0.1::53/udp`. */
  readonly publish?: readonly string[]
  /** Other names that the pods of the network find it by. */
  readonly aliases?: readonly string[]
  /** How it is asked whether it is ready: a Probe (core/v1) with `tcpSocket` or `httpGet`. */
  readonly readinessProbe?: unknown
}

/** `POST /pods/:namespace/:name/ports` */
export interface PodPortsBody {
  /** As in {@link PodRequest}. */
  readonly publish?: readonly string[]
  /** Ports of the host that shall not lead to the pod any more: `8080`, `127.0.0.1:53/udp`. */
  readonly unpublish?: readonly string[]
  /** Which of the pod's networks. Default: the first. */
  readonly network?: string
}

/** `POST /networks/:name/pods` */
export interface ConnectPodRequest {
  readonly namespace: string
  readonly name: string
  /** Static addresses, at most one per family. */
  readonly ips?: readonly string[]
  readonly mac?: string
  /** The link's name in the pod. */
  readonly interfaceName?: string
  /** Ports to publish, and other names in the network, as in {@link PodRequest}. */
  readonly publish?: readonly string[]
  readonly aliases?: readonly string[]
}

export interface PodView {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly network: string
  readonly ips: readonly string[]
  readonly mac: string
  /** Networks that it is in besides the first one. */
  readonly connected: readonly {
    readonly network: string
    readonly ips: readonly string[]
    readonly mac: string
    readonly link: string
    readonly published: readonly string[]
    readonly aliases: readonly string[]
  }[]
  /** By its first network: `*:8080->80/tcp`, `127.0.0.1:53->5353/udp` */
  readonly published: readonly string[]
  /** Other names that it has in its first network. */
  readonly aliases: readonly string[]
  readonly pid: number | undefined
  /** `running`, `exited 0`, `no process`. */
  readonly state: string
  /** It may have traffic: its command did not end, and its readiness probe, if it has one, went well. */
  readonly ready: boolean
  /** How it is asked whether it is ready (`tcp 80`), and why the newest attempt failed. */
  readonly readiness: { readonly probe: string; readonly reason: string | undefined } | undefined
  readonly started: string
  /** Path of the file with the command's output. */
  readonly log: string
}

/** All ports that lead to a pod, by whichever of its networks. */
export function publishedOf(pod: Pick<PodView, 'published' | 'connected'>): string[] {
  return [pod, ...pod.connected].flatMap(({ published }) => published)
}

/** `GET /pods/:namespace/:name/exec`: put these words before a command to run it in the pod. */
export interface ExecSpec {
  readonly argv: readonly string[]
}
