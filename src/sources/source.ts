import type { Snapshot } from '../model/snapshot.ts'

/** Something that is wrong in what a source was given, and where. */
export interface Problem {
  /** `error`: something is not served as written. `skipped`: well-formed, but of no use to a node. */
  readonly severity: 'error' | 'skipped'
  /** The file's path, or the name of another kind of source. */
  readonly file: string
  /** Which document of the file, counted from 1. */
  readonly document?: number | undefined
  /** Which line of the file, counted from 1. */
  readonly line?: number | undefined
  /** `Service shop/web`. */
  readonly object?: string | undefined
  /** The field, in the style of Kubernetes: `spec.ports[0].port`. */
  readonly path?: string | undefined
  readonly reason: string
}

/** What a source knows at one moment. */
export interface SourceState {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  /** True once a complete list was read; it stays true. Until then, what is missing from the snapshot means nothing. */
  readonly synced: boolean
}

/** Where wishes come from: files, a control plane, the daemon's own pods. */
export interface Source {
  /** For messages: `files /etc/fairlead/manifests`. */
  readonly name: string
  readonly current: SourceState
  /** Its EndpointSlices are all there is of its Services: none are made of pods here. @default false */
  readonly makesSlices?: boolean
  /** Calls `listener` after each change, and returns what ends that. The present state is in `current`. */
  subscribe(listener: (state: SourceState) => void): () => void
}

/** Where one resource of a source stands that follows a server. */
export interface FollowedResource {
  /** `services`, `containers`. */
  readonly resource: string
  readonly synced: boolean
  /** What tells of changes is open. */
  readonly connected: boolean
  readonly objects: number
  /** Since the server was last heard, ms; undefined: it was not yet. */
  readonly ageMs: number | undefined
  /** Complete lists that were read, and what was opened to hear of changes. */
  readonly lists: number
  readonly watches: number
  readonly events: number
  readonly failures: number
  /** Audits that found changes which nobody had told of. */
  readonly auditFailures: number
  /** Why it does not work at the moment, as a sentence. */
  readonly error: string | undefined
}

/** A source that follows a server. */
export interface FollowingSource extends Source {
  status(): readonly FollowedResource[]
}

/** `web.yaml:12 (document 2), Service shop/web: spec.ports[0].port: 70000 is not a port ...` */
export function formatProblem(problem: Problem): string {
  const line = problem.line === undefined ? '' : `:${problem.line}`
  const document = problem.document === undefined ? '' : ` (document ${problem.document})`
  const object = problem.object === undefined ? '' : `, ${problem.object}`
  const path = problem.path === undefined || problem.path === '' ? '' : `${problem.path}: `
  return `${problem.file}${line}${document}${object}: ${path}${problem.reason}`
}
