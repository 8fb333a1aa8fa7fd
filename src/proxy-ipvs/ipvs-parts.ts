import { release } from 'node:os'
import type { IpvsClient } from '../ipvs/client.ts'
import { openIpvs } from '../ipvs/open-client.ts'
import type { Netns } from '../linux/netns.ts'
import { writeSysctl } from '../linux/sysctl.ts'
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
    writeSysctl: (name, value) => writeSysctl(name, value, place),
    [Symbol.dispose]: () => owned.dispose(),
  }
}

/** A kernel setting that mode ipvs needs, and why. */
export interface NeededSysctl {
  readonly name: string
  readonly value: number
  readonly why: string
}

/** The settings for a kernel (Documentation/networking/ipvs-sysctl.rst). Pure. */
export function neededSysctls(
  kernelRelease: string,
  options: { readonly strictARP: boolean },
): readonly NeededSysctl[] {
  const [major = 0, minor = 0] = kernelRelease.split('.').map((part) => Number.parseInt(part, 10))
  const reuses = major > 5 || (major === 5 && minor >= 9)
  const arp: readonly NeededSysctl[] = [
    {
      name: 'net.ipv4.conf.all.arp_ignore',
      value: 1,
      why: 'strictARP: answers ARP only for addresses of the interface that was asked at',
    },
    {
      name: 'net.ipv4.conf.all.arp_announce',
      value: 2,
      why: 'strictARP: asks with an address of the interface that it asks at',
    },
  ]
  return [
    { name: 'net.ipv4.vs.conntrack', value: 1, why: 'masquerade needs connection tracking of balanced connections' },
    {
      name: 'net.ipv4.vs.conn_reuse_mode',
      value: reuses ? 1 : 0,
      why: reuses
        ? 'a client port that is used again is scheduled anew, so that a real server with weight 0 drains (kubernetes #81775)'
        : 'before Linux 5.9, a client port that is used again costs a second (kubernetes #70747)',
    },
    {
      name: 'net.ipv4.vs.expire_nodest_conn',
      value: 1,
      why: 'a connection whose real server was deleted ends at its next packet, instead of hanging',
    },
    {
      name: 'net.ipv4.vs.expire_quiescent_template',
      value: 1,
      why: 'session affinity does not bring clients to a real server with weight 0',
    },
    ...(options.strictARP ? arp : []),
  ]
}
