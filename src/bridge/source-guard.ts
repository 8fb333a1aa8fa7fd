import { ipFamilyOf } from '../net/ip-address.ts'
import { registerBytes } from '../nftables/keys.ts'
import type { Expression, NftSet, RegisterBytes, Rule, Statement, TableState } from '../nftables/objects.ts'
import { planGuards } from './firewall-plan.ts'
import type { Lease } from './leases.ts'
import { bridgeTable, portPrefix } from './names.ts'
import type { Network } from './network.ts'

/** Before everything else that looks at frames of a bridge (NF_BR_PRI_NAT_DST_BRIDGED), br_netfilter (0) among it. */
const first = -300

const macs = { name: 'macs', key: ['iifname', 'ether saddr'] } as const satisfies NftSet
const sources4 = { name: 'sources-4', key: ['iifname', 'ether saddr', 'ip saddr'] } as const satisfies NftSet
const sources6 = { name: 'sources-6', key: ['iifname', 'ether saddr', 'ip6 saddr'] } as const satisfies NftSet

/** Ports of networks without inter-container communication. */
const alone = { name: 'alone', key: ['iifname'] } as const satisfies NftSet
/** What such a port may send to: the bridge itself. */
const gateways = { name: 'gateways', key: ['iifname', 'ether daddr'] } as const satisfies NftSet

/**
 * The table `bridge fairlead-bridge`: frames that come out of a pod's port must have its MAC and its addresses as source, in
 * IPv4, IPv6 and ARP alike, whoever they are for, and a pod advertises its own addresses only. Frames that carry anything else are dropped. Each port's are elements; a port without elements sends nothing.
 *
 * Without inter-container communication, a port also sends to nobody but the bridge, where the forward rules decide. Isolated
 * ports (BR_ISOLATED) would do the same, but for a published port of a neighbour on a machine with br_netfilter, which
 * translates the frame and then has it switched from port to port. Pure.
 */
export function compileSourceGuard(
  networks: readonly Pick<Network, 'name' | 'bridge' | 'mac' | 'icc'>[],
  leases: Iterable<Pick<Lease, 'owner' | 'network' | 'link' | 'mac' | 'ips'>>,
): TableState {
  const elements = {
    macs: new Map<RegisterBytes, string>(),
    alone: new Map<RegisterBytes, string>(),
    gateways: new Map<RegisterBytes, string>(),
    4: new Map<RegisterBytes, string>(),
    6: new Map<RegisterBytes, string>(),
  }
  for (const { port: name, mac, ips, besides, onlyTo } of planGuards(networks, leases)) {
    if (onlyTo !== undefined) {
      elements.alone.set(registerBytes({ name }), '')
      elements.gateways.set(registerBytes({ name }, { mac: onlyTo }), '')
    }
    elements.macs.set(registerBytes({ name }, { mac }), '')
    for (const ip of [...ips, ...besides]) elements[ipFamilyOf(ip)].set(registerBytes({ name }, { mac }, { ip }), '')
  }
  return {
    family: 'bridge',
    name: bridgeTable,
    comment: 'fairlead: who may send what',
    chains: [{ name: 'prerouting', hook: { type: 'filter', hook: 'prerouting', priority: first }, rules: rules() }],
    sets: [macs, sources4, sources6, alone, gateways],
    elements: new Map([
      [macs.name, elements.macs],
      [sources4.name, elements[4]],
      [sources6.name, elements[6]],
      [alone.name, elements.alone],
      [gateways.name, elements.gateways],
    ]),
  }
}

/** What pods send: ETH_P_IP, ETH_P_ARP and ETH_P_IPV6. */
const carried = [0x0800, 0x0806, 0x86dd] as const
const arpSource = ['iifname', 'ether saddr', 'arp saddr ip'] as const
/** IPPROTO_ICMPV6 */
const icmpv6 = 58
/** NDISC_NEIGHBOUR_ADVERTISEMENT (RFC 4861) */
const neighbourAdvertisement = 136
const advertised = ['iifname', 'ether saddr', 'icmpv6 taddr'] as const

function rules(): Rule[] {
  const unless = (set: NftSet, key: readonly Expression[] = set.key): Rule => ({
    statements: [{ kind: 'in-set', key, set: set.name, negate: true }, { kind: 'drop' }],
  })
  return [
    {
      statements: [{ kind: 'match', left: 'iifname', op: '!=', value: { name: `${portPrefix}*` } }, { kind: 'accept' }],
    },
    unless(macs),
    // Of a frame with two VLAN tags 0 the kernel takes both off (802.1Q priority tags), but after these rules: they would
    // see neither IP nor ARP in it, and whoever gets it would.
    {
      statements: [
        ...carried.map((number): Statement => ({ kind: 'match', left: 'meta protocol', op: '!=', value: { number } })),
        { kind: 'drop' },
      ],
    },
    unless(sources4),
    unless(sources4, arpSource),
    unless(sources6),
    // Who advertises another's address (the gateway's, say) gets what is sent to it.
    {
      statements: [
        { kind: 'match', left: 'meta l4proto', op: '==', value: { number: icmpv6 } },
        { kind: 'match', left: 'icmpv6 type', op: '==', value: { number: neighbourAdvertisement } },
        { kind: 'in-set', key: advertised, set: sources6.name, negate: true },
        { kind: 'drop' },
      ],
    },
    { statements: [{ kind: 'in-set', key: alone.key, set: alone.name, negate: true }, { kind: 'accept' }] },
    { statements: [{ kind: 'in-set', key: gateways.key, set: gateways.name }, { kind: 'accept' }] },
    // How the gateway's MAC is found: ARP, and neighbour discovery by multicast.
    { statements: [{ kind: 'in-set', key: arpSource, set: sources4.name }, { kind: 'accept' }] },
    {
      statements: [
        { kind: 'match', left: 'ip6 daddr', op: '==', value: { address: 'ff02::', prefix: 16 } },
        { kind: 'match', left: 'meta l4proto', op: '==', value: { number: icmpv6 } },
        { kind: 'accept' },
      ],
    },
    { statements: [{ kind: 'drop' }] },
  ]
}
