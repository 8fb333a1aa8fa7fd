import type { LanSettings } from '../model/network.ts'
import type { MacAddress } from '../net/mac-address.ts'
import { createIpvlan } from '../rtnetlink/ipvlan-requests.ts'
import { setLink } from '../rtnetlink/link-requests.ts'
import { createMacvlan } from '../rtnetlink/macvlan-requests.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'
import type { BridgeKernel } from './kernel.ts'
import { linkGroup, ownerAlias, portOf, type Owner } from './names.ts'
import { podSysctls } from './plan.ts'
import { overwriteSysctls } from './write-sysctls.ts'

/** A link that cannot be made as asked, in words for people; nothing was changed. */
export class LanLinkError extends Error {
  override readonly name = 'LanLinkError'
}

/** What kind of link, on which one of the host's. */
export type LanParent = Pick<LanSettings, 'driver' | 'mode' | 'parent'>

/** The link of one pod. */
export interface LanLink {
  readonly owner: Owner
  /** Path of the namespace. */
  readonly netns: string
  /** Its name there. */
  readonly link: string
  /** Passed over where the link has its parent's: ipvlan, and macvlan in mode `passthru`. */
  readonly mac: MacAddress
  /** Default: the parent's. */
  readonly mtu?: number | undefined
}

/**
 * Makes a pod's link on one of the host's, up and without addresses, and returns the MAC address that it has: an ipvlan and
 * a macvlan of mode `passthru` have their parent's. Throws {@link LanLinkError}, NetlinkError (EEXIST), ENOENT for a namespace
 * that is not there.
 */
export async function createLanLink(lan: LanParent, wanted: LanLink, kernel: BridgeKernel): Promise<MacAddress> {
  const { owner, netns, link, mac, mtu } = wanted
  const parent = await kernel.rtnetlink.links.find(lan.parent)
  if (!parent) throw new LanLinkError(`there is no link ${lan.parent} on this host to put ${owner} on`)
  if (mtu !== undefined && mtu > parent.mtu) {
    throw new LanLinkError(`MTU ${mtu} is more than link ${parent.name} has (expected at most ${parent.mtu})`)
  }
  using namespace = kernel.openNamespace(netns)
  overwriteSysctls(podSysctls, namespace)
  // Linux 6.1 looks for the name in the namespace of whoever asks, where an eth0 of the host's would be in the way.
  const birthName = portOf(wanted)
  const create = createRequest(lan, {
    name: birthName,
    parent: parent.index,
    mac,
    up: false,
    group: linkGroup,
    ...(mtu !== undefined && { mtu }),
    ...(namespace.handle && { netns: namespace.handle }),
  })
  try {
    await kernel.rtnetlink.run([create])
  } catch (error) {
    throw explain(error, lan)
  }
  try {
    const { index, mac: own = mac } = await namespace.rtnetlink.links.get(birthName)
    await namespace.rtnetlink.run([
      setLink('lo', { up: true }),
      setLink(index, { name: link }),
      setLink(index, { alias: ownerAlias(owner) }),
      setLink(index, { up: true }),
    ])
    return own
  } catch (error) {
    for (const name of [birthName, link]) {
      const left = await namespace.rtnetlink.links.find(name)
      if (left && left.kind === lan.driver && left.group === linkGroup)
        await namespace.rtnetlink.links.delete(left.index)
    }
    throw explain(error, lan)
  }
}

/** Takes the link away. One that is not there, or whose namespace is not there, is no error. */
export async function deleteLanLink(
  { netns, link }: Pick<LanLink, 'netns' | 'link'>,
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

/** Why this kernel cannot make links of a driver; undefined when it can. The kernel answers that before it looks for the parent. */
export async function driverObstacle(
  driver: LanSettings['driver'],
  kernel: Pick<BridgeKernel, 'rtnetlink'>,
): Promise<string | undefined> {
  const mode = driver === 'ipvlan' ? ('l2' as const) : ('bridge' as const)
  const nowhere = { name: 'fl-probe', parent: 0x7fff_ffff, mac: '02:00:00:00:00:01' as MacAddress, up: false }
  try {
    await kernel.rtnetlink.run([createRequest({ driver, mode, parent: '' }, nowhere)])
  } catch (error) {
    if (isNetlinkError(error, 'EOPNOTSUPP')) return lacks(driver)
  }
  return undefined
}

interface Birth {
  readonly name: string
  readonly parent: number
  readonly mac: MacAddress
  readonly up: boolean
  readonly mtu?: number
  readonly group?: number
  readonly netns?: NonNullable<BridgeKernel['handle']>
}

function createRequest(lan: LanParent, birth: Birth): NetlinkRequest {
  const { driver, mode } = lan
  return driver === 'macvlan'
    ? createMacvlan({ ...birth, mode: mode as Parameters<typeof createMacvlan>[0]['mode'] })
    : createIpvlan({ ...birth, mode: mode as Parameters<typeof createIpvlan>[0]['mode'] })
}

function lacks(driver: LanSettings['driver']): string {
  return `this kernel has no ${driver} (expected one with CONFIG_${driver.toUpperCase()}: modprobe ${driver})`
}

function explain(error: unknown, { driver, parent, mode }: LanParent): unknown {
  const reasons = {
    EOPNOTSUPP: lacks(driver),
    EBUSY: `link ${parent} is in use by something that shares it with none, like a bridge or a driver other than ${driver}`,
    EADDRINUSE: `another link on ${parent} has this address (expected one of its own for each pod)`,
    EINVAL: `link ${parent} takes no ${driver} of mode ${mode}: it is no Ethernet, or has a macvlan of mode passthru, which shares with none`,
  } as const
  for (const [code, reason] of Object.entries(reasons)) {
    if (isNetlinkError(error, code)) return new LanLinkError(reason, { cause: error })
  }
  return error
}
