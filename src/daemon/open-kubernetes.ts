import type { Log } from '../base/log.ts'
import type { KubernetesSource } from '../sources/kubernetes.ts'
import type { Config } from './config.ts'

/**
 * Follows the API server of the configuration, if it names one. Throws AccessError. Imported only then: a daemon without
 * one does not pay for it.
 */
export async function openKubernetes(
  { sources, nodeName }: Pick<Config, 'sources' | 'nodeName'>,
  { log, version }: { readonly log: Log; readonly version: string },
): Promise<KubernetesSource | undefined> {
  if (!sources.kubernetes) return undefined
  const { followKubernetes } = await import('../sources/kubernetes.ts')
  const { location, view } = sources.kubernetes
  return await followKubernetes({ location, view, nodeName, env: process.env, userAgent: `fairlead/${version}`, log })
}
