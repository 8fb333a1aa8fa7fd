import { silentLog } from '../base/log.ts'
import { bridgeTable } from '../bridge/names.ts'
import { readIptablesFirewall } from '../bridge/other-firewall.ts'
import { parseCidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { openRtnetlink } from '../rtnetlink/rtnetlink.ts'
import { servicesTable } from '../proxy-nftables/nftables-sets.ts'
import type { NetworkSummaryView, PodView } from './control-api.ts'
import type { ExplainFacts } from './explain.ts'
import { firewallFindings } from './firewall-findings.ts'
import { openNftablesIfAny } from './open-nftables.ts'

/**
 * Reads what {@link explainPacket} needs out of the kernel; networks and pods are what the daemon says. Throws NftablesError,
 * NetlinkError, IptablesError.
 */
export async function readExplainFacts(known: {
  readonly networks: readonly NetworkSummaryView[]
  readonly pods: readonly PodView[]
}): Promise<ExplainFacts> {
  using nft = await openNftablesIfAny(silentLog)
  using rtnetlink = openRtnetlink()
  const addresses = await rtnetlink.addresses.list()
  const local = new Set<IpAddress>(addresses.map(({ address }) => address.address))
  const chains = (await nft?.listChains()) ?? []
  // Of its findings only those about chains count here, so that nothing else is looked at.
  const findings = firewallFindings({
    chains,
    legacyTables: { ip: [], ip6: [] },
    bridgeNetfilter: undefined,
    bridge: known.networks.find(({ bridge }) => bridge !== undefined)?.bridge ?? 'fl0',
  })
  return {
    services: await nft?.read('inet', servicesTable),
    bridge: await nft?.read('inet', bridgeTable),
    iptables: await readIptablesFirewall({ nft }),
    isLocal: (ip) => local.has(ip) || ip.startsWith('127.'),
    // The others' packets pass none of our tables.
    networks: known.networks.flatMap(({ bridge, subnets }) =>
      bridge === undefined ? [] : [{ bridge, subnets: subnets.map(({ subnet }) => parseCidr(subnet)) }],
    ),
    pods: known.pods.map(({ namespace, name, ips }) => ({ name: `${namespace}/${name}`, ips: ips.map(parseIp) })),
    refusing: findings.filter(({ ok }) => !ok).map(({ name, detail, hint }) => `${name}: ${detail} (${hint})`),
  }
}
