import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseCidr } from '../net/cidr.ts'
import { parseIp } from '../net/ip-address.ts'
import { protocolNumbers } from '../net/protocol.ts'
import type { TableState } from '../nftables/objects.ts'
import { Tracer, type TraceResult } from '../nftables/trace.ts'
import {
  arbitraryManifests,
  arbitraryPacket,
  fuzzNode,
  fuzzPods,
  fuzzServiceRanges,
  snapshotOfManifests,
  type FuzzPacket,
} from '../../test/fuzz/arbitrary-objects.ts'
import { compileServices, type CompiledServices, type ProxySettings } from '../proxy/compile-services.ts'
import { decide, originOf, type Decision } from '../proxy/decide.ts'
import { compileTable } from './nftables-table.ts'

const own = new Set(fuzzNode.addresses.map(parseIp))

const settings: ProxySettings = {
  localPods: fuzzPods.map(parseCidr),
  masqueradeAll: false,
  nodePortAddresses: undefined,
  serviceCIDRs: fuzzServiceRanges.map(parseCidr),
}

const arbitrarySettings = fc.constantFrom<ProxySettings>(
  settings,
  { ...settings, masqueradeAll: true },
  { ...settings, localPods: [] },
  { ...settings, localPods: [], localInterface: { name: 'veth', prefix: true } },
  { ...settings, nodePortAddresses: [parseCidr('192.168.0.0/24')] },
  { ...settings, externalIPs: false },
)

const interfaceOf = ({ origin }: FuzzPacket) => ({ pod: 'veth1', outside: 'eth0', node: undefined })[origin]

/** All hooks on the way of a connection's first packet. */
function travel(tracer: Tracer, sent: FuzzPacket): TraceResult {
  const { origin, source, destination, port, protocol } = sent
  const packet = {
    source,
    destination,
    protocol: protocolNumbers[protocol],
    sourcePort: 40_000,
    destinationPort: port,
    iifname: interfaceOf(sent),
  }
  let result = tracer.run(origin === 'node' ? 'output' : 'prerouting', packet)
  if (result.verdict !== 'accept') return result
  if (origin !== 'node') {
    result = tracer.run(own.has(result.destination) ? 'input' : 'forward', packet, result)
    if (result.verdict !== 'accept') return result
    if (own.has(result.destination)) return result
  }
  return tracer.run('postrouting', packet, result)
}

/** What the rules do, over all draws: the verdict, or how often each endpoint is reached. */
function trace(table: TableState, packet: FuzzPacket, draws: number): string[] {
  const reached = Array.from({ length: draws }, (_, n) => {
    const tracer = new Tracer(table, { isLocal: (ip) => own.has(ip), draw: (modulus) => n % modulus })
    const result = travel(tracer, packet)
    if (result.verdict !== 'accept') return result.verdict
    // What goes to the node itself does not leave it.
    if (packet.origin === 'node' || !own.has(result.destination)) {
      expect(result.priority, 'no class leaves the host as a priority').toBe(0)
      expect(result.mark, 'the mark is taken off again').toBe(0)
    }
    if (!result.translated) return result.masqueraded ? 'masqueraded for nothing' : 'pass'
    return `${result.destination} ${result.destinationPort}${result.masqueraded ? ' masqueraded' : ''}`
  })
  return reached.sort()
}

function expected(decision: Decision, packet: FuzzPacket, draws: number): string[] {
  const lines = Array.from({ length: draws }, (_, n): string => {
    if (decision.kind !== 'balance') return decision.kind
    const { ip, port } = decision.slots[n % decision.slots.length]!
    // What goes to the node itself does not pass postrouting.
    const masquerade = (decision.masquerade || ip === packet.source) && (packet.origin === 'node' || !own.has(ip))
    return `${ip} ${port}${masquerade ? ' masqueraded' : ''}`
  })
  return lines.sort()
}

/** Everybody's random draw is ours to choose but that of a hash: there, any of the slots will do. */
function compare(services: CompiledServices, table: TableState, packet: FuzzPacket): void {
  const origin = originOf(services.settings, packet.source, interfaceOf(packet))
  const decision = decide(services, { ...packet, origin, toNode: own.has(packet.destination) })
  const count = decision.kind === 'balance' ? decision.slots.length : 1
  if (decision.kind === 'balance' && decision.frontend.algorithm === 'maglev') {
    const [one] = trace(table, packet, 1)
    expect(new Set(expected(decision, packet, count))).toContain(one)
  } else expect(trace(table, packet, count)).toEqual(expected(decision, packet, count))
}

it(
  'the nftables rules do with random packets what was decided for them, whatever the Services',
  { timeout: 60_000 },
  () => {
    fc.assert(
      fc.property(
        arbitraryManifests,
        arbitrarySettings,
        fc.array(arbitraryPacket, { minLength: 40, maxLength: 40 }),
        (manifests, settings, packets) => {
          const services = compileServices(snapshotOfManifests(manifests), { nodeName: fuzzNode.name, settings })
          const table = compileTable(services)
          for (const packet of packets) compare(services, table, packet)
        },
      ),
      { numRuns: 250 },
    )
  },
)
