import { systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgeNetworks } from '../bridge/bridge-networks.ts'
import { applyConntrackSettings } from './conntrack-settings.ts'
import { healthRoutes } from './health.ts'
import { createHttpServer } from './http-server.ts'
import type { KubeProxyParts } from './kube-proxy-configuration.ts'
import { KubeProxyServers } from './kube-proxy-servers.ts'
import { closeServer, listenTcp } from './listen-tcp.ts'
import { applyOomScore } from './oom-score.ts'
import { openDns, type OpenDns } from './open-dns.ts'
import { PodNames } from './pod-names.ts'
import { proxyHealthRoutes } from './proxy-health.ts'
import type { ServiceProxy } from './service-proxy.ts'
import { createSourceSilence } from './source-silence.ts'
import { type Context, StartError } from './start-context.ts'
import { viewSource } from './view-source.ts'

export async function startDns(
  context: Context,
  networks: BridgeNetworks | undefined,
  version: string,
): Promise<OpenDns | undefined> {
  const { config, log, stack, status } = context
  if (!config.dns) return undefined
  const dns = await openDns(config.dns, {
    names: networks && new PodNames(networks),
    ownNetworks: [
      ...(config.services?.serviceCIDRs ?? []),
      ...(config.services?.detectLocal.kind === 'cluster' ? config.services.detectLocal.cidrs : []),
      ...(networks?.networks ?? []).flatMap(({ subnets }) => subnets.map(({ cidr }) => cidr)),
    ],
    lostFor: createSourceSilence(() => status.followed.map(viewSource)),
    waitingFor: () => (status.sources?.synced ? [] : ['kubernetes']),
    version,
    log: log.child({ part: 'dns' }),
    stack,
  })
  status.dns = dns.server
  return dns
}

export async function startHttp({ config, log, stack, status, metrics }: Context): Promise<void> {
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
export async function startKubeProxy(
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
export function applyKubeProxy(parts: KubeProxyParts, log: Log, before?: KubeProxyParts): void {
  const known = new Set(before?.notes)
  for (const note of parts.notes) if (!known.has(note)) log.info({}, note)
  if (JSON.stringify(parts.conntrack) !== JSON.stringify(before?.conntrack))
    applyConntrackSettings(parts.conntrack, log)
  if (parts.oomScoreAdj !== before?.oomScoreAdj) applyOomScore(parts.oomScoreAdj, log)
}
