import type { IpAddress } from '../../src/net/ip-address.ts'
import type { Port } from '../../src/net/port.ts'
import type { Protocol } from '../../src/net/protocol.ts'
import type { CaseDeletion, CaseManifest } from './read-manifests.ts'

export const manifestKinds = {
  Service: 'v1',
  Node: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
  ServiceCIDR: 'networking.k8s.io/v1',
} as const

export type ManifestKind = keyof typeof manifestKinds

export type Manifest = CaseManifest<ManifestKind>

/** `10.180.0.1:80` or `[fd00:10::1]:80`: an endpoint as its listener answers, and as expectations name it. */
export type EndpointName = string

/** A file of cases/flows: one situation on one node. */
export interface FlowCase {
  /** Path of the file, as it was found. */
  readonly file: string
  readonly title: string
  /** KubeProxyConfiguration fields; those of a mode's section (masqueradeAll) stand at the top. */
  readonly config: Readonly<Record<string, unknown>>
  readonly node: CaseNode
  readonly objects: readonly Manifest[]
  /** A case without steps is one step without a name. */
  readonly steps: readonly Step[]
}

export interface CaseNode {
  readonly name: string
  /** Empty: no zone label. */
  readonly zone: string
  readonly addresses: readonly IpAddress[]
}

export interface Step {
  readonly name: string | undefined
  readonly apply: readonly Manifest[]
  readonly delete: readonly CaseDeletion<ManifestKind>[]
  /** Milliseconds. */
  readonly wait: number
  readonly flows: readonly Flow[]
}

/** Connections of one client to one address. */
export interface Flow {
  readonly name: string
  /** `node`: a process of the node, not bound to an address. */
  readonly from: IpAddress | 'node'
  readonly protocol: Protocol
  readonly address: IpAddress
  readonly port: Port
  readonly expect: Expectation
  /** Undefined: not compared. */
  readonly masquerade: boolean | undefined
  readonly sticky: boolean
  /** Milliseconds between the flow's connections. */
  readonly interval: number | undefined
  readonly sourcePort: Port | undefined
  /** Shares of new connections by endpoint. */
  readonly weights: ReadonlyMap<EndpointName, number> | undefined
}

/** The endpoints that are reached, each of them and no other; or what becomes of the connection instead. */
export type Expectation = readonly EndpointName[] | 'reject' | 'drop' | 'host'

/** `1.2.3.4:80`, `[2001:db8::1]:80` */
export function endpointName(address: string, port: number): EndpointName {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
