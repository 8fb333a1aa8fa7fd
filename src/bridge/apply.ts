import { addAddress } from '../netlink/addresses.ts'
import { decodeLink } from '../netlink/link.ts'
import { createVeth, getLink, setLink } from '../netlink/link-requests.ts'
import { isNetlinkError, isNotFound } from '../netlink/netlink-error.ts'
import type { Rtnetlink } from '../netlink/rtnetlink.ts'
import { replaceRoute } from '../netlink/routes.ts'
import type { EndpointAction, HostAction } from './diff.ts'
import type { BridgeKernel, NamespaceKernel } from './kernel.ts'
import { linkGroup } from './names.ts'
import { podSysctls, portOptions, type BridgePlan, type EndpointPlan, type SysctlPlan } from './plan.ts'

/** A bridge that takes no more ports. */
export class BridgeFullError extends Error {
  override readonly name = 'BridgeFullError'
}

/** Ports that a bridge can have (BR_MAX_PORTS is 1 << 10, and number 0 is not used). */
export const maxPorts = 1023

/** The group that links wait in to be deleted together ("fm"): 0.6 ms each, against 16 ms one by one. */
const deletionGroup = 0x666d

/** Makes a change of the host. Throws NetlinkError, SysctlError or {@link BridgeFullError}. */
export async function applyHostAction(
  action: Exclude<HostAction, { kind: 'delete-link' }>,
  kernel: BridgeKernel,
): Promise<void> {
  const { rtnetlink } = kernel
  switch (action.kind) {
    case 'create-bridge':
      return await createBridgeWith(action.bridge, kernel)
    case 'create-endpoint':
      return await createEndpoint(action.endpoint, { kernel })
    case 'set-link':
      return await rtnetlink.links.set(action.index, action.changes)
    case 'add-to-bridge': {
      const bridge = await rtnetlink.links.get(action.bridge)
      await explainFull(action.bridge, rtnetlink.links.set(action.index, { master: bridge.index }))
      return await rtnetlink.links.set(action.index, portOptions)
    }
    case 'add-address':
      return await rtnetlink.addresses.add({ link: action.index, address: action.address, replace: true })
    case 'delete-address':
      return await rtnetlink.addresses.delete(action.index, action.address)
    case 'add-subnet-route':
      return await rtnetlink.routes.replace({ ...action.route, dev: action.index })
    default:
      return action satisfies never
  }
}

/** Makes changes inside a pod's namespace, in one send. Throws NetlinkError. */
export async function applyEndpointActions(actions: readonly EndpointAction[], rtnetlink: Rtnetlink): Promise<void> {
  await rtnetlink.run(
    actions.map((action) => {
      switch (action.kind) {
        case 'set-link':
          return setLink(action.index, action.changes)
        case 'add-address':
          return addAddress({ link: action.index, address: action.address, replace: true })
        case 'add-route':
          return replaceRoute({ ...action.route, dev: action.index })
        default:
          return action satisfies never
      }
    }),
  )
}

/** Deletes links together. Those that are gone already are no error. */
export async function deleteLinks(indexes: readonly number[], rtnetlink: Rtnetlink): Promise<void> {
  if (indexes.length === 1) {
    await rtnetlink.links.delete(indexes[0]!).catch(unlessNotFound)
    return
  }
  const marks = await Promise.allSettled(indexes.map((index) => rtnetlink.links.set(index, { group: deletionGroup })))
  for (const mark of marks) if (mark.status === 'rejected') unlessNotFound(mark.reason)
  if (marks.some(({ status }) => status === 'fulfilled')) await rtnetlink.links.deleteGroup(deletionGroup)
}

/**
 * Builds an endpoint: the pair with its far end born in the namespace, then everything inside it, each in one send. A
 * second attempt after a failure must delete the port first.
 */
export async function createEndpoint(
  endpoint: EndpointPlan,
  { kernel, master }: { kernel: BridgeKernel; master?: number },
): Promise<void> {
  using namespace = kernel.openNamespace(endpoint.netns)
  writeSysctls(podSysctls, namespace)
  const bridge = master ?? (await kernel.rtnetlink.links.get(endpoint.bridge)).index
  const creation = createVeth({
    name: endpoint.port,
    master: bridge,
    mtu: endpoint.mtu,
    group: linkGroup,
    peer: { name: endpoint.link, mac: endpoint.mac, ...(namespace.handle && { netns: namespace.handle }) },
  })
  await explainFull(
    endpoint.bridge,
    kernel.rtnetlink.run([creation, setLink(endpoint.port, { alias: endpoint.alias, ...portOptions })]),
  )
  const [, , answer] = await namespace.rtnetlink.run([
    setLink('lo', { up: true }),
    setLink(endpoint.link, { up: true }),
    getLink(endpoint.link),
  ])
  const link = decodeLink(answer![0]!.payload)
  await namespace.rtnetlink.run([
    ...endpoint.addresses.map((address) => addAddress({ link: link.index, address })),
    ...endpoint.routes.map((route) => replaceRoute({ ...route, dev: link.index })),
  ])
}

/** Writes those settings that differ. Settings that this kernel does not have are passed over. Throws SysctlError. */
export function writeSysctls(sysctls: readonly SysctlPlan[], kernel: NamespaceKernel): SysctlPlan[] {
  const changed: SysctlPlan[] = []
  for (const sysctl of sysctls) {
    const value = kernel.readSysctl(sysctl.path)
    if (value === undefined || value === sysctl.value) continue
    kernel.writeSysctl(sysctl.path, sysctl.value)
    changed.push(sysctl)
  }
  return changed
}

/** The bridge is switched on last: its settings must be there before the kernel gives it a link-local address. */
async function createBridgeWith(bridge: BridgePlan, kernel: BridgeKernel): Promise<void> {
  const { name, alias, mac, mtu, addresses, sysctls } = bridge
  const { index } = await kernel.rtnetlink.links.createBridge({ name, alias, mac, up: false, group: linkGroup })
  writeSysctls(sysctls, kernel)
  await kernel.rtnetlink.run([
    ...addresses.map((address) => addAddress({ link: index, address })),
    // Not at birth: only an MTU that is changed by hand stays, any other follows the ports (br_mtu_auto_adjust).
    setLink(index, { up: true, mtu }),
  ])
}

async function explainFull<T>(bridge: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    // What was sent in the same datagram fails as a consequence.
    const errors: unknown[] = error instanceof AggregateError ? error.errors : [error]
    if (!errors.some((one) => isNetlinkError(one, 'EXFULL'))) throw error
    const message = `bridge ${bridge} has ${maxPorts} ports, as many as a bridge can have (use another network)`
    throw new BridgeFullError(message, { cause: error })
  }
}

function unlessNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error
}
