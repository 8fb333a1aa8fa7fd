import type { TableState } from '../nftables/objects.ts'
import { compilePeers, noPeers, type ClusterPeers } from './cluster-peers.ts'
import { compileFirewall, publishedMasqueradeRules } from './firewall.ts'
import type { PublishingEndpoint } from './firewall-plan.ts'
import { compileMasquerade, peerMasqueradeRules } from './masquerade.ts'
import type { Network } from './network.ts'

/** The table `inet fairlead-bridge`: masquerade, published ports, and who reaches pods. Pure. */
export function compileBridgeTable(
  networks: readonly Network[],
  endpoints: Iterable<PublishingEndpoint>,
  peers: ClusterPeers = noPeers,
): TableState {
  const cluster = compilePeers(networks, peers)
  const table = compileMasquerade(networks)
  const { chains, sets, elements } = compileFirewall(networks, endpoints)
  return {
    ...table,
    chains: [
      ...table.chains.map((chain) =>
        chain.name === 'postrouting'
          ? { ...chain, rules: [...publishedMasqueradeRules(), ...peerMasqueradeRules(), ...chain.rules] }
          : chain,
      ),
      ...chains,
    ],
    sets: [...table.sets, ...sets, ...cluster.sets],
    elements: new Map([...table.elements, ...elements, ...cluster.elements]),
  }
}
