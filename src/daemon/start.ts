import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgeNetworks } from '../bridge/bridge-networks.ts'
import { followSysctls } from '../bridge/forwarding.ts'
import { DockerUserRules, removeDockerUserRules } from '../bridge/docker-user-rules.ts'
import { openBridgeKernel } from '../bridge/kernel.ts'
import { NetworkError } from '../bridge/check-network.ts'
import { NetworkStore, parseNetworkSpec } from '../bridge/network-store.ts'
import { openHostNetworks, type HostNetworks } from '../bridge/host-networks.ts'
import { removeIptablesFirewall, removeNftablesFirewall } from '../bridge/other-firewall.ts'
import { PodStore } from '../bridge/pod-record.ts'
import { openPodService, PodServiceError } from '../bridge/pod-unit.ts'
import { keepsLease, openPods } from '../bridge/pods.ts'
import { StateFileError } from '../bridge/state-file.ts'
import { ListenError } from '../dns/listen-error.ts'
import type { FirewallTools } from '../bridge/host-firewall.ts'
import { IptablesError } from '../iptables/iptables-error.ts'
import { openTools } from '../iptables/open-tools.ts'
import { OwnRestores } from '../iptables/own-restores.ts'
import { readBootId } from '../linux/boot-id.ts'
import { readMachineId } from '../linux/machine-id.ts'
import type { NetworkSettings } from '../model/network.ts'
import { objectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import { findModes } from './find-modes.ts'
import type { KubeProxyParts } from './kube-proxy-configuration.ts'
import { formatCidr } from '../net/cidr.ts'
import { isLoopback, parseIp } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { openServiceConnections, type ServiceConnections } from '../proxy/service-connections.ts'
import { ensureAnchor } from '../proxy/ensure-anchor.ts'
import { HealthCheckServers } from '../proxy/health-check-servers.ts'
import { AccessError } from '../kubernetes/api-error.ts'
import type { ClusterLocation } from '../kubernetes/cluster-access.ts'
import { watchFiles } from '../sources/files.ts'
import { MemorySource } from '../sources/memory.ts'
import { mergeSources, type MergedSources } from '../sources/merge.ts'
import { ControlPlaneError } from './api-config.ts'
import { cleanupMachine } from './cleanup.ts'
import type { Config } from './config.ts'
import type { StatusView } from './control-api.ts'
import { applyConntrackSettings } from './conntrack-settings.ts'
import { controlRoutes, listenOnSocket, SocketError, SocketTakenError } from './control.ts'
import { createDataplane, ModeUnavailableError } from './dataplanes.ts'
import { SyncDescriber } from './describe-sync.ts'
import { EventLog } from './events.ts'
import { healthRoutes } from './health.ts'
import { createHttpServer } from './http-server.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { PodNames } from './pod-names.ts'
import { NetworkControl } from './network-control.ts'
import { PodControl } from './pod-control.ts'
import { KubeProxyServers } from './kube-proxy-servers.ts'
import { closeServer, listenTcp } from './listen-tcp.ts'
import { ServiceInspection } from './inspect-services.ts'
import { ModeControl } from './mode-control.ts'
import { ModeRecord } from './mode-record.ts'
import { openDocker } from './open-docker.ts'
import { NodeTokenControl } from './node-tokens.ts'
import { DnsHttpError } from './dns-http.ts'
import { DnsInspection } from './dns-inspection.ts'
import { openDns, type OpenDns } from './open-dns.ts'
import { openKubernetes } from './open-kubernetes.ts'
import { nodeAddresses, openNode } from './open-node.ts'
import { openUsableNftables } from './open-nftables.ts'
import { applyOomScore } from './oom-score.ts'
import { proxyHealthRoutes } from './proxy-health.ts'
import { ConfigFollower, keysForRestart, type ConfigSource } from './reload.ts'
import { ReloadControl } from './reload-control.ts'
import { ServiceProxy } from './service-proxy.ts'
import { settleMemory } from './settle-memory.ts'
import { createSourceSilence } from './source-silence.ts'
import { DaemonStatus } from './status.ts'
import { reportReady, type Supervisor } from './supervisor.ts'
import { viewSource } from './view-source.ts'

/** A running daemon. */
export interface Daemon {
  readonly events: EventLog
  readonly pods: PodControl
  readonly networks: NetworkControl
  readonly modes: ModeControl
  readonly nodeTokens: NodeTokenControl
  readonly inspection: ServiceInspection
  readonly configuration: ReloadControl
  status(): StatusView
  /** Resolves when the first complete state is in the kernel. Rejects with the signal's reason. */
  whenReady(signal: AbortSignal): Promise<void>
  /** Stops. With `cleanup` everything is removed from the kernel, and what was removed is returned. */
  close(options: { readonly cleanup: boolean }): Promise<readonly string[]>
}

/** What keeps the daemon from starting, said for its user. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/** What the parts are started with. */
interface Context {
  readonly config: Config
  readonly log: Log
  readonly events: EventLog
  readonly nodeTokens: NodeTokenControl
  readonly metrics: Metrics
  readonly status: DaemonStatus
  /** Undefined where the kernel has none, and nothing here needs it. */
  readonly nft: NftClient | undefined
  /** Networks and Services may both write iptables rules. */
  readonly restores: OwnRestores
  readonly isUnit: boolean
  /** What is stopped, in reverse order, when the daemon stops or its start fails. The kernel keeps what is there. */
  readonly stack: AsyncDisposableStack
}

/** What a daemon is started with, besides its configuration. */
export interface StartOptions {
  readonly log: Log
  readonly version: string
  /** Changes of the configuration are taken over from there. */
  readonly source?: ConfigSource | undefined
  /** Who is told where the daemon stands. It is stopped with it. */
  readonly supervisor?: Supervisor | undefined
  /** The daemon is the main process of a unit of systemd; pods are not part of that. @default false */
  readonly isUnit?: boolean | undefined
}

/** Starts a daemon: the one place where parts are made and handed to each other. Throws {@link StartError}. */
export async function startDaemon(config: Config, options: StartOptions): Promise<Daemon> {
  await using stack = new AsyncDisposableStack()
  try {
    const daemon = await startParts(config, { ...options, stack })
    // Nothing failed: from here on, close() stops the parts.
    const running = stack.move()
    return {
      ...daemon,
      close: async ({ cleanup }) => {
        options.supervisor?.stopping()
        // In order first, so that pods get their SIGTERM; whatever that misses is found by name.
        try {
          if (cleanup) await daemon.pods.removeAll()
        } finally {
          await running.disposeAsync()
        }
        return cleanup ? (await cleanupMachine(config)).removed : []
      },
    }
  } catch (error) {
    const mendable = [
      NetworkError,
      PodServiceError,
      ControlPlaneError,
      ListenError,
      DnsHttpError,
      SocketTakenError,
      SocketError,
      StateFileError,
      ModeUnavailableError,
      AccessError,
    ].some((kind) => error instanceof kind)
    throw mendable ? new StartError((error as Error).message, { cause: error }) : error
  }
}

async function startParts(
  config: Config,
  options: StartOptions & { readonly stack: AsyncDisposableStack },
): Promise<Omit<Daemon, 'close'>> {
  const { log, version, supervisor, stack } = options
  const events = new EventLog()
  const status = new DaemonStatus(config, version)
  const metrics = createMetrics(() => status.view(), status)
  const pods = new PodControl(events)
  status.pods = pods
  const networkControl = new NetworkControl(events)
  const modes = new ModeControl(events)
  const nodeTokens = new NodeTokenControl(events)
  const inspection = new ServiceInspection(() => pods.list())
  const configuration = new ReloadControl(supervisor)
  const dnsInspection = new DnsInspection()

  // First the control socket: it keeps a second daemon away. What is not there yet is said to be starting.
  const control = createHttpServer(
    {
      ...dnsInspection.routes(),
      ...controlRoutes({
        status: () => status.view(),
        pods,
        networks: networkControl,
        modes,
        nodeTokens,
        inspection,
        configuration,
        events,
      }),
    },
    (error) => {
      log.error({ err: error }, 'cannot answer on the control socket')
    },
  )
  await listenOnSocket(control, config.controlSocket)
  stack.defer(() => closeServer(control))

  const nft = stack.use(await openNftablesFor(config, log))
  const restores = new OwnRestores()
  const context: Context = {
    config,
    log,
    events,
    nodeTokens,
    metrics,
    status,
    nft,
    restores,
    isUnit: options.isUnit ?? false,
    stack,
  }

  const podSource = new MemorySource('pods of this machine', { synced: false })
  const opened = await startNetwork(context, podSource, pods)
  const networks = opened?.networks.bridges
  if (networks ?? config.sources.docker) await startDockerUser(context, networks)
  podSource.markSynced()
  const { sources, location } = await startSources(context, { podSource, networks, version })
  const proxy = await startServices(context, networks)
  networkControl.serve(
    opened && {
      ...opened,
      log: log.child({ part: 'network' }),
      clock: systemClock,
      onChange: () => proxy?.refresh(),
    },
  )
  const dns = await startDns(context, networks, version)
  dnsInspection.serve(config.dns && dns && { ...dns, config: config.dns, sources })
  const follow = sources.subscribe((snapshot) => {
    // Names and rules from one snapshot. Names first: who resolves one early waits for the kernel a millisecond at most.
    dns?.server.update(snapshot, true)
    void networkControl.apply(snapshot.networks)
    metrics.kubeProxy.observeSnapshot(snapshot)
    proxy?.update(snapshot)
    proxy?.loop.sourceComplete(allSources)
  })
  stack.use(networkControl)
  stack.defer(follow)
  status.cluster = stack.use(
    await openNode({
      config,
      location,
      networks,
      podSource,
      sources,
      complaints: () => status.complaints(),
      version,
      log: log.child({ part: 'node' }),
    }),
  )
  await startHttp(context)
  const kubeProxy = await startKubeProxy(context, proxy)
  modes.serve(proxy)
  inspection.serve(proxy)
  configuration.serve(options.source && followConfig(options.source, { context, proxy, kubeProxy }))
  status.markStarted()
  if (supervisor) reportReady(stack.use(supervisor), { status, clock: systemClock })
  log.info({ version, node: config.nodeName, pid: process.pid }, 'fairlead started')
  return {
    events,
    pods,
    networks: networkControl,
    modes,
    nodeTokens,
    inspection,
    configuration,
    status: () => status.view(),
    whenReady: (signal) => whenReady(status, signal),
  }
}

/** The merged sources count as one for the loop: they give nothing before all of them are complete. */
const allSources = 'sources'

/** Without networks or with `network.firewall: iptables`, and in another mode, a machine can do without nf_tables. */
async function openNftablesFor(config: Config, log: Log): Promise<NftClient | undefined> {
  const guards = config.firewall === 'nftables' && (config.network !== undefined || config.networks.length > 0)
  const needed = guards || config.services?.mode === 'nftables'
  if (needed) return openNeededNftables(log)
  try {
    return await openUsableNftables(log)
  } catch (error) {
    log.warn({ err: error }, 'no nf_tables here: established connections do not outlive a switch of the mode')
    return undefined
  }
}

async function openNeededNftables(log: Log): Promise<NftClient> {
  try {
    return await openUsableNftables(log)
  } catch (error) {
    const reason = (error as Error).message
    const advice = '"fairlead doctor" says more; without it, set services.mode and network.firewall to iptables'
    throw new StartError(`nf_tables cannot be used: ${reason} (${advice})`, { cause: error })
  }
}

async function startNetwork(
  context: Context,
  podSource: MemorySource,
  pods: PodControl,
): Promise<{ networks: HostNetworks; store: NetworkStore; configured: ReadonlySet<string> } | undefined> {
  const { config, log, stack, status, events } = context
  const { services, dns, stateDir, nodeName } = config
  const wanted = [...(config.network ? [config.network] : []), ...config.networks]
  if (wanted.length === 0) {
    pods.serve(undefined)
    return undefined
  }
  const store = PodStore.open(join(stateDir, 'pods'), log)
  const configured = new Set(wanted.map(({ name }) => name))
  const networkStore = NetworkStore.open(join(stateDir, 'networks.json'), log)
  const bootId = readBootId()
  const kernel = stack.use(openBridgeKernel())
  const networkLog = log.child({ part: 'network' })
  const tools = await openFirewallTools(context, networkLog)
  const networks = stack.use(
    await openHostNetworks({
      stateDir,
      networks: wanted,
      optional: rememberedNetworks(networkStore, { configured, log: networkLog }),
      serviceAddresses: dns?.addresses ?? [],
      reserved:
        services?.serviceCIDRs.map((range) => ({ range, what: `the Service range ${formatCidr(range)}` })) ?? [],
      machineId: readMachineId(),
      bootId,
      kernel,
      ...tools,
      log: networkLog,
      keepLease: (lease) => keepsLease(store, lease),
    }),
  )
  const forwarding = { kernel, log: networkLog, stateDir, bootId, clock: systemClock }
  stack.use(followSysctls(() => networks.bridges.settledNetworks, forwarding))
  await removeOtherFirewall(context, networkLog)
  status.networks = networks
  const opened = stack.use(
    await openPods({
      networks,
      store,
      bootId,
      nodeName,
      dns,
      onPods: (list) => replacePods(podSource, list),
      service: context.isUnit ? stack.use(openPodService()) : undefined,
      onReadiness: (sentence) => events.add('pod', sentence),
      log: log.child({ part: 'pods' }),
    }),
  )
  pods.serve(opened)
  for (const { name, bridge, subnets } of networks.bridges.networks) {
    events.add('network', `${name} is up: bridge ${bridge}, ${subnets.map(({ cidr }) => formatCidr(cidr)).join(', ')}`)
  }
  for (const { name, driver, parent } of networks.lan.networks) {
    events.add('network', `${name} is up: ${driver} on ${parent}`)
  }
  return { networks, store: networkStore, configured }
}

async function openFirewallTools({ config, nft, restores }: Context, log: Log): Promise<FirewallTools> {
  if (config.firewall === 'nftables') return { nft }
  try {
    const { clients, variant, limits } = await openTools({ log })
    for (const limit of limits) log.warn({ limit }, `iptables for the networks: ${limit}`)
    return { nft, iptables: { clients, notifications: variant === 'nft' ? nft : undefined, restores } }
  } catch (error) {
    if (!(error instanceof IptablesError)) throw error
    throw new StartError(`network.firewall: iptables cannot be used: ${error.message}`, { cause: error })
  }
}

/** What an earlier daemon had with another `network.firewall`, now that the rules of this one are there. */
async function removeOtherFirewall({ config, nft }: Context, log: Log): Promise<void> {
  try {
    const gone =
      config.firewall === 'nftables'
        ? await removeIptablesFirewall({ nft })
        : nft && (await removeNftablesFirewall(nft))
    for (const what of gone ?? []) log.info({}, `network.firewall is ${config.firewall}: removed ${what}`)
  } catch (error) {
    log.error({ err: error }, 'Cannot remove the firewall that an earlier daemon had for the networks')
  }
}

/** What was made while an earlier daemon ran; the configuration comes first. */
function rememberedNetworks(
  store: NetworkStore,
  { configured, log }: { configured: ReadonlySet<string>; log: Log },
): NetworkSettings[] {
  return [...store.networks.values()].flatMap((network) => {
    if (configured.has(network.name)) return []
    try {
      return [parseNetworkSpec(network)]
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error
      log.error({ network: network.name, err: error }, `Network ${network.name} cannot be had: ${error.message}`)
      return []
    }
  })
}

/** Whatever goes wrong with Docker's chain keeps no network from working: it is tried again. */
async function startDockerUser(
  { config, log, nft, stack }: Context,
  networks: BridgeNetworks | undefined,
): Promise<void> {
  const dockerLog = log.child({ part: 'docker' })
  if (config.dockerUser === 'auto') {
    const bridges = (): string[] => networks?.networks.map(({ bridge }) => bridge) ?? []
    const services = config.sources.docker && config.services?.serviceCIDRs
    stack.use(new DockerUserRules({ bridges, services, nft, log: dockerLog, clock: systemClock })).follow()
    return
  }
  try {
    for (const what of await removeDockerUserRules(nft))
      dockerLog.info({}, `network.dockerUser is off: removed ${what}`)
  } catch (error) {
    dockerLog.error({ err: error }, 'Cannot remove our rules from DOCKER-USER')
  }
}

function replacePods(source: MemorySource, pods: readonly Pod[]): void {
  const present = new Set(pods.map(objectKey))
  const gone = [...source.snapshot.pods.keys()].filter((key) => !present.has(key)).map((key) => `Pod ${key}`)
  source.update(
    pods.map((value) => ({ kind: 'Pod', value })),
    gone,
  )
}

async function startSources(
  context: Context,
  options: {
    readonly podSource: MemorySource
    readonly networks: BridgeNetworks | undefined
    readonly version: string
  },
): Promise<{ readonly sources: MergedSources; readonly location: ClusterLocation | undefined }> {
  const { podSource, networks, version } = options
  const { config, log, stack, status } = context
  const { services, dns } = config
  const sourceLog = log.child({ part: 'sources' })
  const files = config.sources.files.map((path) => stack.use(watchFiles(path, { log: sourceLog })))
  const kubernetes = stack.use(await openKubernetes(config, { log: sourceLog, version }))
  const docker = stack.use(await openDocker(config, { log: sourceLog }))
  const api = await openControlPlane(context, { networks, version })
  // Of two that have one object the first counts: what is nearest to this machine's owner (docs/config.md).
  const local = api?.ownPods(podSource) ?? podSource
  const followed = [local, ...files, ...[api?.source, kubernetes, docker].filter((source) => source !== undefined)]
  const sources = stack.use(
    mergeSources({
      sources: followed,
      log: sourceLog,
      // A proxy beside a control plane takes the addresses that Services have, and gives none.
      ...(services &&
        services.serviceCIDRs.length > 0 && {
          allocate: { serviceCIDRs: services.serviceCIDRs, reserved: dns?.addresses ?? [] },
        }),
    }),
  )
  api?.follow(sources)
  status.api = api?.view
  status.sources = sources
  status.followed = followed
  // A daemon with an API of its own is a node of that.
  const own = api && ({ kind: 'kubeconfig', path: api.view.kubeconfig } as const)
  return { sources, location: own ?? config.sources.kubernetes?.location }
}

async function openControlPlane(
  { config, log, stack, nodeTokens }: Context,
  { networks, version }: { readonly networks: BridgeNetworks | undefined; readonly version: string },
) {
  const { api, services, dns, stateDir, nodeName, controlSocket } = config
  if (!api) return undefined
  // Only where it is wanted: it brings SQLite and the types of all kinds along.
  const { ControlPlane } = await import('./control-plane.ts')
  return stack.use(
    await ControlPlane.open(api, {
      stateDir,
      nodeName,
      nodeTokens,
      // Nobody uses them to reach a server that listens on loopback only.
      addresses: isLoopback(parseIp(api.listen.host)) ? [] : await nodeAddresses(config, { networks }),
      socket: join(dirname(controlSocket), 'api.sock'),
      serviceCIDRs: services?.serviceCIDRs ?? [],
      reserved: dns?.addresses ?? [],
      version,
      clock: systemClock,
      log: log.child({ part: 'api' }),
    }),
  )
}

async function startServices(
  context: Context,
  networks: BridgeNetworks | undefined,
): Promise<ServiceProxy | undefined> {
  const { config, log, nft, restores, stack, status, events, metrics } = context
  const { services } = config
  if (!services) return undefined
  const servicesLog = log.child({ part: 'services' })
  const describer = new SyncDescriber()
  const connections = await openUsableConnections(context, servicesLog)
  const record = new ModeRecord(join(config.stateDir, 'services-mode'), { log: servicesLog })
  const recorded = record.read()
  const before = recorded.length === 0 && nft ? await findModes(nft) : recorded
  const leftover = before.filter((mode) => mode !== services.mode)
  if (before.includes('userspace')) await forgetRelayed(connections, servicesLog)
  // Before anything is written: this daemon may be killed before it has taken over.
  record.write([...leftover, services.mode])
  const proxy = new ServiceProxy({
    services,
    nodeName: config.nodeName,
    dataplane: (mode) => createDataplane(mode, { nft, restores, log: servicesLog, ipvs: services.ipvs }),
    facts() {
      const subnets = networks?.networks.flatMap((network) => network.subnets) ?? []
      return {
        subnets: subnets.map(({ cidr }) => cidr),
        ownAddresses: [...(config.dns?.addresses ?? []), ...subnets.map(({ gateway }) => gateway)],
      }
    },
    waitFor: [allSources],
    clock: systemClock,
    log: servicesLog,
    connections,
    leftover,
    holdConnections: async () => nft && (await ensureAnchor(nft)),
    onModes: (modes) => record.write(modes),
    onSynced(outcome) {
      const view = status.noteSync(outcome)
      metrics.observeSync(view)
      metrics.kubeProxy.observeSync(outcome)
      healthChecks.update(outcome.services.services)
      const line = describer.describe(outcome)
      if (line !== undefined) events.add('services', line)
      servicesLog.debug({ ...view, kind: outcome.result.kind }, 'services synced')
      if (proxy.loop.status().syncs === 1) setImmediate(settleMemory, log)
    },
  })
  const healthChecks = stack.use(
    new HealthCheckServers({
      log: servicesLog,
      clock: systemClock,
      isHealthy: () => proxy.health().healthy,
      addresses: (family) => proxy.nodePortHosts(family),
    }),
  )
  stack.use(proxy)
  status.loop = proxy.loop
  status.healthChecks = healthChecks
  status.connections = connections
  return proxy
}

/** A client that uses a port again must not be sent to a socket of a userspace mode that is gone. */
async function forgetRelayed(connections: ServiceConnections | undefined, log: Log): Promise<void> {
  try {
    await connections?.forgetRelayed()
  } catch (error) {
    log.warn({ err: error }, 'connections that a former daemon carried stay until they time out')
  }
}

/** Without a connection table that can be read, Services work, and stale connections stay until they time out. */
async function openUsableConnections({ stack }: Context, log: Log): Promise<ServiceConnections | undefined> {
  const connections = openServiceConnections({ clock: systemClock, log })
  try {
    await connections.probe()
    return stack.use(connections)
  } catch (error) {
    connections[Symbol.dispose]()
    log.warn({ err: error }, 'the connection table cannot be read: stale UDP connections will not be forgotten')
    return undefined
  }
}

async function startDns(
  context: Context,
  networks: BridgeNetworks | undefined,
  version: string,
): Promise<OpenDns | undefined> {
  const { config, log, stack, status } = context
  if (!config.dns) return undefined
  const dns = await openDns(config.dns, {
    names: networks && new PodNames(networks),
    lostFor: createSourceSilence(() => status.followed.map(viewSource)),
    waitingFor: () => (status.sources?.synced ? [] : ['kubernetes']),
    version,
    log: log.child({ part: 'dns' }),
    stack,
  })
  status.dns = dns.server
  return dns
}

async function startHttp({ config, log, stack, status, metrics }: Context): Promise<void> {
  const { listen } = config.http
  if (!listen) return
  const server = createHttpServer(healthRoutes(status, metrics.registry), (error) => {
    log.error({ err: error }, 'cannot answer over HTTP')
  })
  try {
    await listenTcp(server, listen)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new StartError(`http.listen: cannot listen on ${listen.host} port ${listen.port}: ${code}`, { cause: error })
  }
  stack.defer(() => closeServer(server))
}

/** kube-proxy's servers, and what it sets of the machine. */
async function startKubeProxy(
  context: Context,
  proxy: ServiceProxy | undefined,
): Promise<KubeProxyServers | undefined> {
  const { log, stack, metrics } = context
  const parts = context.config.kubeProxy
  if (!parts || !proxy) return undefined
  const health = proxyHealthRoutes({
    health: () => proxy.health(),
    nodeEligible: () => proxy.nodeEligible,
    onAnswer: (route, status) => metrics.kubeProxy.countHealthAnswer(route, status),
  })
  const mode = (): string => proxy.loop.status().mode
  const options = { registry: metrics.registry, health, mode, log, clock: systemClock }
  const servers = stack.use(new KubeProxyServers(parts, options))
  try {
    await servers.start()
  } catch (error) {
    throw new StartError(`bindAddressHardFail: ${(error as Error).message}`, { cause: error })
  }
  applyKubeProxy(parts, log)
  return servers
}

/** Sets of the machine what differs from `before`. */
function applyKubeProxy(parts: KubeProxyParts, log: Log, before?: KubeProxyParts): void {
  const known = new Set(before?.notes)
  for (const note of parts.notes) if (!known.has(note)) log.info({}, note)
  if (JSON.stringify(parts.conntrack) !== JSON.stringify(before?.conntrack))
    applyConntrackSettings(parts.conntrack, log)
  if (parts.oomScoreAdj !== before?.oomScoreAdj) applyOomScore(parts.oomScoreAdj, log)
}

/** Takes over what can change while the daemon runs; the rest waits for its next start, and is named. */
function followConfig(
  source: ConfigSource,
  running: { context: Context; proxy: ServiceProxy | undefined; kubeProxy: KubeProxyServers | undefined },
): ConfigFollower {
  const { context, proxy, kubeProxy } = running
  const log = context.log.child({ part: 'config' })
  let before = context.config
  const apply = async (after: Config): Promise<readonly string[]> => {
    if (proxy && before.services && after.services) {
      // A mode that was set by command stays, unless it is the mode that changed in the file.
      const mode = after.services.mode === before.services.mode ? proxy.config.mode : after.services.mode
      await proxy.configure({ ...after.services, mode })
    }
    if (kubeProxy && after.kubeProxy) {
      await kubeProxy.configure(after.kubeProxy)
      applyKubeProxy(after.kubeProxy, log, before.kubeProxy)
    }
    const later = keysForRestart(before, after)
    before = after
    context.events.add('daemon', `took over ${source.file}`)
    log.info({ file: source.file }, 'took over the changed configuration')
    if (later.length > 0)
      log.warn({ keys: later }, `of the changed configuration, ${later.join(', ')} waits for the next start`)
    return keysForRestart(context.config, after)
  }
  return context.stack.use(new ConfigFollower(source, { clock: systemClock, log, apply }))
}

async function whenReady(status: DaemonStatus, signal: AbortSignal): Promise<void> {
  while (!status.view().ready) {
    signal.throwIfAborted()
    await sleep(20)
  }
}
