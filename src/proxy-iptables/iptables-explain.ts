import type { Ruleset, TableChanges, TableRules } from '../iptables/objects.ts'
import { tracePacket } from '../iptables/trace.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { Evidence, ExplainHost, PacketAtNode } from '../proxy/dataplane.ts'
import { isServiceChain } from './iptables-names.ts'

/**
 * What rules in the kernel do with a packet, with the first of several endpoints for an example, and where they differ from
 * what is wanted. Rules of others are passed over. Pure.
 */
export function explainRules(
  packet: PacketAtNode,
  host: ExplainHost,
  kernel: {
    readonly rules: Ruleset
    /** What a sync would change. */
    readonly changes: readonly TableChanges[]
    readonly clusterIps: ReadonlySet<IpAddress>
  },
): Evidence {
  const ours: Ruleset = new Map([...kernel.rules].map(([table, chains]) => [table, ownRules(chains)]))
  const { steps } = tracePacket(
    ours,
    { ...packet, destinationPort: packet.port, input: packet.iifname, isLocal: host.isLocal },
    { draw: () => 0, isInSet: (_, ip) => kernel.clusterIps.has(ip) },
  )
  return { lines: steps, differences: kernel.changes.flatMap(describe) }
}

/** Our chains, and of the chains of others what leads to ours. */
function ownRules(chains: TableRules): TableRules {
  const leadsToOurs = (rule: string): boolean => isServiceChain(/(?:^| )-j (\S+)$/.exec(rule)?.[1] ?? '')
  return new Map([...chains].map(([name, rules]) => [name, isServiceChain(name) ? rules : rules.filter(leadsToOurs)]))
}

function describe({ table, chains, prepend = [], deleteChains = [] }: TableChanges): string[] {
  return [
    ...prepend.map(({ chain, rule }) => `${table} ${chain} lacks ${rule}`),
    ...[...chains.keys()].map((name) => `${table} ${name} has other rules than it should`),
    ...deleteChains.map((name) => `${table} ${name} should not be there`),
  ]
}
