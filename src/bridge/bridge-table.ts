import type { TableState } from '../nftables/objects.ts'
import { compileFirewall, publishedMasqueradeRules } from './firewall.ts'
import type { PublishingEndpoint } from './firewall-plan.ts'
import { compileMasquerade } from './masquerade.ts'
import type { Network } from './network.ts'

/** The table `inet fairlead-bridge`: masquerade, published ports, and who reaches pods. Pure. */
export function compileBridgeTable(networks: readonly Network[], endpoints: Iterable<PublishingEndpoint>): TableState {
  const table = compileMasquerade(networks)
  const { chains, sets, elements } = compileFirewall(networks, endpoints)
  return {
    ...table,
    chains: [
      ...table.chains.map((chain) =>
        chain.name === 'postrouting' ? { ...chain, rules: [...publishedMasqueradeRules(), ...chain.rules] } : chain,
      ),
      ...chains,
    ],
    sets: [...table.sets, ...sets],
    elements: new Map([...table.elements, ...elements]),
  }
}
