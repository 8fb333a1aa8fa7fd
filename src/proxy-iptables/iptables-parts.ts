import type { Log } from '../base/log.ts'
import type { IptablesClient, Variant } from '../iptables/client.ts'
import { openIpSets, type IpSets } from '../iptables/ip-set.ts'
import { openInstalled, openTools } from '../iptables/open-tools.ts'
import { OwnRestores } from '../iptables/own-restores.ts'
import type { Netns } from '../linux/netns.ts'
import { readSysctl, SysctlError } from '../linux/sysctl.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { IpFamily } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { openNftables } from '../nftables/open-client.ts'
import type { IptablesFeatures } from './iptables-tables.ts'

/** What the iptables mode works with: the kernel's, or fakes. */
export interface IptablesParts extends Disposable {
  /** One for each address family that the machine has. Never empty. */
  readonly clients: readonly IptablesClient[]
  /** Undefined without ip_set in the kernel. */
  readonly sets: IpSets | undefined
  /** Tells when somebody changes the tables of the nft tools; undefined with the legacy ones. */
  readonly nft: NftClient | undefined
  /** What this process writes, whoever of it. */
  readonly restores: OwnRestores
  readonly features: IptablesFeatures
  /** What is missing, each with its reason. */
  readonly limits: readonly string[]
  /** The clients of the other kind of tools, if they are installed: what an earlier proxy left there has to go, too. */
  others(): Promise<readonly IptablesClient[]>
}

export interface IptablesPartsOptions {
  readonly netns?: Netns
  /** @default `auto`: what the machine's other programs use */
  readonly variant?: Variant | 'auto'
  readonly log?: Log
  /** To hear of changes with. Two of one process cost the kernel twice. @default one of its own, with the nft tools */
  readonly nft?: NftClient | undefined
  /** Shared with whoever else of this process writes iptables rules. @default nobody else does */
  readonly restores?: OwnRestores
}

/** Opens the tools that this machine uses, for the families that it has. Throws IptablesError when there are none. */
export async function openIptablesParts(options: IptablesPartsOptions = {}): Promise<IptablesParts> {
  const { netns, restores = new OwnRestores() } = options
  const place = { ...(netns && { netns }) }
  using scope = new DisposableStack()
  const sets = scope.use(openIpSets(place))
  const [{ variant, clients, limits: missing }, noSets] = await Promise.all([openTools(options), whyNoSets(sets)])
  const limits = [...missing]
  if (noSets !== undefined) {
    limits.push(
      `a port or protocol that a cluster IP does not have: not refused, its packets go where routes lead (${noSets})`,
    )
  }
  const nft = variant === 'nft' ? (options.nft ?? scope.use(openNftables(place))) : undefined
  const owned = scope.move()
  return {
    clients,
    sets: noSets === undefined ? sets : undefined,
    nft,
    restores,
    features: { addressSets: noSets === undefined, liberalConntrack: isLiberal(place) },
    limits,
    others: () => openInstalled(variant === 'nft' ? 'legacy' : 'nft', place),
    [Symbol.dispose]: () => owned.dispose(),
  }
}

/** Why sets cannot be used; undefined when they can. */
async function whyNoSets(sets: IpSets): Promise<string | undefined> {
  const probe = { name: 'FAIRLEAD-PROBE', family: 4 as IpFamily }
  try {
    await sets.create(probe)
    await sets.destroy(probe.name)
    return undefined
  } catch (error) {
    if (!isNetlinkError(error)) throw error
    return `the kernel has no ip_set: ${error.code}`
  }
}

function isLiberal(place: { netns?: Netns }): boolean {
  try {
    return readSysctl('net.netfilter.nf_conntrack_tcp_be_liberal', place) !== '0'
  } catch (error) {
    if (error instanceof SysctlError) return false
    throw error
  }
}
