import type { Log } from '../base/log.ts'
import type { DockerSource } from '../sources/docker.ts'
import type { Config } from './config.ts'

/** Follows the Docker engine of the configuration, if it names one. Imported only then: a daemon without one does not pay for it. */
export async function openDocker(
  { sources, nodeName }: Pick<Config, 'sources' | 'nodeName'>,
  { log }: { readonly log: Log },
): Promise<DockerSource | undefined> {
  if (!sources.docker) return undefined
  const { DockerSource } = await import('../sources/docker.ts')
  return new DockerSource({ socket: sources.docker.socket, nodeName, log })
}
