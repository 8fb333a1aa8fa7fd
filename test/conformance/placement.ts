import { parseIp, type IpAddress } from '../../src/net/ip-address.ts'
import { parseLegacyIp } from '../../src/net/legacy-address.ts'
import type { Port } from '../../src/net/port.ts'
import type { Protocol } from '../../src/net/protocol.ts'
import type { CaseNode, FlowCase, Manifest } from './flow-case.ts'

/** Who has an address. `outside`: a client beyond the router. */
export type Place =
  | { readonly kind: 'this-node' }
  | { readonly kind: 'other-node'; readonly node: string }
  | { readonly kind: 'local-pod' }
  | { readonly kind: 'remote-pod'; readonly node: string }
  | { readonly kind: 'outside' }

/** A listener that an endpoint has. */
export interface Listening {
  readonly address: IpAddress
  readonly protocol: Protocol
  readonly port: Port
}

/** Where every address of a step lives, and what listens there. */
export interface Placement {
  readonly places: ReadonlyMap<IpAddress, Place>
  /** The address of each other node, per family. */
  readonly nodes: ReadonlyMap<string, readonly IpAddress[]>
  readonly listeners: readonly Listening[]
}

/** An endpoint without a nodeName lives behind this one. */
const namelessNode = '(no name)'

interface RawEndpoint {
  readonly address: IpAddress
  readonly nodeName: string
  readonly listeners: readonly Listening[]
}

/**
 * Decides where the addresses of a case live (the table of the cases' README) when these slices are there. Endpoints with an
 * address that cannot be anybody's are left out: what to do with them is the proxy's business.
 */
export function placeAddresses(
  flowCase: FlowCase,
  objects: readonly Manifest[],
  clients: readonly IpAddress[],
): Placement {
  const { node } = flowCase
  const endpoints = objects.filter(({ kind }) => kind === 'EndpointSlice').flatMap(endpointsOf)
  // All nodes that the case will ever have, so that each keeps its address through all steps.
  const ever = [...flowCase.objects, ...flowCase.steps.flatMap(({ apply }) => apply)]
  const nodes = nameOtherNodes(node, ever, ever.filter(({ kind }) => kind === 'EndpointSlice').flatMap(endpointsOf))
  const places = new Map<IpAddress, Place>()
  for (const address of node.addresses) places.set(address, { kind: 'this-node' })
  for (const [name, addresses] of nodes) for (const ip of addresses) places.set(ip, { kind: 'other-node', node: name })
  // An address that several slices name lives here when one of them says so, as the proxy prefers it.
  for (const local of [true, false]) {
    for (const { address, nodeName } of endpoints) {
      if (places.has(address) || (nodeName === node.name) !== local) continue
      if (isOutside(address)) places.set(address, { kind: 'outside' })
      else places.set(address, local ? { kind: 'local-pod' } : { kind: 'remote-pod', node: nodeName })
    }
  }
  for (const client of clients) {
    if (places.has(client)) continue
    if (isOutside(client)) places.set(client, { kind: 'outside' })
    else if (isServiceAddress(client)) places.set(client, { kind: 'this-node' })
    else if (isUplink(client)) places.set(client, { kind: 'other-node', node: `node ${client}` })
    else places.set(client, { kind: 'local-pod' })
  }
  for (const [address, place] of places) {
    if (place.kind === 'other-node' && !nodes.has(place.node)) nodes.set(place.node, [address])
  }
  return { places, nodes, listeners: endpoints.flatMap(({ listeners }) => listeners) }
}

const outsidePrefixes = ['203.0.113.', '2001:db8:1:']
const servicePrefixes = ['192.168.99.', '172.30.', '2001:db8:99:', 'fd00:172:30:']
const loadBalancerAddresses = ['1.2.3.4', '5.6.7.8', '9.10.11.12']
const uplinkPrefixes = ['192.168.0.', 'fd00:192:168:']

function isOutside(address: IpAddress): boolean {
  return outsidePrefixes.some((prefix) => address.startsWith(prefix))
}

/** A process of the node binds to such an address. */
function isServiceAddress(address: IpAddress): boolean {
  return loadBalancerAddresses.includes(address) || servicePrefixes.some((prefix) => address.startsWith(prefix))
}

/** Whether an address is of the network that nodes have in common. */
export function isUplink(address: IpAddress): boolean {
  return uplinkPrefixes.some((prefix) => address.startsWith(prefix))
}

/** Every node but this one, by name, with the address per family that it has: its own where an object says it. */
function nameOtherNodes(
  node: CaseNode,
  objects: readonly Manifest[],
  endpoints: readonly RawEndpoint[],
): Map<string, readonly IpAddress[]> {
  const nodes = new Map<string, IpAddress[]>()
  const note = (name: string, address?: IpAddress): void => {
    const addresses = nodes.get(name) ?? []
    if (address !== undefined && !addresses.includes(address)) addresses.push(address)
    nodes.set(name, addresses)
  }
  for (const { kind, metadata, ...fields } of objects) {
    if (kind !== 'Node' || metadata.name === node.name) continue
    note(metadata.name)
    const { addresses } = (fields['status'] ?? {}) as { addresses?: { type: string; address: string }[] }
    for (const { type, address } of addresses ?? []) {
      const ip = type === 'InternalIP' ? toAddress(address) : undefined
      if (ip !== undefined) note(metadata.name, ip)
    }
  }
  for (const { nodeName, address } of endpoints) {
    if (nodeName === node.name || node.addresses.includes(address)) continue
    note(nodeName, isUplink(address) ? address : undefined)
  }
  const taken = new Set<string>([...node.addresses, ...[...nodes.values()].flat()])
  for (const addresses of nodes.values()) {
    for (const [marker, network] of [
      ['.', '192.168.0.'],
      [':', 'fd00:192:168::'],
    ] as const) {
      if (addresses.some((address) => address.includes(marker))) continue
      let number = 3
      while (taken.has(`${network}${number.toString(marker === '.' ? 10 : 16)}`)) number++
      const ip = parseIp(`${network}${number.toString(marker === '.' ? 10 : 16)}`)
      taken.add(ip)
      addresses.push(ip)
    }
  }
  return nodes
}

interface RawSlice {
  readonly ports?: readonly { readonly protocol?: string; readonly port?: unknown }[] | null
  readonly endpoints?: readonly { readonly addresses?: readonly string[]; readonly nodeName?: string }[] | null
}

/** What a slice's endpoints are, as far as they can exist. Only the first address of each counts, but all may be tried. */
function endpointsOf(slice: Manifest): RawEndpoint[] {
  const { ports, endpoints } = slice as unknown as RawSlice
  const listening = (ports ?? []).flatMap(({ protocol = 'TCP', port }) => {
    const isPort = typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536
    const lower = protocol.toLowerCase()
    const known = lower === 'tcp' || lower === 'udp' || lower === 'sctp' ? lower : undefined
    return isPort && known !== undefined ? [{ protocol: known, port: port as Port } as const] : []
  })
  return (endpoints ?? []).flatMap(({ addresses, nodeName = namelessNode }) =>
    (addresses ?? []).flatMap((text) => {
      const address = toAddress(text)
      if (address === undefined || !canBeAnEndpoint(address)) return []
      return [{ address, nodeName, listeners: listening.map((each) => ({ address, ...each })) }]
    }),
  )
}

function canBeAnEndpoint(address: IpAddress): boolean {
  return !/^(0\.|127\.|169\.254\.|22[4-9]\.|2[3-5]\d\.|::|fe[89ab]|ff)/.test(address)
}

function toAddress(text: string): IpAddress | undefined {
  try {
    return parseLegacyIp(text)
  } catch {
    // Malformed on purpose: nobody can have it.
    return undefined
  }
}
