import type { NetlinkError } from '../netlink/netlink-error.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'
import { applyEndpointActions, applyHostAction, deleteLinks } from './apply.ts'
import { createEndpoint } from './create-endpoints.ts'
import { diffEndpoint, diffHost, formatAction, type HostAction, type NamespaceState } from './diff.ts'
import type { BridgeKernel } from './kernel.ts'
import type { EndpointPlan, HostPlan } from './plan.ts'

/** What a reconciliation did, in words, and what it could not do. */
export interface Reconciliation {
  readonly done: readonly string[]
  readonly errors: readonly Error[]
}

/** Reads links, addresses and routes. Throws NetlinkError. */
export async function readNamespace(rtnetlink: Rtnetlink): Promise<NamespaceState> {
  const { links, addresses, routes } = rtnetlink
  const [linkList, addressList, routeList] = await Promise.all([links.list(), addresses.list(), routes.list()])
  return { links: linkList, addresses: addressList, routes: routeList }
}

/**
 * Makes a host what the plan says: reads, compares, changes. One thing that fails does not stop the others. With
 * `everyEndpoint`, the far ends of endpoints are looked at too; without it, only of those that are made anew. `busy` is
 * looked at again and again: whoever makes or removes a port meanwhile adds it.
 */
export async function reconcileHost(
  plan: HostPlan,
  options: { readonly kernel: BridgeKernel; readonly busy: ReadonlySet<string>; readonly everyEndpoint: boolean },
): Promise<Reconciliation> {
  const { kernel, busy } = options
  const done: string[] = []
  const errors: Error[] = []
  const failed = (what: string, error: unknown): void => {
    errors.push(new Error(`cannot ${what}: ${(error as NetlinkError).message}`, { cause: error }))
  }
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
      done.push(what)
    } catch (error) {
      failed(what, error)
    }
  }
  const actions = diffHost(await readNamespace(kernel.rtnetlink), plan, { busy })
  const deletions = actions.filter(isDeletion)
  if (deletions.length > 0) {
    const indexes = deletions.map(({ index }) => index)
    await attempt(deletions.map(formatAction).join(', '), () => deleteLinks(indexes, kernel.rtnetlink))
  }
  const made = new Set<string>()
  for (const action of actions) {
    if (isDeletion(action)) continue
    if (action.kind === 'create-endpoint') {
      if (busy.has(action.endpoint.port)) continue
      made.add(action.endpoint.port)
    }
    await attempt(formatAction(action), () => applyHostAction(action, kernel))
  }
  if (!options.everyEndpoint) return { done, errors }
  for (const endpoint of plan.endpoints) {
    if (made.has(endpoint.port) || busy.has(endpoint.port)) continue
    try {
      await reconcileEndpoint(endpoint, { kernel, attempt })
    } catch (error) {
      // Its namespace may have gone with it meanwhile.
      if (!busy.has(endpoint.port)) failed(`look into ${endpoint.netns}`, error)
    }
  }
  return { done, errors }
}

/** Makes the inside of one endpoint's namespace what the plan says. Throws NetlinkError, or what `attempt` throws. */
export async function reconcileEndpoint(
  endpoint: EndpointPlan,
  context: { kernel: BridgeKernel; attempt: (what: string, work: () => Promise<void>) => Promise<void> },
): Promise<void> {
  const { kernel, attempt } = context
  using namespace = kernel.openNamespace(endpoint.netns)
  const [state, rules] = await Promise.all([readNamespace(namespace.rtnetlink), namespace.rtnetlink.rules.list()])
  const actions = diffEndpoint({ ...state, rules }, endpoint)
  if (actions === 'recreate') {
    await attempt(formatAction({ kind: 'create-endpoint', endpoint }), async () => {
      const half = await kernel.rtnetlink.links.find(endpoint.port)
      if (half) await deleteLinks([half.index], kernel.rtnetlink)
      await createEndpoint(endpoint, kernel)
    })
  } else if (actions.length > 0) {
    const what = `${actions.map(formatAction).join(', ')} in ${endpoint.netns}`
    await attempt(what, () => applyEndpointActions(actions, namespace.rtnetlink))
  }
}

function isDeletion(action: HostAction): action is Extract<HostAction, { kind: 'delete-link' }> {
  return action.kind === 'delete-link'
}
