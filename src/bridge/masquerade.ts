import { cidrFamily } from '../net/cidr.ts'
import { ipFamilies, type IpFamily } from '../net/ip-address.ts'
import { addressRange, registerBytes } from '../nftables/keys.ts'
import type { Elements, NftSet, Rule, Statement, TableState } from '../nftables/objects.ts'
import { peerSets } from './cluster-peers.ts'
import { planMasquerade } from './firewall-plan.ts'
import { bridgeTable } from './names.ts'
import type { Network } from './network.ts'

/** NF_IP_PRI_NAT_SRC: where nft's `srcnat` is. */
const srcnat = 100

/** The set of our bridges: what goes from one to another of them keeps its source. */
const bridgesSet = { name: 'bridges', key: ['oifname'] } as const satisfies NftSet

/** Subnets whose packets leave with the address of the outgoing link. */
const masqueraded = {
  4: { name: 'masquerade-4', key: ['ip saddr'], interval: true },
  6: { name: 'masquerade-6', key: ['ip6 saddr'], interval: true },
} as const satisfies Record<IpFamily, NftSet>

/**
 * The table of the networks: packets that leave a masquerading network by a link that is no bridge of ours get the
 * address of that link, or the one that the network says ({@link planMasquerade}). Nothing that
 * comes in is touched here, and no policy is set: an accept of ours could not overrule another table's drop anyway. Pure.
 */
export function compileMasquerade(networks: readonly Network[]): TableState {
  const elements = { 4: new Map<string, string>(), 6: new Map<string, string>() }
  const rules: Rule[] = []
  for (const { network, cidr, source } of planMasquerade(networks)) {
    const family = cidrFamily(cidr)
    if (source === undefined) {
      elements[family].set(...addressRange(cidr))
      continue
    }
    // Networks with an address of their own are few: a rule each.
    const left = family === 4 ? 'ip saddr' : 'ip6 saddr'
    const from: Statement = { kind: 'match', left, op: '==', value: { address: cidr.address, prefix: cidr.prefix } }
    const snat: Statement = { kind: 'snat', family: family === 4 ? 'ip' : 'ip6', to: source }
    rules.push({ statements: [from, outwards, snat], comment: `network ${network}` })
  }
  for (const family of ipFamilies) {
    const { key, name } = masqueraded[family]
    rules.push({ statements: [{ kind: 'in-set', key, set: name }, outwards, { kind: 'masquerade' }] })
  }
  const bridges: Elements = new Map(networks.map(({ bridge }) => [registerBytes({ name: bridge }), '']))
  return {
    family: 'inet',
    name: bridgeTable,
    comment: 'fairlead: bridge networks',
    chains: [{ name: 'postrouting', hook: { type: 'nat', hook: 'postrouting', priority: srcnat }, rules }],
    sets: [bridgesSet, masqueraded[4], masqueraded[6]],
    elements: new Map([
      [bridgesSet.name, bridges],
      [masqueraded[4].name, elements[4]],
      [masqueraded[6].name, elements[6]],
    ]),
  }
}

/** From the cluster's pods of this node to those of others nothing is translated: each sees who the other is. */
export function peerMasqueradeRules(): readonly Rule[] {
  return ipFamilies.map((family): Rule => {
    const { own, pods } = peerSets[family]
    return {
      statements: [
        { kind: 'in-set', key: own.key, set: own.name },
        { kind: 'in-set', key: [family === 4 ? 'ip daddr' : 'ip6 daddr'], set: pods.name },
        { kind: 'accept' },
      ],
    }
  })
}

const outwards: Statement = { kind: 'in-set', key: bridgesSet.key, set: bridgesSet.name, negate: true }
