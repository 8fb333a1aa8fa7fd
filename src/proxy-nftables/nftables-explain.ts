import { ipFamilyOf, type IpAddress } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import type { ReadTable } from '../nftables/client.ts'
import { Tracer, type TracedPacket, type TraceResult } from '../nftables/trace.ts'
import type { AffinityNumbers } from './affinity-numbers.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { Evidence, ExplainHost, PacketAtNode } from '../proxy/dataplane.ts'
import { decide, type Decision } from '../proxy/decide.ts'
import { planTable } from './nftables-plan.ts'
import { servicesTable } from './nftables-sets.ts'
import { compileTable } from './nftables-table.ts'

/** Enough to see every endpoint of all but the largest Services. */
const maxDraws = 256

/**
 * What the table in the kernel does with a packet: our rules, which are never read back, run over the kernel's own elements.
 * Where that is not what was decided, the differences say so.
 */
export function explainTable(
  services: CompiledServices,
  kernel: ReadTable | undefined,
  options: { readonly numbers: AffinityNumbers; readonly packet: PacketAtNode; readonly host: ExplainHost },
): Evidence {
  const { numbers, packet, host } = options
  if (!kernel) return { lines: [], differences: [`the kernel has no table inet ${servicesTable}`] }
  const wanted = compileTable(services, numbers)
  const elements = new Map(wanted.sets.map((set) => [set.name, kernel.elements.get(set.name) ?? new Map()]))
  const decision = decide(services, packet)
  const draws = decision.kind === 'balance' ? Math.min(decision.slots.length, maxDraws) : 1
  const results = Array.from({ length: draws }, (_, n) => {
    const tracer = new Tracer({ ...wanted, elements }, { isLocal: host.isLocal, draw: (modulus) => n % modulus })
    return travel(tracer, packet, host)
  })
  return {
    lines: results[0]?.steps ?? [],
    differences: [...outcomeDifferences(decision, results, { packet, host }), ...tableDifferences(services, kernel)],
  }
}

/** All hooks on the way of a connection's first packet. */
function travel(tracer: Tracer, { iifname, ...sent }: PacketAtNode, { isLocal }: ExplainHost): TraceResult {
  const packet: TracedPacket = {
    source: sent.source,
    destination: sent.destination,
    protocol: protocolNumbers[sent.protocol],
    // Any: no rule looks at it.
    sourcePort: 40_000,
    destinationPort: sent.port,
    iifname,
  }
  const own = sent.origin === 'node'
  let result = tracer.run(own ? 'output' : 'prerouting', packet)
  if (result.verdict !== 'accept') return result
  if (!own) {
    const here = isLocal(result.destination)
    result = tracer.run(here ? 'input' : 'forward', packet, result)
    if (result.verdict !== 'accept' || here) return result
  }
  return tracer.run('postrouting', packet, result)
}

function outcomeDifferences(
  decision: Decision,
  results: readonly TraceResult[],
  { packet, host }: { readonly packet: PacketAtNode; readonly host: ExplainHost },
): readonly string[] {
  const found = new Set(results.map((result) => outcomeOf(result)))
  if (decision.kind !== 'balance') {
    const wanted = outcomeTexts[decision.kind]
    return [...found]
      .filter((outcome) => outcome !== wanted)
      .map((outcome) => `wanted: ${wanted}; in the kernel: ${outcome}`)
  }
  const wanted = new Set(decision.slots.map(({ ip, port }) => endpointText(ip, port)))
  const extra = [...found].filter((outcome) => !wanted.has(outcome))
  const differences = extra.map((outcome) => `in the kernel: ${outcome}, which is not wanted`)
  // A hash leads one client to one slot; all draws are ours otherwise.
  if (decision.frontend.algorithm !== 'maglev' && decision.slots.length <= maxDraws) {
    const missing = [...wanted].filter((outcome) => !found.has(outcome))
    differences.push(...missing.map((outcome) => `wanted: ${outcome}, which the kernel does not have`))
  }
  const otherwise = results.some(({ masqueraded, destination }) => {
    // What ends at the node does not leave it.
    if (packet.origin !== 'node' && host.isLocal(destination)) return false
    return masqueraded !== (decision.masquerade || destination === packet.source)
  })
  if (extra.length === 0 && otherwise) differences.push('the kernel treats the source address otherwise')
  return differences
}

const outcomeTexts = { pass: 'left alone', reject: 'rejected', drop: 'dropped' } as const

function outcomeOf({ verdict, translated, destination, destinationPort }: TraceResult): string {
  if (verdict !== 'accept') return outcomeTexts[verdict]
  return translated ? endpointText(destination, destinationPort) : outcomeTexts.pass
}

function endpointText(ip: IpAddress, port: number): string {
  return ipFamilyOf(ip) === 6 ? `to [${ip}]:${port}` : `to ${ip}:${port}`
}

/** Whether the rest of the table is as it should be: rules are only known by their number and fingerprint. */
function tableDifferences(services: CompiledServices, kernel: ReadTable): readonly string[] {
  const { lines } = planTable(services, kernel)
  return lines.length === 0
    ? []
    : [
        `table inet ${servicesTable} differs from what is wanted in ${lines.length} places ("fairlead verify" lists them)`,
      ]
}
