import { ApiError } from '../api/api-error.ts'
import { leaseNamespace } from '../api/authorize-node.ts'
import type { KubeApi, Target, WriteOptions } from '../api/kube-api.ts'
import { listAt, objectAt, textAt, type KubeObject } from '../api/kube-object.ts'
import { resourceTypeOf } from '../api/resources.ts'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'

/** How often Leases are looked at, ms. */
const lookMs = 1000
/** A Lease that does not say for how long it holds, s (kubelet's nodeLeaseDurationSeconds). */
const defaultSeconds = 40

const manager = 'fairlead-node-lifecycle'
const leases = 'leases.coordination.k8s.io'

/** What a Node that is silent is said to be, in the words of Kubernetes' controller. */
const silent = {
  type: 'Ready',
  status: 'Unknown',
  reason: 'NodeStatusUnknown',
  message: 'Kubelet stopped posting node status.',
}

/**
 * Marks Nodes whose Lease nobody renews as not ready, and the pods on them, so that EndpointSlices do not send anybody there
 * (the node lifecycle controller of Kubernetes). When a Lease is as old is told by this machine's clock from the moment that its
 * last renewal was seen: clocks of nodes may differ, and a server that was away gives all of them their whole time again. What is so
 * marked is taken back by the node itself, when it is there again. Nodes that never had a Lease are left alone. Dispose it to stop.
 */
export class NodeLifecycle implements Disposable {
  readonly #api: KubeApi
  readonly #clock: Clock
  readonly #log: Log
  /** By node: its Lease's renewTime, and when it was first seen. */
  readonly #seen = new Map<string, { readonly renewTime: string; readonly at: number }>()
  readonly #silent = new Set<string>()
  #timer: Timer | undefined

  constructor(api: KubeApi, { clock, log }: { readonly clock: Clock; readonly log: Log }) {
    this.#api = api
    this.#clock = clock
    this.#log = log
    this.#next()
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #next(): void {
    this.#timer = this.#clock.after(lookMs, () => {
      this.#look()
        .catch((error: unknown) => this.#log.error({ err: error }, 'cannot mark nodes that are silent'))
        .finally(() => this.#timer && this.#next())
    })
  }

  async #look(): Promise<void> {
    const now = this.#clock.monotonic()
    const nodes = this.#api.store.list('nodes')
    for (const node of nodes) {
      const { name } = node.metadata
      const lease = this.#api.store.get(leases, leaseNamespace, name)
      const seen = this.#seen.get(name)
      // Of a Lease that somebody deleted, the last renewal counts: a dead node is not alive by that.
      const renewTime = lease ? textAt(lease.spec, 'renewTime') : seen?.renewTime
      if (renewTime === undefined) continue
      if (seen?.renewTime !== renewTime) {
        this.#seen.set(name, { renewTime, at: now })
        if (this.#silent.delete(name)) this.#log.info({ node: name }, `node ${name} is heard of again`)
        continue
      }
      const seconds = lease?.spec?.['leaseDurationSeconds']
      if (now - seen.at < 1000 * (typeof seconds === 'number' ? seconds : defaultSeconds)) continue
      await this.#markSilent(node)
    }
    for (const name of this.#seen.keys())
      if (!nodes.some(({ metadata }) => metadata.name === name)) this.#seen.delete(name)
  }

  async #markSilent(node: KubeObject): Promise<void> {
    const { name } = node.metadata
    if (!this.#silent.has(name)) {
      this.#silent.add(name)
      this.#log.warn({ node: name }, `node ${name} is silent: its pods count as not ready until it is heard of again`)
    }
    // Said of everything each second, written only where it is not so.
    if (statusOf(node, 'Ready') !== 'Unknown') await this.#setCondition(node, silent)
    const notReady = { type: 'Ready', status: 'False', reason: 'NodeNotReady', message: `node ${name} is silent` }
    for (const pod of this.#api.store.list('pods')) {
      if (textAt(pod.spec, 'nodeName') === name && statusOf(pod, 'Ready') === 'True')
        await this.#setCondition(pod, notReady)
    }
  }

  async #setCondition(object: KubeObject, condition: typeof silent): Promise<void> {
    const { kind, metadata } = object
    const { name, namespace = '' } = metadata
    const target: Target = { type: resourceTypeOf(kind), namespace, name, subresource: 'status' }
    const options: WriteOptions = { fieldManager: manager, fieldValidation: 'Ignore', dryRun: false, warnings: [] }
    const lastTransitionTime = this.#clock
      .now()
      .toISOString()
      .replace(/\.\d+Z$/, 'Z')
    const body = { status: { conditions: [{ ...condition, lastTransitionTime }] } }
    try {
      await this.#api.patch(target, { kind: 'strategic', body }, options)
    } catch (error) {
      // It went meanwhile.
      if (!(error instanceof ApiError) || error.reason !== 'NotFound') throw error
    }
  }
}

function statusOf(object: KubeObject, type: string): string {
  const condition = listAt(object.status, 'conditions').find((one) => textAt(one, 'type') === type)
  return textAt(objectAt({ condition }, 'condition'), 'status')
}
