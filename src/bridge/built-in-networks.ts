import { isIPv6 } from 'node:net'
import type { Log } from '../base/log.ts'
import { builtInNetworks } from '../model/read-network-settings.ts'
import { ipFamilies, ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { parseMac } from '../net/mac-address.ts'
import { setLink } from '../rtnetlink/link-requests.ts'
import { AttachError, type AttachRequest } from './attach-request.ts'
import { uplinkOf } from './host-facts.ts'
import type { BridgeKernel } from './kernel.ts'
import { leaseKey, type Lease, type LeaseJournal } from './leases.ts'

/** The network that is the host's own: a pod in it has no namespace of its own. */
export const hostNetwork = 'host'

/** The namespace that the daemon is in. */
export const hostNetnsPath = '/proc/self/ns/net'

/** What attaching to a built-in network needs. */
interface Context {
  readonly journal: LeaseJournal
  readonly kernel: BridgeKernel
  readonly bootId: string
  readonly log: Log
}

/** Whether a network is always there: `host`, which is the host's own, or `none`, with a loopback link and nothing else. */
export function isBuiltIn(network: string): network is (typeof builtInNetworks)[number] {
  return builtInNetworks.some((name) => name === network)
}

/** Gives an owner its lease; the addresses are the host's, or none. Throws {@link AttachError}, NetlinkError. */
export async function attachBuiltIn(
  network: (typeof builtInNetworks)[number],
  { owner, netns, link, ips = [], mac, publish = [] }: AttachRequest,
  { journal, kernel, bootId }: Context,
): Promise<Lease> {
  const refuse = (what: string): AttachError => {
    const reason = network === hostNetwork ? "a pod in it has the host's own links" : 'a pod in it has no link'
    return new AttachError(`network ${network} takes no ${what}: ${reason} (leave it out)`)
  }
  if (publish.length > 0) {
    if (network !== hostNetwork) throw refuse('published ports')
    throw new AttachError(
      `network host takes no published ports: what a pod listens on is open at the host (leave --publish out)`,
    )
  }
  if (ips.length > 0) throw refuse('address')
  if (mac !== undefined) throw refuse('MAC address')
  if (link !== undefined) throw refuse('interface name')
  if ([...journal.leases.values()].some((lease) => lease.owner === owner)) {
    throw new AttachError(
      `a pod cannot be connected to network ${network} (expected it to be made in it: fairlead pod run --network ${network})`,
    )
  }
  const lease = { owner, network, ips: [], mac: parseMac('00:00:00:00:00:00'), netns, link: 'lo', bootId }
  const made: Lease = network === hostNetwork ? { ...lease, ...(await readHostAddresses(kernel)) } : lease
  await journal.add([made])
  if (network === hostNetwork) return made
  try {
    using namespace = kernel.openNamespace(netns)
    await namespace.rtnetlink.run([setLink('lo', { up: true })])
    return made
  } catch (error) {
    await journal.remove([leaseKey(made)])
    throw error
  }
}

/** Brings the leases of network `host` up to date with the host's addresses. Throws NetlinkError. */
export async function refreshBuiltIn({ journal, kernel }: Pick<Context, 'journal' | 'kernel'>): Promise<void> {
  const leases = [...journal.leases.values()].filter(({ network }) => network === hostNetwork)
  if (leases.length === 0) return
  const now = await readHostAddresses(kernel)
  await journal.add(leases.map((lease) => ({ ...lease, ...now })))
}

/** The address per family of the link that leads out. */
async function readHostAddresses({ rtnetlink }: BridgeKernel): Promise<Partial<Pick<Lease, 'ips' | 'mac' | 'link'>>> {
  const [links, routes, addresses] = await Promise.all([
    rtnetlink.links.list(),
    rtnetlink.routes.list(),
    rtnetlink.addresses.list(),
  ])
  const uplink = uplinkOf(links, routes)
  if (!uplink) return {}
  const own = addresses.filter(({ link, address }) => link === uplink.index && !isLinkLocal(address.address))
  const ips = ipFamilies.flatMap((family): IpAddress[] => {
    const first = own.find(({ address }) => ipFamilyOf(address.address) === family)
    return first ? [first.address.address] : []
  })
  return { ips, link: uplink.name, ...(uplink.mac && { mac: uplink.mac }) }
}

/** RFC 4291: fe80::/10. */
function isLinkLocal(ip: string): boolean {
  return isIPv6(ip) && /^fe[89ab]/.test(ip)
}
