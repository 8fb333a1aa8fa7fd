import { encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { IFF_UP, linkPayload, RTM_NEWLINK } from './link.ts'
import { checkedName, type NetnsHandle } from './link-requests.ts'
import { NLM_F_CREATE, NLM_F_EXCL } from '../netlink/message.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'

/** enum IFLA_IPVLAN_*: IFLA_INFO_DATA of an ipvlan. */
const ipvlanAttributes = {
  mode: { id: 1, type: 'u16' },
} as const satisfies AttributeTable

/** enum ipvlan_mode of include/uapi/linux/if_link.h. */
const modes = { l2: 0, l3: 1, l3s: 2 } as const

export interface CreateIpvlan {
  readonly name: string
  /** Index of the link below, in the namespace of the socket. */
  readonly parent: number
  /** All ipvlan links of one parent have the same: the last one that is made decides. */
  readonly mode: keyof typeof modes
  /** At most the parent's, which is also the default. */
  readonly mtu?: number
  /** Default true. */
  readonly up?: boolean
  readonly group?: number
  /** Where the link is born. Default: this namespace. */
  readonly netns?: NetnsHandle
}

/**
 * A link that shares the MAC address of the one below and is told apart by its IP addresses, born in the other namespace. The
 * kernel answers ENODEV when there is no parent, EBUSY when something else has it (a bridge, macvlan), EOPNOTSUPP without
 * CONFIG_IPVLAN, whether there is a parent or not.
 */
export function createIpvlan({ name, parent, mode, mtu, up = true, group, netns }: CreateIpvlan): NetlinkRequest {
  const payload = linkPayload(
    { flags: up ? IFF_UP : 0, change: IFF_UP },
    {
      name: checkedName(name),
      link: parent,
      mtu,
      group,
      netnsFd: netns?.fd,
      info: { kind: 'ipvlan', data: encodeAttributes(ipvlanAttributes, { mode: modes[mode] }) },
    },
  )
  const where = netns ? ` in netns ${netns.name ?? `fd ${netns.fd}`}` : ''
  const flags = NLM_F_CREATE | NLM_F_EXCL
  return { name: `create ipvlan ${name} on link ${parent}${where}`, type: RTM_NEWLINK, flags, payload }
}
