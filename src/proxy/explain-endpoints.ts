import type { EndpointSlice } from '../model/endpoint-slice.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { NodeFacts, PortInFamily } from './select-endpoints.ts'
import type { Slots } from './slots.ts'

/** One endpoint of a Service port, and what it gets of new connections. */
export interface ExplainedEndpoint {
  readonly ip: IpAddress
  readonly port: Port
  readonly nodeName: string | undefined
  readonly zone: string | undefined
  /** From 0 to 1. */
  readonly share: number
  /** Why it gets none, or only while there is nothing better; undefined for those that get their share. */
  readonly why: string | undefined
}

/**
 * Every endpoint that the slices name for a port, once (where mentions differ: those of this node first, as endpoint choice
 * has it), with its share of `slots` and, where that is nothing, why. Sorted: those with a share first.
 */
export function explainEndpoints(
  slices: readonly EndpointSlice[],
  port: PortInFamily,
  options: { readonly node: NodeFacts; readonly policy: 'Cluster' | 'Local'; readonly slots: Slots },
): readonly ExplainedEndpoint[] {
  const { node, policy, slots } = options
  const counts = new Map<string, number>()
  for (const { ip, port } of slots) counts.set(`${ip} ${port}`, (counts.get(`${ip} ${port}`) ?? 0) + 1)
  const explained: ExplainedEndpoint[] = []
  for (const slice of slices) {
    const slicePort = slice.ports.find((p) => p.name === port.portName && p.protocol === port.protocol)
    if (slice.family !== port.family || !slicePort) continue
    for (const endpoint of slice.endpoints) {
      const share = (counts.get(`${endpoint.address} ${slicePort.port}`) ?? 0) / (slots.length || 1)
      const { address: ip, nodeName, zone } = endpoint
      const why = share > 0 ? undefined : whyNot()
      explained.push({ ip, port: slicePort.port, nodeName, zone, share, why })

      function whyNot(): string {
        if (slice.headless) return 'its slice has the label service.kubernetes.io/headless'
        if (endpoint.weight === 0) return 'its weight is 0'
        if (!endpoint.ready && endpoint.terminating && endpoint.serving) {
          if (policy === 'Local' && nodeName !== node.name) return elsewhere(nodeName)
          return 'it terminates, and others are ready'
        }
        if (!endpoint.ready) return endpoint.terminating ? 'it terminates and does not serve' : 'it is not ready'
        if (policy === 'Local') return elsewhere(nodeName)
        const { zones, nodes } = endpoint.hints
        const hints = [...nodes.map((n) => `node ${n}`), ...zones.map((z) => `zone ${z}`)].join(', ')
        const here = node.zone === undefined ? node.name : `${node.name} in zone ${node.zone}`
        return `its hints (${hints || 'none'}) do not mean ${here}`
      }
    }
  }
  explained.sort((a, b) => b.share - a.share || Number(b.nodeName === node.name) - Number(a.nodeName === node.name))
  return [...new Map(explained.toReversed().map((one) => [`${one.ip} ${one.port}`, one])).values()].toReversed()
}

function elsewhere(nodeName: string | undefined): string {
  return `the traffic policy is Local, and it is on ${nodeName ?? 'no known node'}`
}
