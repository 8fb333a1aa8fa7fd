import { BoundedRunner } from '../base/bounded-runner.ts'
import type { Clock, Timer } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { ApiClient } from '../kubernetes/api-client.ts'
import type { ClusterAccess } from '../kubernetes/cluster-access.ts'
import { Reflector } from '../kubernetes/reflector.ts'
import type { Pod } from '../model/pod.ts'
import { leasesPath, NodeApi, nodesPath, podsPath } from './node-api.ts'
import { describeLease, describeNode, describeNodeStatus, type NodeFacts } from './node-object.ts'
import { OwnObjects } from './own-objects.ts'
import { PodWriter } from './pod-writer.ts'
import { hasConditions, hasFields, withTimes } from './same-fields.ts'

/** What {@link NodeAgent} needs. */
export interface NodeAgentOptions {
  readonly access: ClusterAccess
  /** What this node is now. */
  readonly facts: () => Promise<NodeFacts>
  readonly nodeName: string
  /** How long the node counts as alive without a sign, s; it gives one four times as often. */
  readonly leaseSeconds: number
  readonly userAgent: string
  readonly clock: Clock
  readonly log: Log
}

/** Where the agent stands. */
export interface NodeAgentStatus {
  /** Since the Lease was renewed, ms; undefined: it never was. */
  readonly renewedMs: number | undefined
  /** Why it cannot be renewed, or nodes and pods cannot be written. */
  readonly error: string | undefined
  /** Sentences about single pods. */
  readonly problems: readonly string[]
}

/** So often the status is written although nothing has changed, ms, as a kubelet does (nodeStatusReportFrequency). */
const reportMs = 300_000
/** How long the last changes may take when the daemon stops, ms. */
const farewellMs = 3000

/**
 * What a kubelet is to the API: it keeps the node's Node object, its Lease and the Pods on it what they are here, level-triggered: what
 * the API has is followed, and what differs is written, whoever made it differ. Dispose it to stop; the objects stay.
 */
export class NodeAgent implements AsyncDisposable {
  readonly #options: NodeAgentOptions
  readonly #stop = new AbortController()
  readonly #client: ApiClient
  readonly #api: NodeApi
  readonly #nodes: OwnObjects
  readonly #ownPods: OwnObjects
  readonly #writer: PodWriter
  readonly #runner: BoundedRunner
  readonly #reflectors: Promise<unknown>
  #pods: Iterable<Pod> | undefined
  #timer: Timer | undefined
  #renewed: number | undefined
  #reported = 0
  /** Labels that an earlier daemon had set, and this one's configuration does not, go with the first write. */
  #applied = false
  #leaseError: string | undefined
  #writeError: string | undefined

  constructor(options: NodeAgentOptions) {
    const { access, nodeName, userAgent, clock, log } = options
    this.#options = options
    this.#client = new ApiClient(access, { userAgent })
    this.#api = new NodeApi(this.#client, { signal: this.#stop.signal })
    this.#runner = new BoundedRunner({
      run: () => this.#write(),
      clock,
      restFactor: 1,
      retry: { firstMs: 200, maxMs: 10_000 },
      onError: (error) => this.#noteWrite(error),
    })
    const changed = (): void => this.#runner.request()
    this.#nodes = new OwnObjects(changed)
    this.#ownPods = new OwnObjects(changed)
    this.#writer = new PodWriter({ nodeName, api: this.#api, own: this.#ownPods, clock, log })
    const follow = (path: string, fieldSelector: string, sink: OwnObjects): Promise<void> => {
      const resource = { name: path.slice('/api/v1/'.length), path, fieldSelector }
      const times = { backoff: { maxMs: 5000 } }
      const reflector = new Reflector({ client: this.#client, resource, sink, clock, log, times, onStatus: () => {} })
      return reflector.run(this.#stop.signal)
    }
    this.#reflectors = Promise.all([
      follow(nodesPath, `metadata.name=${nodeName}`, this.#nodes),
      follow(podsPath, `spec.nodeName=${nodeName}`, this.#ownPods),
    ])
    void this.#beat()
  }

  /** The newest pods of this node. Until the first call, what the API has of them stays. */
  update(pods: Iterable<Pod>): void {
    this.#pods = pods
    this.#runner.request({ urgent: true })
  }

  /** What this node is may have changed. */
  refresh(): void {
    this.#runner.request()
  }

  /** The labels and annotations that the API has of this node's pods, by `namespace/name`. */
  get known(): OwnObjects['objects'] {
    return this.#ownPods.objects
  }

  status(): NodeAgentStatus {
    const { clock } = this.#options
    return {
      renewedMs: this.#renewed === undefined ? undefined : clock.monotonic() - this.#renewed,
      error: this.#leaseError ?? this.#writeError,
      problems: this.#writer.problems,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel()
    // Pods that were just removed: nobody else would say so.
    const { clock } = this.#options
    const deadline = clock.monotonic() + farewellMs
    while (this.#runner.busy && this.#runner.failures === 0 && clock.monotonic() < deadline) {
      await new Promise<void>((resolve) => clock.after(10, resolve))
    }
    this.#runner.stop()
    this.#stop.abort()
    await this.#runner.settled()
    await this.#reflectors
    this.#client[Symbol.dispose]()
  }

  /** Renews the Lease, for ever. Not in turn with the writes: many pods must not make the node look dead. */
  async #beat(): Promise<void> {
    const { nodeName, leaseSeconds, clock, log } = this.#options
    const pauseMs = (leaseSeconds * 1000) / 4
    let next = pauseMs
    try {
      const lease = describeLease(nodeName, { seconds: leaseSeconds, now: clock.now() })
      await this.#api.apply(`${leasesPath}/${encodeURIComponent(nodeName)}`, lease)
      this.#renewed = clock.monotonic()
      if (this.#leaseError !== undefined) log.info({}, 'The API hears from this node again')
      this.#leaseError = undefined
      this.#runner.request()
    } catch (error) {
      if (this.#stop.signal.aborted) return
      const reason = `the Lease of this node cannot be renewed: ${(error as Error).message}`
      if (this.#leaseError !== reason) log.warn({ err: error }, reason)
      this.#leaseError = reason
      // A server that starts again is to hear from its nodes before it takes them for dead.
      next = Math.min(pauseMs, 2000)
    }
    if (!this.#stop.signal.aborted) this.#timer = clock.after(next, () => void this.#beat())
  }

  async #write(): Promise<void> {
    if (!this.#nodes.complete || !this.#ownPods.complete) return
    const facts = await this.#options.facts()
    await this.#writeNode(facts)
    if (this.#pods) await this.#writer.write(this.#pods, facts.addresses)
    if (this.#writeError !== undefined) this.#options.log.info({}, 'The API has what is on this node again')
    this.#writeError = undefined
  }

  async #writeNode(facts: NodeFacts): Promise<void> {
    const { nodeName, clock } = this.#options
    const path = `${nodesPath}/${encodeURIComponent(nodeName)}`
    const node = describeNode(facts)
    let object = this.#nodes.objects.get(nodeName)
    if (!this.#applied || !hasFields(object, node)) {
      object = await this.#api.apply(path, node)
      this.#applied = true
      this.#nodes.put(object)
    }
    const { conditions, ...status } = describeNodeStatus(facts)
    const isSaid = hasFields((object as { status?: unknown }).status, status) && hasConditions(object, conditions)
    if (isSaid && clock.monotonic() - this.#reported < reportMs) return
    const body = {
      status: {
        ...status,
        // Two addresses of one type are one to a merge (core/v1, NodeStatus.addresses): a kubelet writes them like this, too.
        addresses: [...status.addresses, { $patch: 'replace' }],
        conditions: withTimes(conditions, { object, now: clock.now(), heartbeat: true }),
      },
    }
    this.#nodes.put(await this.#api.patch(`${path}/status`, body))
    this.#reported = clock.monotonic()
  }

  #noteWrite(error: unknown): void {
    const reason = `what is on this node cannot be written to the API: ${(error as Error).message}`
    if (this.#writeError !== reason) this.#options.log.warn({ err: error }, reason)
    this.#writeError = reason
  }
}
