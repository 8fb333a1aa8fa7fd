import { addressCidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'
import { addAddress, deleteAddress } from '../rtnetlink/addresses.ts'
import { createDummy, deleteLink } from '../rtnetlink/link-requests.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { Rtnetlink } from '../rtnetlink/rtnetlink.ts'

/** The addresses of one network namespace: those on our device, which make the machine take packets for them, and all others. */
export interface VipDevice extends Disposable {
  /** Throws when the kernel has no devices of the kind; the message says how to get it. */
  probe(): Promise<void>
  read(): Promise<{ readonly own: ReadonlySet<IpAddress> | undefined; readonly others: ReadonlySet<IpAddress> }>
  /** Makes the device if it is not there. Addresses that are there already, or gone already, are no error. Throws NetlinkError. */
  change(changes: { readonly add: readonly IpAddress[]; readonly remove: readonly IpAddress[] }): Promise<void>
  /** Removes the device and all of its addresses. Nothing to remove is no error. */
  remove(): Promise<void>
  /** Calls `listener` when an address came or went, ours by somebody else's hand, too. */
  watch(listener: () => void): void
}

/** kube-proxy's name for it, which people and tools know. */
export const vipDeviceName = 'kube-ipvs0'

/** {@link VipDevice} as a dummy device, which stays down: local addresses of a device count although it is. Owns the Rtnetlink. */
export class DummyVipDevice implements VipDevice {
  readonly #rtnetlink: Rtnetlink

  constructor(rtnetlink: Rtnetlink) {
    this.#rtnetlink = rtnetlink
  }

  async probe(): Promise<void> {
    const name = 'fl-probe-vip'
    try {
      await this.#rtnetlink.run([createDummy(name), deleteLink(name)])
    } catch (error) {
      throw new Error('the kernel makes no dummy devices (kernel option CONFIG_DUMMY; as a module: modprobe dummy)', {
        cause: error,
      })
    }
  }

  async read() {
    const link = await this.#rtnetlink.links.find(vipDeviceName)
    const all = await this.#rtnetlink.addresses.list()
    const own = all.filter((one) => one.link === link?.index)
    const others = all.filter((one) => one.link !== link?.index)
    return {
      own: link && new Set(own.map(({ address }) => address.address)),
      others: new Set(others.map(({ address }) => address.address)),
    }
  }

  async change({ add, remove }: { readonly add: readonly IpAddress[]; readonly remove: readonly IpAddress[] }) {
    let link = await this.#rtnetlink.links.find(vipDeviceName)
    if (!link) {
      await this.#rtnetlink.run([createDummy(vipDeviceName)])
      link = await this.#rtnetlink.links.get(vipDeviceName)
    }
    const { index } = link
    const requests = [
      ...remove.map((ip) => deleteAddress(index, addressCidr(ip))),
      ...add.map((ip) => addAddress({ link: index, address: addressCidr(ip) })),
    ]
    const errors = (await this.#rtnetlink.runEach(requests)).filter((result) => result instanceof Error)
    const bad = errors.find((error) => !isNetlinkError(error, 'EEXIST') && !isNetlinkError(error, 'EADDRNOTAVAIL'))
    if (bad) throw bad
  }

  async remove(): Promise<void> {
    if (await this.#rtnetlink.links.find(vipDeviceName)) await this.#rtnetlink.run([deleteLink(vipDeviceName)])
  }

  watch(listener: () => void): void {
    this.#rtnetlink.watchAddresses(listener, listener)
  }

  [Symbol.dispose](): void {
    this.#rtnetlink[Symbol.dispose]()
  }
}
