import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { NetworkError } from '../bridge/check-network.ts'
import { PodServiceError } from '../bridge/pod-unit.ts'
import { StateFileError } from '../bridge/state-file.ts'
import { ListenError } from '../dns/listen-error.ts'
import { OwnRestores } from '../iptables/own-restores.ts'
import { AccessError } from '../kubernetes/api-error.ts'
import { MemorySource } from '../sources/memory.ts'
import { ControlPlaneError } from './api-config.ts'
import { cleanupMachine } from './cleanup.ts'
import type { Config } from './config.ts'
import type { StatusView } from './control-api.ts'
import { controlRoutes, listenOnSocket, SocketError, SocketTakenError } from './control.ts'
import { ModeUnavailableError } from './dataplanes.ts'
import { DnsHttpError } from './dns-http.ts'
import { DnsInspection } from './dns-inspection.ts'
import { EventLog } from './events.ts'
import { followConfig } from './follow-config.ts'
import { createHttpServer } from './http-server.ts'
import { ServiceInspection } from './inspect-services.ts'
import { closeServer } from './listen-tcp.ts'
import { createMetrics } from './metrics.ts'
import { ModeControl } from './mode-control.ts'
import { NetworkControl } from './network-control.ts'
import { NodeTokenControl } from './node-tokens.ts'
import { openNode } from './open-node.ts'
import { PodControl } from './pod-control.ts'
import { refusedManifests } from './refused-manifests.ts'
import { ReloadControl } from './reload-control.ts'
import type { ConfigSource } from './reload.ts'
import { allSources, type Context, StartError } from './start-context.ts'
import { startDockerUser, startNetwork } from './start-network.ts'
import { openNftablesFor } from './start-nftables.ts'
import { startDns, startHttp, startKubeProxy } from './start-servers.ts'
import { startServices } from './start-services.ts'
import { startSources } from './start-sources.ts'
import { DaemonStatus } from './status.ts'
import { reportReady, type Supervisor } from './supervisor.ts'

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
  const inspection = new ServiceInspection(
    () => pods.list(),
    () => refusedManifests(status.sources?.problems ?? []),
  )
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
  // Before the sources: while they are read, its mode finds its tools and reads what is there.
  const proxy = await startServices(context, networks)
  const { sources, location } = await startSources(context, { podSource, networks, version })
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

async function whenReady(status: DaemonStatus, signal: AbortSignal): Promise<void> {
  while (!status.view().ready) {
    signal.throwIfAborted()
    await sleep(20)
  }
}
