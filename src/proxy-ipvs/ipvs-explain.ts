import { realKey, virtualKey, type RealServerState, type VirtualServerState } from '../ipvs/objects.ts'
import { ipFamilyOf } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import { Tracer, type TracedPacket, type TraceResult } from '../nftables/trace.ts'
import type { CompiledServices } from '../proxy/compile-services.ts'
import type { Evidence, ExplainHost, PacketAtNode } from '../proxy/dataplane.ts'
import { decide, type Decision } from '../proxy/decide.ts'
import type { Held } from './ipvs-changes.ts'
import { ipvsTable, unservedChain } from './ipvs-table.ts'
import type { IpvsWanted } from './ipvs-wanted.ts'

/** What the kernel was found to hold, and what it should. */
interface Found {
  readonly held: Held
  readonly wanted: IpvsWanted
  /** What a sync would change, in places. */
  readonly places: number
}

/**
 * What the kernel does with a packet: our rules, which are never read back, run over the kernel's own elements, then the virtual
 * server that IPVS finds, with its real servers. Where that is not what was decided, the differences say so. Pure.
 */
export function explainIpvs(
  services: CompiledServices,
  { held, wanted, places }: Found,
  { packet, host }: { readonly packet: PacketAtNode; readonly host: ExplainHost },
): Evidence {
  if (!held.table) return { lines: [], differences: [`the kernel has no table inet ${ipvsTable}`] }
  const { elements } = held.table
  const kept = new Map(wanted.table.sets.map((set) => [set.name, elements.get(set.name) ?? new Map()]))
  const tracerOf = (isMeant: (chain: string) => boolean): Tracer => {
    const chains = wanted.table.chains.filter(({ name }) => isMeant(name))
    return new Tracer({ ...wanted.table, chains, elements: kept }, { isLocal: host.isLocal, draw: () => 0 })
  }
  const tracer = tracerOf((chain) => chain !== unservedChain)
  const traced = tracedPacket(packet)
  const hook = packet.origin === 'node' ? 'output' : host.isLocal(packet.destination) ? 'input' : 'forward'
  const before = tracer.run(hook, traced)
  const virtual = before.verdict === 'accept' ? findVirtual(held.virtuals, packet, before.mark) : undefined
  // What a process of the node sends to an address of it comes in by lo.
  const comesIn = hook !== 'forward' && before.verdict === 'accept' && !virtual
  const arrived = comesIn ? tracerOf((chain) => chain === unservedChain).run('input', traced, before) : before
  const serving = virtual?.reals.filter(({ weight }) => weight > 0) ?? []
  const [first] = serving
  const left =
    first && tracer.run('postrouting', traced, { ...arrived, destination: first.ip, destinationPort: first.port })
  const lines = [
    ...arrived.steps,
    ...(virtual ? describeVirtual(virtual) : []),
    ...(left?.steps.slice(arrived.steps.length) ?? []),
  ]
  const seen = outcomes(arrived, virtual, serving)
  const differences = compareOutcomes(decide(services, packet), seen)
  return {
    lines,
    differences: [
      ...differences,
      ...(places === 0
        ? []
        : [`the kernel differs from what is wanted in ${places} places ("fairlead verify" lists them)`]),
    ],
  }
}

function tracedPacket({ iifname, ...sent }: PacketAtNode): TracedPacket {
  return {
    source: sent.source,
    destination: sent.destination,
    protocol: protocolNumbers[sent.protocol],
    // Any: no rule looks at it.
    sourcePort: 40_000,
    destinationPort: sent.port,
    iifname,
  }
}

/** ip_vs_service_find(): first by mark, then by address. */
function findVirtual(
  virtuals: ReadonlyMap<string, VirtualServerState>,
  { destination, port, protocol }: PacketAtNode,
  mark: number,
): VirtualServerState | undefined {
  const byMark = virtualKey({ mark, family: ipFamilyOf(destination) })
  const byAddress = virtualKey({ ip: destination, port, protocol })
  return (mark === 0 ? undefined : virtuals.get(byMark)) ?? virtuals.get(byAddress)
}

function describeVirtual({ at, scheduler, persistence, reals }: VirtualServerState): string[] {
  const stays = persistence ? `, clients stay for ${persistence.seconds} s` : ''
  const servers = reals.map((real) => {
    const { weight, counts } = real
    return `  real server ${realKey(real)} weight ${weight}: ${counts.active} active, ${counts.inactive} inactive connections`
  })
  return [`IPVS: virtual server ${virtualKey(at)} ${scheduler}${stays}`, ...servers]
}

const outcomeTexts = { pass: 'left alone', reject: 'rejected', drop: 'dropped' } as const

function outcomes(
  { verdict }: TraceResult,
  virtual: VirtualServerState | undefined,
  serving: readonly RealServerState[],
): ReadonlySet<string> {
  if (verdict !== 'accept') return new Set([outcomeTexts[verdict]])
  if (!virtual) return new Set([outcomeTexts.pass])
  // ip_vs_leave()
  return new Set(serving.length === 0 ? [outcomeTexts.reject] : serving.map((real) => `to ${realKey(real)}`))
}

function compareOutcomes(decision: Decision, seen: ReadonlySet<string>): string[] {
  const wanted = new Set(
    decision.kind === 'balance' ? decision.slots.map((slot) => `to ${realKey(slot)}`) : [outcomeTexts[decision.kind]],
  )
  return [
    ...[...seen.difference(wanted)].map((outcome) => `in the kernel: ${outcome}, which is not wanted`),
    ...[...wanted.difference(seen)].map((outcome) => `wanted: ${outcome}, which the kernel does not do`),
  ]
}
