import type { Log } from '../base/log.ts'
import type { KubernetesSource } from '../sources/kubernetes.ts'
import type { Config } from './config.ts'
import { isRegistered, keepsPodRoutes } from './node-config.ts'

/**
 * Follows the API server of the configuration, if it names one. Throws AccessError. Imported only then: a daemon without
 * one does not pay for it.
 */
export async function openKubernetes(
  config: Pick<Config, 'sources' | 'nodeName' | 'node' | 'api'>,
  { log, version }: { readonly log: Log; readonly version: string },
): Promise<KubernetesSource | undefined> {
  const { sources, nodeName } = config
  if (!sources.kubernetes) return undefined
  const { followKubernetes } = await import('../sources/kubernetes.ts')
  const { location, view } = sources.kubernetes
  return await followKubernetes({
    location,
    view,
    nodeName,
    allNodes: keepsPodRoutes(config),
    // A node that writes its pods there finds them in the slices.
    makesSlices: isRegistered(config) && config.api === undefined,
    // Nodes of an embedded API are few: it is soon asked again when it comes back.
    ...(isRegistered(config) && { times: { backoff: { maxMs: 5000 } } }),
    env: process.env,
    userAgent: `fairlead/${version}`,
    log,
  })
}
