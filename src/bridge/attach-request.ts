import type { IpAddress } from '../net/ip-address.ts'
import type { MacAddress } from '../net/mac-address.ts'
import type { Lease } from './leases.ts'
import { isLinkName, podInterface, type Owner } from './names.ts'
import type { PublishRequest } from './publication.ts'
import type { WithdrawRequest } from './withdraw-ports.ts'

/** What to attach. */
export interface AttachRequest {
  readonly owner: Owner
  readonly network: string
  /** Path of the namespace, which must exist. */
  readonly netns: string
  /** The link's name in the namespace. Default: the network's, or eth0, or the next number. */
  readonly link?: string
  /** Static addresses, at most one per family; a family without one gets the next of the pool. */
  readonly ips?: readonly IpAddress[]
  /** Default: derived from the address, so that neighbours who remember an address remember the right MAC. */
  readonly mac?: MacAddress
  /** Ports of the host that shall lead to the endpoint. */
  readonly publish?: readonly PublishRequest[]
  /** Other names for it among the pods of the network. */
  readonly aliases?: readonly string[]
}

/** A change of what leads to an endpoint. */
export interface PortChanges {
  readonly publish: readonly PublishRequest[]
  readonly withdraw: readonly WithdrawRequest[]
}

/** An attach or detach that cannot be done as asked; nothing was changed. */
export class AttachError extends Error {
  override readonly name = 'AttachError'
}

/** The name of a new link: the wanted one, the network's, or the first number that the owner does not have. Throws {@link AttachError}. */
export function chooseLink(
  { owner, link }: Pick<AttachRequest, 'owner' | 'link'>,
  context: { readonly network: { readonly interfaceName: string | undefined }; readonly present: readonly Lease[] },
): string {
  const taken = new Set(context.present.map((lease) => lease.link ?? podInterface))
  const wanted = link ?? context.network.interfaceName
  if (wanted !== undefined) {
    if (!isLinkName(wanted)) throw new AttachError(`"${wanted}" cannot name a link (expected 1 to 15 bytes, no space)`)
    if (!taken.has(wanted)) return wanted
    throw new AttachError(`${owner} has a link ${wanted} already (expected another interface name)`)
  }
  for (let number = 0; ; number++) if (!taken.has(`eth${number}`)) return `eth${number}`
}

/** A bridge sends a frame to one port: two of one MAC address would take it from each other. Throws {@link AttachError}. */
export function checkMac(
  mac: MacAddress,
  context: {
    readonly network: { readonly name: string; readonly mac: MacAddress; readonly bridge: string }
    readonly leases: Iterable<Pick<Lease, 'owner' | 'network' | 'mac'>>
  },
): void {
  const { network, leases } = context
  const twin = Iterator.from(leases).find((lease) => lease.network === network.name && lease.mac === mac)
  const whose = mac === network.mac ? `bridge ${network.bridge}` : twin?.owner
  if (whose === undefined) return
  throw new AttachError(
    `${mac} is the MAC address of ${whose} (expected one that nobody has in network ${network.name})`,
  )
}
