/** A Kubernetes Namespace (v1): that it exists is what DNS needs to know. */
export interface Namespace {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
}
