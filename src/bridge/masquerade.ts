import { cidrFamily } from '../net/cidr.ts'
import { registerBytes } from '../nftables/keys.ts'
import { nfproto, type Elements, type Rule, type TableState } from '../nftables/objects.ts'
import { bridgeTable } from './names.ts'
import type { Network } from './network.ts'

/** NF_IP_PRI_NAT_SRC: where nft's `srcnat` is. */
const srcnat = 100

/** The set of our bridges: what goes from one to another of them keeps its source. */
const bridgesSet = 'bridges'

/**
 * The table of the networks: packets that leave a masquerading network by a link that is no bridge of ours get the
 * address of that link. Nothing that comes in is touched here, and no policy is set: an accept of ours could not
 * overrule another table's drop anyway. Pure.
 */
export function compileMasquerade(networks: readonly Network[]): TableState {
  const rules = networks
    .filter(({ masquerade }) => masquerade)
    .flatMap(({ name, subnets }) =>
      subnets.map(({ cidr }): Rule => {
        const [left, protocol] =
          cidrFamily(cidr) === 4 ? (['ip saddr', nfproto.ipv4] as const) : (['ip6 saddr', nfproto.ipv6] as const)
        return {
          statements: [
            { kind: 'match', left: 'meta nfproto', op: '==', value: { number: protocol } },
            { kind: 'match', left, op: '==', value: { address: cidr.address, prefix: cidr.prefix } },
            { kind: 'in-set', key: ['oifname'], set: bridgesSet, negate: true },
            { kind: 'masquerade' },
          ],
          comment: `network ${name}`,
        }
      }),
    )
  const bridges: Elements = new Map(networks.map(({ bridge }) => [registerBytes({ name: bridge }), '']))
  return {
    family: 'inet',
    name: bridgeTable,
    comment: 'fairlead: bridge networks',
    chains: [{ name: 'postrouting', hook: { type: 'nat', hook: 'postrouting', priority: srcnat }, rules }],
    sets: [{ name: bridgesSet, key: ['oifname'] }],
    elements: new Map([[bridgesSet, bridges]]),
  }
}
