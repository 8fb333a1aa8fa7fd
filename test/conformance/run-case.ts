import { setTimeout as sleep } from 'node:timers/promises'
import { ipFamilyOf } from '../../src/net/ip-address.ts'
import type { Agent } from '../lab/agent-client.ts'
import { checkFlow } from './check-flow.ts'
import type { Flow, FlowCase, Manifest, Step } from './flow-case.ts'
import { knownLimit } from './mode-limits.ts'
import { placeAddresses } from './placement.ts'
import { kubeProxyConfiguration, type Mode } from './proxy-config.ts'
import { ProxyError, ProxyProcess } from './proxy-process.ts'
import { describeExpectation, type FlowResult } from './report.ts'
import type { RunProxy } from './run-proxy.ts'
import { World } from './world.ts'

export interface RunOptions {
  readonly mode: Mode
  /** Starts the fairlead that is tried. */
  readonly run: RunProxy
  /** The thread that makes all sockets; undefined: a new one. */
  readonly agent?: Agent
  /** Ends what runs when aborted. */
  readonly signal?: AbortSignal
  /** Why a flow cannot be tried here; undefined when it can. */
  readonly obstacle: (flow: Flow) => string | undefined
  /** Prepares the node before the proxy starts on it. */
  readonly prepare?: (world: World) => Promise<void>
}

/** Runs a case in a world of its own and yields what becomes of each flow, in their order. */
export async function* runCase(flowCase: FlowCase, options: RunOptions): AsyncGenerator<FlowResult> {
  const flows = flowCase.steps.flatMap((step) => step.flows.map((flow) => ({ step, flow })))
  const say = new Sayer(flowCase)
  if (flows.every(({ flow }) => options.obstacle(flow) !== undefined)) {
    for (const { step, flow } of flows) yield say.skip(step, flow, options.obstacle(flow) ?? '')
    return
  }
  await using world = await World.create(flowCase, options.agent)
  await options.prepare?.(world)
  await using proxy = new ProxyProcess(world.node, {
    run: options.run,
    config: kubeProxyConfiguration(flowCase, options.mode),
    signal: options.signal,
    families: [...new Set(flowCase.node.addresses.map(ipFamilyOf))],
  })
  const objects = new Objects(flowCase)
  let broken: string | undefined
  const judge = async (step: Step, flow: Flow): Promise<FlowResult> => {
    const cannotKeep = options.mode === 'userspace' && flow.masquerade === false
    const seen = await checkFlow(cannotKeep ? { ...flow, masquerade: undefined } : flow, world)
    if (cannotKeep && seen === undefined) return say.skip(step, flow, sourceLimit)
    const limit = seen === undefined ? undefined : knownLimit(options.mode, flowCase, flow)
    return limit === undefined ? say.seen(step, flow, seen) : say.skip(step, flow, limit)
  }
  for (const [index, step] of flowCase.steps.entries()) {
    objects.take(step)
    try {
      const clients = step.flows.flatMap(({ from }) => (from === 'node' ? [] : [from]))
      await world.place(placeAddresses(flowCase, objects.own, clients))
      // A proxy that failed is not asked again.
      if (broken === undefined && (index === 0 || step.apply.length + step.delete.length > 0))
        await proxy.apply(objects.all)
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error
      broken = error.message
    }
    if (step.wait > 0 && broken === undefined) await sleep(step.wait)
    for (const group of groupFlows(step.flows)) {
      const check = async (flow: Flow): Promise<FlowResult> => {
        const obstacle = options.obstacle(flow)
        if (obstacle !== undefined) return say.skip(step, flow, obstacle)
        if (broken === undefined) return await judge(step, flow)
        const seen = broken
        broken = 'the proxy had failed before'
        return say.seen(step, flow, seen)
      }
      yield* await Promise.all(group.map(check))
    }
  }
}

/** The first of the limits that the userspace mode's probe names. All else of such a flow is compared. */
const sourceLimit = 'mode userspace does not keep the client’s address: the daemon makes the connection'

/** Flows that wait for silence leave no trace, so neighbours wait together; all others run one by one. */
function groupFlows(flows: readonly Flow[]): Flow[][] {
  const groups: Flow[][] = []
  for (const flow of flows) {
    const last = groups.at(-1)
    if (flow.expect === 'drop' && last?.[0]?.expect === 'drop') last.push(flow)
    else groups.push([flow])
  }
  return groups
}

/** The objects as they stand after the steps so far. */
class Objects {
  readonly #case: FlowCase
  readonly #objects = new Map<string, Manifest>()
  #nodeDeleted = false

  constructor(flowCase: FlowCase) {
    this.#case = flowCase
    for (const object of flowCase.objects) this.#apply(object)
  }

  take(step: Step): void {
    for (const object of step.apply) this.#apply(object)
    for (const { kind, namespace, name } of step.delete) {
      this.#objects.delete(keyOf(kind, namespace, name))
      if (kind === 'Node' && name === this.#case.node.name) this.#nodeDeleted = true
    }
  }

  /** Those of the case. */
  get own(): Manifest[] {
    return [...this.#objects.values()]
  }

  /** With the Node that the proxy runs on, which a cluster always has. */
  get all(): Manifest[] {
    const { name, zone, addresses } = this.#case.node
    const given = this.#objects.get(keyOf('Node', '', name))
    if (!given && this.#nodeDeleted) return this.own
    const status = {
      addresses: [
        ...addresses.map((address) => ({ type: 'InternalIP', address })),
        { type: 'Hostname', address: name },
      ],
    }
    const labels = { 'kubernetes.io/hostname': name, ...(zone !== '' && { 'topology.kubernetes.io/zone': zone }) }
    const node: Manifest = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels }, status, ...given }
    return [...this.own.filter((object) => object !== given), node]
  }

  #apply(object: Manifest): void {
    const { namespace, name } = object.metadata
    this.#objects.set(keyOf(object.kind, namespace ?? '', name), object)
    if (object.kind === 'Node') this.#nodeDeleted = false
  }
}

function keyOf(kind: string, namespace: string, name: string): string {
  const namespaced = kind === 'Service' || kind === 'EndpointSlice'
  return `${kind} ${namespaced ? namespace || 'default' : ''}/${name}`
}

/** Puts results into words. */
class Sayer {
  readonly #case: FlowCase

  constructor(flowCase: FlowCase) {
    this.#case = flowCase
  }

  skip(step: Step, flow: Flow, reason: string): FlowResult {
    return { result: 'skip', ...this.#which(step, flow), reason }
  }

  seen(step: Step, flow: Flow, seen: string | undefined): FlowResult {
    if (seen === undefined) return { result: 'ok', ...this.#which(step, flow) }
    return { result: 'not ok', ...this.#which(step, flow), expected: describeExpectation(flow), seen }
  }

  #which(step: Step, flow: Flow): Pick<FlowResult, 'file' | 'title' | 'step' | 'flow'> {
    return { file: this.#case.file, title: this.#case.title, step: step.name, flow: flow.name }
  }
}
