import { join } from 'node:path'
import { systemClock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { BridgeNetworks } from '../bridge/bridge-networks.ts'
import { ensureAnchor } from '../proxy/ensure-anchor.ts'
import { HealthCheckServers } from '../proxy/health-check-servers.ts'
import { openServiceConnections, type ServiceConnections } from '../proxy/service-connections.ts'
import { createDataplane } from './dataplanes.ts'
import { SyncDescriber } from './describe-sync.ts'
import { findModes } from './find-modes.ts'
import { ModeRecord } from './mode-record.ts'
import { ServiceProxy } from './service-proxy.ts'
import { settleMemory } from './settle-memory.ts'
import { allSources, type Context } from './start-context.ts'

export async function startServices(
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
  const proxy = new ServiceProxy({
    services,
    nodeName: config.nodeName,
    dataplane: (mode) => createDataplane(mode, { nft, restores, log: servicesLog, ipvs: services.ipvs }),
    facts() {
      const subnets = networks?.networks.flatMap((network) => network.subnets) ?? []
      return {
        subnets: subnets.map(({ cidr }) => cidr),
        ownAddresses: [...(config.dns?.addresses ?? []), ...subnets.map(({ gateway }) => gateway)],
        // An API, ours or another, has them as ServiceCIDR objects.
        ...(!config.api && !config.sources.kubernetes && { serviceRanges: services.serviceCIDRs }),
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
