import { decodeAttributes, type AttributeValues } from '../netlink/attributes.ts'
import type { NetlinkSocket } from '../netlink/netlink-socket.ts'
import type { ListedChain } from './client.ts'
import {
  chainAttributes,
  compatTargetAttributes,
  expressionAttributes,
  familyNumbers,
  listedRuleAttributes,
  nftMessages,
  ruleAttributes,
  verdictCodes,
} from './nf-tables-messages.ts'
import type { NftFamily } from './objects.ts'
import { decodeNft, hooksByNumber, nftPayload } from './read-table.ts'

const familiesByNumber = new Map<number, NftFamily>(
  Object.entries(familyNumbers).map(([family, number]) => [number, family as NftFamily]),
)
/** NF_DROP and NF_ACCEPT */
const policies = ['drop', 'accept'] as const

/**
 * Lists all chains of the families that we know by one dump, and looks through the rules of base chains for one that
 * refuses everything. Throws NetlinkError.
 */
export async function readChains(socket: NetlinkSocket): Promise<ListedChain[]> {
  const payload = nftPayload('unspec', chainAttributes, {})
  const messages = await socket.dump({ name: 'list chains', type: nftMessages.getChain, payload })
  const chains: ListedChain[] = []
  for (const message of messages) {
    const family = familiesByNumber.get(message.payload[0] ?? 0)
    const { table = '', name = '', type, policy, hook: place } = decodeNft(chainAttributes, message)
    if (!family) continue
    const at = hooksByNumber.get(place?.number ?? -1)
    const hook: ListedChain['hook'] =
      at && (type === 'filter' || type === 'nat' || type === 'route')
        ? { type, hook: at, priority: (place?.priority ?? 0) | 0 }
        : undefined
    const refusesAll = hook && (await readRefusal(socket, { family, table, chain: name }))
    chains.push({ family, table, name, hook, policy: hook && policies[policy ?? 1], refusesAll })
  }
  return chains
}

async function readRefusal(
  socket: NetlinkSocket,
  { family, table, chain }: { readonly family: NftFamily; readonly table: string; readonly chain: string },
): Promise<ListedChain['refusesAll']> {
  const payload = nftPayload(family, ruleAttributes, { table, chain })
  const messages = await socket.dump({ name: `list rules of ${chain}`, type: nftMessages.getRule, payload })
  for (const message of messages) {
    const rule = decodeNft(listedRuleAttributes, message)
    // Kernels before 5.17 may ignore the chain that was asked for.
    if (rule.table !== table || rule.chain !== chain) continue
    const refusal = refusalOf(rule.expressions ?? [])
    if (refusal) return refusal
  }
  return undefined
}

/** What a rule does with every packet; undefined for a rule with any condition, and for one that refuses nothing. */
function refusalOf(
  expressions: NonNullable<AttributeValues<typeof listedRuleAttributes>['expressions']>,
): ListedChain['refusesAll'] {
  const [first, ...more] = expressions.filter(({ name }) => name !== 'counter' && name !== 'log')
  if (!first || more.length > 0) return undefined
  const { name, data = new Uint8Array() } = first
  if (name === 'reject') return 'reject'
  // iptables-nft leaves this target to x_tables.
  if (name === 'target') return decodeAttributes(compatTargetAttributes, data).name === 'REJECT' ? 'reject' : undefined
  if (name !== 'immediate') return undefined
  const { verdict } = decodeAttributes(expressionAttributes.immediate, data).data ?? {}
  return verdict?.code === verdictCodes.drop ? 'drop' : undefined
}
