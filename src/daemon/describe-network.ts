import type { NetworkSummaryView } from './control-api.ts'

/** A network in a line: `bridge fl0, 10.1.0.0/24`, `macvlan bridge on eth1, addresses by DHCP`. */
export function describeNetwork(network: NetworkSummaryView): string {
  const { driver, bridge, parent, mode, addresses } = network
  const subnets = network.subnets.map(({ subnet }) => subnet).join(', ')
  if (bridge !== undefined) return `bridge ${bridge}, ${subnets}`
  return `${driver} of mode ${mode} on ${parent}, ${addresses === 'dhcp' ? 'addresses by DHCP' : subnets}`
}
