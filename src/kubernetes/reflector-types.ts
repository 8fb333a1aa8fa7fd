import type { BackoffOptions } from './backoff.ts'
import type { KubeObject, WatchEvent } from './kube-object.ts'

/** One kind of objects of an API server, or some of them. */
export interface Resource {
  /** For messages and figures: `services`. */
  readonly name: string
  /** `/apis/discovery.k8s.io/v1/endpointslices` */
  readonly path: string
  readonly labelSelector?: string
  /** Left away where the server does not know the field (400). */
  readonly fieldSelector?: string
  /** A server that does not have it (404), or does not show it (403), counts as one that has none of it. */
  readonly optional?: boolean
}

/** Where a reflector puts what it reads. */
export interface ReflectorSink {
  /** An object of a list that begins or goes on; nothing counts before {@link listed}. */
  listItem(object: KubeObject): void
  /** The list is complete: what was not in it is gone. */
  listed(): void
  /** The list broke off: what was given of it does not count. */
  listBroken(): void
  /** Changes, oldest first. */
  changed(events: readonly WatchEvent[]): void
  /** The resource version of each object, by its key: what an audit compares. */
  versions(): Iterable<readonly [string, string]>
}

/** Times of a reflector; the defaults are those of client-go where it has them. */
export interface ReflectorTimes {
  /** How long the server keeps a watch open, s: a random one from here to twice this. @default 300 */
  readonly watchSeconds?: number
  /**
   * A watch without event and bookmark for this long is begun anew, ms. Counts once the server has sent a bookmark (it
   * sends one a minute), and while it is in a list. @default 150_000
   */
  readonly silenceMs?: number
  /** Between audits, ms; half as much again at random. @default 3_600_000 */
  readonly auditMs?: number
  /** Between the two looks of an audit, ms. @default 5000 */
  readonly auditGraceMs?: number
  /** Until a resource that the server does not have is asked for again, ms. @default 300_000 */
  readonly optionalMs?: number
  readonly backoff?: BackoffOptions
}

/** What a reflector has done. */
export interface ReflectorStatus {
  readonly resource: string
  readonly synced: boolean
  /** A watch is open. */
  readonly connected: boolean
  /** Since the last event, bookmark or end of a list, ms; undefined: there was none yet. */
  readonly ageMs: number | undefined
  readonly resourceVersion: string | undefined
  readonly lists: number
  readonly watches: number
  readonly events: number
  readonly bookmarks: number
  readonly failures: number
  /** Audits that found the cache different from the server's list. */
  readonly auditFailures: number
  /** Why it does not work at the moment, as a sentence. */
  readonly error: string | undefined
}
