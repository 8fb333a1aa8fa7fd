import type { MacvlanSettings } from '../model/network.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { setLink } from '../netlink/link-requests.ts'
import { createMacvlan } from '../netlink/macvlan-requests.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { BridgeKernel } from './kernel.ts'
import { linkGroup, ownerAlias, type Owner } from './names.ts'
import { podSysctls } from './plan.ts'
import { overwriteSysctls } from './write-sysctls.ts'

/** A macvlan link that cannot be made as asked, in words for people; nothing was changed. */
export class MacvlanError extends Error {
  override readonly name = 'MacvlanError'
}

/** The link of one pod. */
export interface MacvlanLink {
  readonly owner: Owner
  /** Path of the namespace. */
  readonly netns: string
  /** Its name there. */
  readonly link: string
  readonly mac: MacAddress
  /** Default: the parent's. */
  readonly mtu?: number
}

/**
 * Makes a pod's link on one of the host's, up and without addresses, and returns the MAC address that it has: in mode
 * `passthru` its parent's. Throws {@link MacvlanError}, NetlinkError (EEXIST), ENOENT for a namespace that is not there.
 */
export async function createMacvlanLink(
  settings: Pick<MacvlanSettings, 'parent' | 'mode'>,
  { owner, netns, link, mac, mtu }: MacvlanLink,
  kernel: BridgeKernel,
): Promise<MacAddress> {
  const { mode } = settings
  const parent = await kernel.rtnetlink.links.find(settings.parent)
  if (!parent) throw new MacvlanError(`there is no link ${settings.parent} on this host to put ${owner} on`)
  if (mtu !== undefined && mtu > parent.mtu) {
    throw new MacvlanError(`MTU ${mtu} is more than link ${parent.name} has (expected at most ${parent.mtu})`)
  }
  using namespace = kernel.openNamespace(netns)
  overwriteSysctls(podSysctls, namespace)
  const birthplace = namespace.handle ? { netns: namespace.handle } : {}
  const sizes = mtu === undefined ? {} : { mtu }
  const create = createMacvlan({
    name: link,
    parent: parent.index,
    mode,
    mac,
    ...sizes,
    up: false,
    group: linkGroup,
    ...birthplace,
  })
  try {
    await kernel.rtnetlink.run([create])
  } catch (error) {
    throw explain(error, { parent: parent.name, mode })
  }
  try {
    const { index, mac: own = mac } = await namespace.rtnetlink.links.get(link)
    await namespace.rtnetlink.run([
      setLink('lo', { up: true }),
      setLink(index, { alias: ownerAlias(owner) }),
      setLink(index, { up: true }),
    ])
    return own
  } catch (error) {
    await namespace.rtnetlink.links.delete(link)
    throw explain(error, { parent: parent.name, mode })
  }
}

/** Takes the link away. One that is not there, or whose namespace is not there, is no error. */
export async function deleteMacvlanLink(
  { netns, link }: Pick<MacvlanLink, 'netns' | 'link'>,
  kernel: BridgeKernel,
): Promise<void> {
  try {
    using namespace = kernel.openNamespace(netns)
    await namespace.rtnetlink.links.delete(link)
  } catch (error) {
    if (isNetlinkError(error, 'ENODEV') || (error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
}

function explain(error: unknown, { parent, mode }: { parent: string; mode: string }): unknown {
  const reasons = {
    EOPNOTSUPP: 'this kernel has no macvlan (CONFIG_MACVLAN)',
    EBUSY: `link ${parent} is in use by something that shares it with none, like a bridge`,
    EADDRINUSE: `another link on ${parent} has this MAC address (expected one of its own for each pod)`,
    EINVAL: `link ${parent} takes no macvlan of mode ${mode}: it is no Ethernet, or has one of mode passthru, which shares with none`,
  } as const
  for (const [code, reason] of Object.entries(reasons)) {
    if (isNetlinkError(error, code)) return new MacvlanError(reason, { cause: error })
  }
  return error
}
