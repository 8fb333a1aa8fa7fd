import { AF_INET6, AF_UNSPEC } from '../netlink/families.ts'
import { RTM_DELADDR } from './addresses.ts'
import { linkAttributes, RTM_NEWLINK } from './link.ts'
import { RTM_DELROUTE } from './routes.ts'
import { RTM_DELRULE } from './rules.ts'

/** nlmsg_type is in this machine's order (little), and BPF loads in the network's. */
const swapped = (type: number): number => (type << 8) & 0xffff

/** RTN_UNICAST */
const unicast = 1

/** SKF_AD_OFF + SKF_AD_NLATTR of include/uapi/linux/filter.h: where attribute X is, from A on; 0 when it is not there. */
const findAttribute = -0x1000 + 12

/**
 * Classic BPF for whoever follows other namespaces: only what `Rtnetlink.watchNearby` tells of, so that a thousand pods that come cost
 * the daemon nothing for the many messages of a pod's birth. Kept are addresses and rules that go; unicast routes that go, of IPv6 only if a
 * program asked for it (nlmsg_pid); and links that are no port of a bridge.
 */
export const nearbyFilter: Uint8Array = Buffer.concat(
  [
    [0x28, 0, 0, 4], // ldh [4]: nlmsg_type
    [0x15, 15, 0, swapped(RTM_DELADDR)], // keep
    [0x15, 14, 0, swapped(RTM_DELRULE)], // keep
    [0x15, 7, 0, swapped(RTM_NEWLINK)], // on at "link"
    [0x15, 0, 13, swapped(RTM_DELROUTE)], // or drop
    [0x30, 0, 0, 23], // ldb [23]: rtm_type
    [0x15, 0, 11, unicast], // or drop
    [0x30, 0, 0, 16], // ldb [16]: rtm_family
    [0x15, 0, 8, AF_INET6], // or keep
    [0x20, 0, 0, 12], // ld [12]: nlmsg_pid
    [0x15, 7, 6, 0], // drop, or keep
    [0x30, 0, 0, 16], // link: ldb [16]: ifi_family
    [0x15, 0, 5, AF_UNSPEC], // or drop
    [0x01, 0, 0, linkAttributes.master.id], // ldx
    [0x00, 0, 0, 32], // ld: where the attributes begin
    [0x30, 0, 0, findAttribute], // ldb
    [0x15, 0, 1, 0], // or drop
    [0x06, 0, 0, 0xffff_ffff], // keep
    [0x06, 0, 0, 0], // drop
  ].map(([code = 0, jt = 0, jf = 0, k = 0]) => {
    const instruction = Buffer.alloc(8)
    instruction.writeUInt16LE(code, 0)
    instruction[2] = jt
    instruction[3] = jf
    instruction.writeUInt32LE(k >>> 0, 4)
    return instruction
  }),
)
