import type { Variant } from '../iptables/client.ts'
import { removalOf } from '../iptables/diff.ts'
import { openInstalled } from '../iptables/open-tools.ts'
import { isEmptyChange } from '../iptables/save-format.ts'
import type { Ruleset } from '../iptables/objects.ts'
import type { Netns } from '../linux/netns.ts'
import type { IpFamily } from '../net/ip-address.ts'
import type { NftClient } from '../nftables/client.ts'
import { readLegacyTables } from './docker-user-rules.ts'
import { bridgeChains, bridgeTables, isBridgeChain } from './iptables-rules.ts'
import { bridgeTable } from './names.ts'

/**
 * Removes the networks' iptables chains, with either kind of tools, and says what it was. Without such chains it runs
 * no program. Throws IptablesError, NftablesError.
 */
export async function removeIptablesFirewall(options: {
  readonly nft: NftClient | undefined
  readonly netns?: Netns
}): Promise<readonly string[]> {
  const { netns } = options
  const removed: string[] = []
  for (const variant of await variantsInUse(options)) {
    for (const client of await openInstalled(variant, { ...(netns && { netns }) })) {
      const current = await client.save()
      const changes = bridgeTables.flatMap((table) => {
        const chains = current.get(table)
        return chains ? [removalOf(table, chains, isBridgeChain)] : []
      })
      if (changes.every(isEmptyChange)) continue
      await client.restore(changes)
      const count = changes.reduce((sum, { deleteChains }) => sum + (deleteChains?.length ?? 0), 0)
      removed.push(`${count} chains of networks in ${client.family === 4 ? 'iptables' : 'ip6tables'}-${variant}`)
    }
  }
  return removed
}

/** All rules of the kind of tools that the networks' chains were made with, by family; undefined without such chains. Throws as above. */
export async function readIptablesFirewall(options: {
  readonly nft: NftClient | undefined
}): Promise<ReadonlyMap<IpFamily, Ruleset> | undefined> {
  for (const variant of await variantsInUse(options)) {
    const rules = new Map<IpFamily, Ruleset>()
    for (const client of await openInstalled(variant)) rules.set(client.family, await client.save(['nat', 'mangle']))
    if ([...rules.values()].some((tables) => tables.get('nat')?.has(bridgeChains.published) === true)) return rules
  }
  return undefined
}

/** Removes the networks' table of family inet, and says so. Who may send what stays: iptables cannot do it. Throws NftablesError. */
export async function removeNftablesFirewall(nft: NftClient): Promise<readonly string[]> {
  const there = (await nft.listTables()).some(({ family, name }) => family === 'inet' && name === bridgeTable)
  if (!there) return []
  await nft.run({ family: 'inet', table: bridgeTable, changes: [{ op: 'delete-table' }] })
  return [`nftables table inet ${bridgeTable}`]
}

/** The kinds of tools that may have chains of ours: nobody waits for a program when none has. */
async function variantsInUse(options: {
  readonly nft: NftClient | undefined
  readonly netns?: Netns
}): Promise<readonly Variant[]> {
  const { nft, netns } = options
  const chains = (await nft?.listChains()) ?? []
  const readLegacy = (): string[] =>
    ['ip', 'ip6'].flatMap((family) => readLegacyTables(`/proc/thread-self/net/${family}_tables_names`))
  const legacy = netns ? netns.enter(readLegacy) : readLegacy()
  return [
    ...(chains.some(({ family, name }) => family !== 'bridge' && isBridgeChain(name)) ? (['nft'] as const) : []),
    ...(bridgeTables.some((table) => legacy.includes(table)) ? (['legacy'] as const) : []),
  ]
}
