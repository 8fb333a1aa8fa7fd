import type { Log } from '../base/log.ts'
import { addressCidr } from '../net/cidr.ts'
import { ipFamilies, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { isAlreadyExists, isNetlinkError } from '../netlink/netlink-error.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'

/**
 * Where the userspace mode listens: addresses of the node that nobody else has, since an answer over UDP leaves with the
 * address of the socket, and must have the one that the question was redirected to. Link-local (RFC 3927) and unique
 * local (RFC 4193), on the loopback link, of host scope: nothing beyond this node ever sees them.
 */
export const relayAddresses: Readonly<Record<IpFamily, IpAddress>> = {
  4: parseIp('169.254.62.46'),
  6: parseIp('fd66:6169:726c:6561::1'),
}

/** LOOPBACK_IFINDEX of include/net/flow.h: the same in every network namespace. */
const loopback = 1

/** Gives the node the {@link relayAddresses}, and takes them away. */
export class RelayAddresses {
  readonly #open: () => Rtnetlink
  readonly #log: Log
  #refused = ''

  constructor(options: { readonly rtnetlink: () => Rtnetlink; readonly log: Log }) {
    this.#open = options.rtnetlink
    this.#log = options.log
  }

  /** Sees to it that the node has them, and returns those that it has: a kernel without IPv6 takes none of that family. */
  async ensure(): Promise<ReadonlySet<IpFamily>> {
    using rtnetlink = this.#open()
    const there = new Set<IpFamily>()
    const refused: string[] = []
    for (const family of ipFamilies) {
      try {
        const address = addressCidr(relayAddresses[family])
        await rtnetlink.addresses.add({ link: loopback, address, scope: 'host', noPrefixRoute: true })
        there.add(family)
      } catch (error) {
        if (isAlreadyExists(error)) there.add(family)
        else if (isNetlinkError(error)) refused.push(error.message)
        else throw error
      }
    }
    if (refused.join() !== this.#refused) {
      this.#refused = refused.join()
      for (const reason of refused) this.#log.warn({ mode: 'userspace' }, `no Services in this family: ${reason}`)
    }
    return there
  }

  /** Returns those that were there. */
  async remove(): Promise<readonly IpAddress[]> {
    using rtnetlink = this.#open()
    const removed: IpAddress[] = []
    for (const family of ipFamilies) {
      try {
        await rtnetlink.addresses.delete(loopback, addressCidr(relayAddresses[family]))
        removed.push(relayAddresses[family])
      } catch (error) {
        if (!isNetlinkError(error, 'EADDRNOTAVAIL')) throw error
      }
    }
    return removed
  }
}
