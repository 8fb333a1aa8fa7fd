import { macToBytes, type MacAddress } from '../net/mac-address.ts'
import { encodeAttributes, type AttributeTable } from '../netlink/attributes.ts'
import { IFF_UP, linkPayload, RTM_NEWLINK } from './link.ts'
import { checkedName, type NetnsHandle } from './link-requests.ts'
import { NLM_F_CREATE, NLM_F_EXCL } from '../netlink/message.ts'
import type { NetlinkRequest } from '../netlink/netlink-socket.ts'

/** enum IFLA_MACVLAN_*: IFLA_INFO_DATA of a macvlan. */
const macvlanAttributes = {
  mode: { id: 1, type: 'u32' },
} as const satisfies AttributeTable

/** enum macvlan_mode of include/uapi/linux/if_link.h. */
const modes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const

export interface CreateMacvlan {
  readonly name: string
  /** Index of the link below, in the namespace of the socket. */
  readonly parent: number
  readonly mode: keyof typeof modes
  /** Passed over in mode `passthru`: there the link has its parent's. */
  readonly mac: MacAddress
  /** At most the parent's, which is also the default. */
  readonly mtu?: number
  /** Default true. */
  readonly up?: boolean
  readonly group?: number
  /** Where the link is born. Default: this namespace. */
  readonly netns?: NetnsHandle
}

/**
 * A link of its own on another one, born in the other namespace. The kernel answers ENODEV when there is no parent, EBUSY
 * when something else has it (a bridge), EINVAL when it is in mode `passthru` already, EOPNOTSUPP without CONFIG_MACVLAN.
 */
export function createMacvlan(macvlan: CreateMacvlan): NetlinkRequest {
  const { name, parent, mode, mac, mtu, up = true, group, netns } = macvlan
  const payload = linkPayload(
    { flags: up ? IFF_UP : 0, change: IFF_UP },
    {
      name: checkedName(name),
      link: parent,
      address: macToBytes(mac),
      mtu,
      group,
      netnsFd: netns?.fd,
      info: { kind: 'macvlan', data: encodeAttributes(macvlanAttributes, { mode: modes[mode] }) },
    },
  )
  const where = netns ? ` in netns ${netns.name ?? `fd ${netns.fd}`}` : ''
  const flags = NLM_F_CREATE | NLM_F_EXCL
  return { name: `create macvlan ${name} on link ${parent}${where}`, type: RTM_NEWLINK, flags, payload }
}
