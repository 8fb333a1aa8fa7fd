import { addressCidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { addAddress, deleteAddress } from '../rtnetlink/addresses.ts'
import { createDummy, deleteLink } from '../rtnetlink/link-requests.ts'
import type { Link } from '../rtnetlink/link.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'

/** The addresses of one network namespace: those that we added, which make the machine take packets for them, and all others. */
export interface VipDevice extends Disposable {
  /** Where our addresses are: `kube-ipvs0`, or `lo`. */
  readonly name: string
  /** `ours`: addresses that we have added, as far as is known; on a device of our own all are. */
  read(
    ours: ReadonlySet<IpAddress>,
  ): Promise<{ readonly own: ReadonlySet<IpAddress>; readonly others: ReadonlySet<IpAddress> }>
  /** Makes the device if it is not there. Addresses that are there already, or gone already, are no error. Throws NetlinkError. */
  change(changes: { readonly add: readonly IpAddress[]; readonly remove: readonly IpAddress[] }): Promise<void>
  /** Removes our addresses, and the device if it is ours. Nothing to remove is no error. */
  remove(ours: ReadonlySet<IpAddress>): Promise<void>
  /** Calls `listener` when an address came or went, ours by somebody else's hand, too. */
  watch(listener: () => void): void
}

/** kube-proxy's name for it, which people and tools know. */
export const vipDeviceName = 'kube-ipvs0'

/**
 * {@link VipDevice} as a dummy device, which stays down: local addresses of a device count although it is. Where the kernel makes no
 * dummy devices (CONFIG_DUMMY), our addresses stand on `lo`. Owns the Rtnetlink.
 */
export class KernelVipDevice implements VipDevice {
  readonly #rtnetlink: Rtnetlink
  #name = vipDeviceName

  constructor(rtnetlink: Rtnetlink) {
    this.#rtnetlink = rtnetlink
  }

  get name(): string {
    return this.#name
  }

  async read(ours: ReadonlySet<IpAddress>) {
    const link = await this.#rtnetlink.links.find(vipDeviceName)
    const lo = await this.#rtnetlink.links.find('lo')
    const own = new Set<IpAddress>()
    const others = new Set<IpAddress>()
    for (const { link: index, address } of await this.#rtnetlink.addresses.list()) {
      const isOwn = index === link?.index || (index === lo?.index && ours.has(address.address))
      ;(isOwn ? own : others).add(address.address)
    }
    return { own, others }
  }

  async change({ add, remove }: { readonly add: readonly IpAddress[]; readonly remove: readonly IpAddress[] }) {
    const { index } = await this.#ready()
    const requests = [
      ...remove.map((ip) => deleteAddress(index, addressCidr(ip))),
      ...add.map((ip) => addAddress({ link: index, address: addressCidr(ip) })),
    ]
    const errors = (await this.#rtnetlink.runEach(requests)).filter((result) => result instanceof Error)
    const bad = errors.find((error) => !isNetlinkError(error, 'EEXIST') && !isNetlinkError(error, 'EADDRNOTAVAIL'))
    if (bad) throw bad
  }

  async remove(ours: ReadonlySet<IpAddress>): Promise<void> {
    if (await this.#rtnetlink.links.find(vipDeviceName)) {
      await this.#rtnetlink.run([deleteLink(vipDeviceName)])
      return
    }
    const { own } = await this.read(ours)
    const lo = await this.#rtnetlink.links.find('lo')
    if (lo) await this.#rtnetlink.runEach([...own].map((ip) => deleteAddress(lo.index, addressCidr(ip))))
  }

  watch(listener: () => void): void {
    this.#rtnetlink.watchAddresses(listener, listener)
  }

  [Symbol.dispose](): void {
    this.#rtnetlink[Symbol.dispose]()
  }

  async #ready(): Promise<Link> {
    const link = await this.#rtnetlink.links.find(vipDeviceName)
    if (link) return link
    try {
      await this.#rtnetlink.run([createDummy(vipDeviceName)])
      this.#name = vipDeviceName
    } catch (error) {
      if (!isNetlinkError(error, 'EOPNOTSUPP')) throw error
      this.#name = 'lo'
    }
    return await this.#rtnetlink.links.get(this.#name)
  }
}
