import { dirname, join } from 'node:path'
import { systemClock } from '../base/clock.ts'
import type { BridgeNetworks } from '../bridge/bridge-networks.ts'
import type { ClusterLocation } from '../kubernetes/cluster-access.ts'
import { isLoopback, parseIp } from '../net/ip-address.ts'
import { watchFiles } from '../sources/files.ts'
import type { MemorySource } from '../sources/memory.ts'
import { type MergedSources, mergeSources } from '../sources/merge.ts'
import { openDocker } from './open-docker.ts'
import { openKubernetes } from './open-kubernetes.ts'
import { nodeAddresses } from './open-node.ts'
import type { Context } from './start-context.ts'

export async function startSources(
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
