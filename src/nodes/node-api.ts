import type { ApiClient } from '../kubernetes/api-client.ts'
import { parseKubeObject, type KubeObject } from '../kubernetes/kube-object.ts'
import { fieldManager } from './node-object.ts'

/** Where objects are. */
export const nodesPath = '/api/v1/nodes'
/** Of all namespaces. */
export const podsPath = '/api/v1/pods'
export const leasesPath = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases'

/** The path of a pod, or of its namespace's pods. */
export function podPath(namespace: string, name?: string): string {
  const all = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`
  return name === undefined ? all : `${all}/${encodeURIComponent(name)}`
}

/** The few writes that a node does. Each throws ApiError, AccessError, or the error of the connection. */
export class NodeApi {
  readonly #client: ApiClient
  readonly #signal: AbortSignal

  constructor(client: ApiClient, { signal }: { readonly signal: AbortSignal }) {
    this.#client = client
    this.#signal = signal
  }

  async get(path: string): Promise<KubeObject> {
    return parseKubeObject(await this.#client.write({ method: 'GET', path, signal: this.#signal }))
  }

  async create(path: string, value: object): Promise<KubeObject> {
    const body = { type: 'application/json', value }
    return parseKubeObject(await this.#client.write({ method: 'POST', path, body, signal: this.#signal }))
  }

  /** Makes the fields of `value` what they are there, whoever set them before; creates what is not there (KEP-555). */
  async apply(path: string, value: object): Promise<KubeObject> {
    const body = { type: 'application/apply-patch+yaml', value }
    const query = { fieldManager, force: 'true' }
    return parseKubeObject(await this.#client.write({ method: 'PATCH', path, query, body, signal: this.#signal }))
  }

  /** A strategic merge patch: lists are merged by their keys, unless one of their elements says `$patch: replace`. */
  async patch(path: string, value: object): Promise<KubeObject> {
    const body = { type: 'application/strategic-merge-patch+json', value }
    const query = { fieldManager }
    return parseKubeObject(await this.#client.write({ method: 'PATCH', path, query, body, signal: this.#signal }))
  }

  /** Removes this object, and no later one of its name. */
  async remove(path: string, uid: string): Promise<void> {
    const body = { type: 'application/json', value: { preconditions: { uid } } }
    await this.#client.write({ method: 'DELETE', path, body, signal: this.#signal })
  }
}
