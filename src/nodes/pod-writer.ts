import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ApiError } from '../kubernetes/api-error.ts'
import type { KubeObject } from '../kubernetes/kube-object.ts'
import { objectKey, type ObjectKey } from '../model/object-key.ts'
import type { Pod } from '../model/pod.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { podPath, type NodeApi } from './node-api.ts'
import type { OwnObjects } from './own-objects.ts'
import { describePod, describePodStatus, runAnnotation, runOf } from './pod-object.ts'
import { hasConditions, hasFields, withTimes } from './same-fields.ts'

/** Pods that are written at the same time. */
const atOnce = 8

interface PodWriterOptions {
  readonly nodeName: string
  readonly api: NodeApi
  readonly own: OwnObjects
  readonly clock: Clock
  readonly log: Log
}

/**
 * Makes the Pod objects of the API that are this node's what its pods are. A pod that cannot be written (another node has one
 * of that name) keeps no other from it, goes on as it is here, and is tried again.
 */
export class PodWriter {
  readonly #options: PodWriterOptions
  readonly #problems = new Map<ObjectKey, string>()
  /** What was compared last, and is right: a thousand pods are not compared again because one came. */
  readonly #right = new Map<ObjectKey, { readonly pod: Pod; readonly object: KubeObject; readonly hostIPs: string }>()

  constructor(options: PodWriterOptions) {
    this.#options = options
  }

  /** Sentences for people about pods that are not in the API. */
  get problems(): readonly string[] {
    return [...this.#problems.values()]
  }

  /** Brings all to the API. Throws only what is not about a single pod: the connection is gone, or the token. */
  async write(pods: Iterable<Pod>, hostIPs: readonly IpAddress[]): Promise<void> {
    const { own, nodeName } = this.#options
    const wanted = new Map([...pods].map((pod) => [objectKey(pod), pod]))
    const work: (() => Promise<void>)[] = []
    for (const [key, object] of own.objects) {
      if (wanted.has(key) || !isWritten(object)) continue
      work.push(() => this.#attempt(key, () => this.#remove(key, object)))
    }
    for (const [key, pod] of wanted)
      work.push(() => this.#attempt(key, () => this.#put(pod, { key, hostIPs, nodeName })))
    for (const map of [this.#problems, this.#right]) {
      for (const key of map.keys()) if (!wanted.has(key)) map.delete(key)
    }
    for (let at = 0; at < work.length; at += atOnce) {
      await Promise.all(work.slice(at, at + atOnce).map((one) => one()))
    }
  }

  async #put(
    pod: Pod,
    { key, hostIPs, nodeName }: { key: ObjectKey; hostIPs: readonly IpAddress[]; nodeName: string },
  ): Promise<void> {
    const { own, api, clock } = this.#options
    let object = own.objects.get(key)
    const hosts = hostIPs.join(' ')
    const right = this.#right.get(key)
    if (object && right?.pod === pod && right.object === object && right.hostIPs === hosts) return
    if (object && !isWritten(object)) {
      throw new ConflictError(
        `Pod ${key} exists in the API, and is not written by fairlead: this node's pod is not in it`,
      )
    }
    if (object && runOf(pod) !== annotationOf(object)) {
      await this.#remove(key, object)
      object = undefined
    }
    if (!object) {
      object = await this.#create(pod, nodeName)
      own.put(object)
    }
    const { conditions, ...status } = describePodStatus(pod, hostIPs)
    if (hasFields((object as { status?: unknown }).status, status) && hasConditions(object, conditions)) {
      this.#right.set(key, { pod, object, hostIPs: hosts })
      return
    }
    const { namespace, name } = pod
    const body = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace, name },
      status: { ...status, conditions: withTimes(conditions, { object, now: clock.now() }) },
    }
    own.put(await api.apply(`${podPath(namespace, name)}/status`, body))
  }

  async #create(pod: Pod, nodeName: string): Promise<KubeObject> {
    const { api } = this.#options
    const { namespace, name } = pod
    const body = describePod(pod, nodeName)
    try {
      return await api.create(podPath(namespace), body)
    } catch (error) {
      if (isStatus(error, 409)) return await this.#existing(pod, nodeName)
      if (!isStatus(error, 404)) throw error
      await this.#createNamespace(namespace, name)
      return await api.create(podPath(namespace), body)
    }
  }

  /** Of ours, the watch has not told yet; of another node, it stays as it is. */
  async #existing({ namespace, name }: Pod, nodeName: string): Promise<KubeObject> {
    const { api } = this.#options
    const object = await api.get(podPath(namespace, name))
    const { spec } = object as { spec?: { nodeName?: string } }
    if (spec?.nodeName === nodeName && isWritten(object)) return object
    const where = spec?.nodeName === undefined ? 'of no node' : `on node ${spec.nodeName}`
    throw new ConflictError(
      `Pod ${namespace}/${name} exists in the API already, ${where}: this node's pod of that name is not in it (give it another name)`,
    )
  }

  /** Who has an administrator's token makes the namespace; a node's may not. */
  async #createNamespace(namespace: string, pod: string): Promise<void> {
    try {
      await this.#options.api.create('/api/v1/namespaces', {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: namespace },
      })
    } catch (error) {
      if (isStatus(error, 409)) return
      if (!isStatus(error, 403)) throw error
      const advice = `kubectl create namespace ${namespace}`
      throw new ConflictError(
        `Pod ${namespace}/${pod} is not in the API, which has no namespace ${namespace} (${advice})`,
      )
    }
  }

  async #remove(key: ObjectKey, { metadata }: KubeObject): Promise<void> {
    const { api, own } = this.#options
    const { uid = '' } = metadata as { uid?: string }
    try {
      await api.remove(podPath(metadata.namespace ?? '', metadata.name), uid)
    } catch (error) {
      // Somebody was faster; or it is another by now, which the watch tells.
      if (!isStatus(error, 404) && !isStatus(error, 409)) throw error
    }
    own.remove(key)
  }

  async #attempt(key: ObjectKey, work: () => Promise<void>): Promise<void> {
    try {
      await work()
      this.#problems.delete(key)
    } catch (error) {
      // The server refuses this one; anything else is about all of them.
      const refused = error instanceof ConflictError || [400, 403, 404, 409, 422].some((code) => isStatus(error, code))
      if (!refused) throw error
      const { message } = error as Error
      const problem = error instanceof ConflictError ? message : `Pod ${key} is not in the API: ${message}`
      if (this.#problems.get(key) !== problem) this.#options.log.warn({ pod: key }, problem)
      this.#problems.set(key, problem)
    }
  }
}

/** A pod that the API has otherwise; the message is for people. */
class ConflictError extends Error {
  override readonly name = 'ConflictError'
}

function annotationOf(object: KubeObject): string | undefined {
  return object.metadata.annotations?.[runAnnotation]
}

function isWritten(object: KubeObject): boolean {
  return annotationOf(object) !== undefined
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof ApiError && error.status === status
}
