import { release } from 'node:os'
import type { IpvsClient } from '../ipvs/client.ts'
import { openIpvs } from '../ipvs/open-client.ts'
import type { Netns } from '../linux/netns.ts'
import { readSysctl, writeSysctl } from '../linux/sysctl.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import type { NftClient } from '../nftables/client.ts'
import { openNftables } from '../nftables/open-client.ts'
import { KernelVipDevice, type VipDevice } from './vip-device.ts'

/** What mode ipvs works with: the kernel's, or fakes. */
export interface IpvsParts extends Disposable {
  readonly ipvs: IpvsClient
  readonly nft: NftClient
  readonly device: VipDevice
  /** Of the kernel: `6.1.0-56-amd64`. */
  readonly kernelRelease: string
  /** Throws SysctlError. */
  readSysctl(name: string): string
  /** Throws SysctlError. */
  writeSysctl(name: string, value: number): void
}

/** Opens the kernel's parts in this thread's namespace, or in `netns`. Whether it has IPVS shows at the first question. */
export function openIpvsParts({ netns }: { readonly netns?: Netns } = {}): IpvsParts {
  const place = { ...(netns && { netns }) }
  using scope = new DisposableStack()
  const ipvs = scope.use(openIpvs(place))
  const nft = scope.use(openNftables(place))
  const device = scope.use(new KernelVipDevice(openRtnetlink(place)))
  const owned = scope.move()
  return {
    ipvs,
    nft,
    device,
    kernelRelease: release(),
    readSysctl: (name) => readSysctl(name, place),
    writeSysctl: (name, value) => writeSysctl(name, value, place),
    [Symbol.dispose]: () => owned.dispose(),
  }
}
