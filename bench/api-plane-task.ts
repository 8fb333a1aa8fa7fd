/** What the control plane's process says when it has all objects. */
export interface PlaneReady {
  /** PEM. */
  readonly authority: string
  readonly token: string
}

/** What it is asked: to update the objects of a file of manifests, all at once. */
export interface PlaneTask {
  readonly file: string
}

/** When the changes were there for watchers: CLOCK_MONOTONIC in ns, which all processes share. */
export interface PlaneChanged {
  readonly atNs: string
  readonly objects: number
}
