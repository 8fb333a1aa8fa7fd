import type { IptablesClient } from '../iptables/client.ts'
import { removalOf } from '../iptables/diff.ts'
import { openIpSets } from '../iptables/ip-set.ts'
import type { TableChanges } from '../iptables/objects.ts'
import { openInstalled } from '../iptables/open-tools.ts'
import { formatRestore, isEmptyChange } from '../iptables/save-format.ts'
import type { Netns } from '../linux/netns.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { ipFamilies } from '../net/ip-address.ts'
import { chains, isServiceChain } from './iptables-names.ts'
import { clusterIpSet, touchedTables } from './iptables-tables.ts'

/** Rules of Services that some tool has. */
export interface FoundRules {
  readonly client: IptablesClient
  /** This mode wrote them; otherwise a kube-proxy did. */
  readonly ours: boolean
  /** What removes them. */
  readonly changes: readonly TableChanges[]
}

/** Looks for chains of Services, ours and kube-proxy's, which have the same names. Only tables that are in use are looked at. */
export async function findServiceRules(clients: readonly IptablesClient[]): Promise<readonly FoundRules[]> {
  const found: FoundRules[] = []
  for (const client of clients) {
    const rules = await client.save()
    const tables = touchedTables.flatMap((table) => {
      const there = rules.get(table)
      return there ? [{ table, there }] : []
    })
    const changes = tables.map(({ table, there }) => removalOf(table, there, isServiceChain))
    const ours = tables.some(({ there }) => there.has(chains.owner))
    if (!changes.every(isEmptyChange)) found.push({ client, ours, changes })
  }
  return found
}

/** What removes the rules, as text of iptables-restore. */
export function removalText({ client, changes }: FoundRules): readonly string[] {
  return [`# ${toolName(client)}-restore --noflush`, ...formatRestore(changes, client.variant).trimEnd().split('\n')]
}

/** What was removed, and what was left, each as a few words. */
export interface RemovedRules {
  readonly removed: readonly string[]
  /** A kube-proxy's. */
  readonly left: readonly string[]
}

/**
 * Removes the rules and sets of this mode, whichever tools wrote them, without any state; with `kubeProxy`, also those
 * that a kube-proxy wrote. Throws IptablesError or NetlinkError.
 */
export async function removeServiceRules(
  options: { readonly netns?: Netns; readonly kubeProxy?: boolean } = {},
): Promise<RemovedRules> {
  const place = { ...(options.netns && { netns: options.netns }) }
  const clients = [...(await openInstalled('nft', place)), ...(await openInstalled('legacy', place))]
  const removed: string[] = []
  const left: string[] = []
  for (const found of await findServiceRules(clients)) {
    const count = found.changes.reduce((sum, { deleteChains }) => sum + (deleteChains?.length ?? 0), 0)
    const words = `${count} chains of ${found.ours ? 'Services' : 'kube-proxy'} in ${toolName(found.client)}`
    if (!found.ours && options.kubeProxy !== true) {
      left.push(words)
      continue
    }
    await found.client.restore(found.changes)
    removed.push(words)
  }
  return { removed: [...removed, ...(await removeSets(place))], left }
}

async function removeSets(place: { readonly netns?: Netns }): Promise<string[]> {
  using sets = openIpSets(place)
  const removed: string[] = []
  for (const family of ipFamilies) {
    const { name } = clusterIpSet(family)
    try {
      if ((await sets.read(name)) === undefined) continue
      await sets.destroy(name)
      removed.push(`set ${name}`)
    } catch (error) {
      // Without ip_set in the kernel there are no sets.
      if (!isNetlinkError(error, 'EINVAL') && !isNetlinkError(error, 'EOPNOTSUPP')) throw error
    }
  }
  return removed
}

/** `iptables-nft`, `ip6tables-legacy` */
export function toolName({ family, variant }: Pick<IptablesClient, 'family' | 'variant'>): string {
  return `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}`
}
