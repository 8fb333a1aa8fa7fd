import { keyOf, type KubeObject } from './kube-object.ts'

/**
 * Compares the versions of a cache with the server's list, twice. Returns the keys where both looks found the same
 * difference: between them every watch that works has caught up, and what changes all the time differs differently. No
 * version needs to be newer or older than another.
 */
export async function auditVersions(options: {
  readonly list: (onObject: (object: KubeObject) => void) => Promise<void>
  readonly cached: () => Iterable<readonly [string, string]>
  /** Waits until a watch that works has brought what the first list had. */
  readonly grace: () => Promise<void>
}): Promise<readonly string[]> {
  const first = await differences(options)
  if (first.size === 0) return []
  await options.grace()
  const second = await differences(options)
  return [...second].flatMap(([key, difference]) => (first.get(key) === difference ? [key] : []))
}

/** `server's version, cached version` by key, where they are not the same. */
async function differences({
  list,
  cached,
}: {
  readonly list: (onObject: (object: KubeObject) => void) => Promise<void>
  readonly cached: () => Iterable<readonly [string, string]>
}): Promise<Map<string, string>> {
  const server = new Map<string, string>()
  await list((object) => server.set(keyOf(object), object.metadata.resourceVersion))
  const found = new Map<string, string>()
  for (const [key, version] of cached()) {
    const theirs = server.get(key)
    if (theirs !== version) found.set(key, `${theirs ?? 'none'}, ${version}`)
    server.delete(key)
  }
  for (const [key, version] of server) found.set(key, `${version}, none`)
  return found
}
