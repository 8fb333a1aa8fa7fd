import type { ManifestReader } from '../model/manifest-reader.ts'

/** `sources.docker` of the configuration: the Docker engine whose containers become Pods and Services. */
export interface DockerConfig {
  /** Path of its unix socket. */
  readonly socket: string
}

/** The keys of `sources.docker`. */
export const dockerKeys = { enabled: true, socket: true } as const

/** Reads `sources.docker`; undefined while it is not enabled. */
export function readDocker(reader: ManifestReader, absolute: (text: string) => string): DockerConfig | undefined {
  // As people have it in DOCKER_HOST.
  const socket = reader.parsedText('socket', (text) => absolute(text.replace(/^unix:\/\//, '')))
  return reader.boolean('enabled') === true ? { socket: socket ?? '/var/run/docker.sock' } : undefined
}
