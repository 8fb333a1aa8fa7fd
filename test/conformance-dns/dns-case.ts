import type { PodNames } from '../../src/dns/cluster-zone.ts'
import type { Name } from '../../src/dns-message/name.ts'
import type { IpAddress } from '../../src/net/ip-address.ts'
import type { ExpectedRecord } from './record-text.ts'
import type { CaseDeletion, CaseManifest } from '../conformance/read-manifests.ts'

/** Kinds that a case may load, with their apiVersion. */
export const manifestKinds = {
  Service: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
  Pod: 'v1',
  Namespace: 'v1',
} as const

export type ManifestKind = keyof typeof manifestKinds

export type Manifest = CaseManifest<ManifestKind>

/** A file of cases/dns: one server, its objects, and what it must answer. */
export interface DnsCase {
  /** Path of the file, as it was found. */
  readonly file: string
  readonly title: string
  readonly config: CaseConfig
  readonly objects: readonly Manifest[]
  /** A case without steps is one step without a name. */
  readonly steps: readonly DnsStep[]
}

export interface CaseConfig {
  readonly zone: string
  readonly pods: PodNames
  /** Seconds. */
  readonly ttl: number
  /** False: the server has not yet received its first full list. */
  readonly synced: boolean
  /** What the upstream resolver says, by name; of others it says NXDOMAIN. */
  readonly upstream: readonly StubAnswer[]
}

/** What the stub resolver answers about one name. */
export interface StubAnswer {
  readonly name: Name
  readonly rcode: number
  readonly answer: readonly ExpectedRecord[]
  /** Milliseconds. */
  readonly delay: number
  /** TC over UDP, the whole answer over TCP. */
  readonly truncated: boolean
}

export interface DnsStep {
  readonly name: string | undefined
  readonly apply: readonly Manifest[]
  readonly delete: readonly CaseDeletion<ManifestKind>[]
  readonly queries: readonly CaseQuery[]
}

export interface CaseQuery {
  /** `NAME TYPE`, and how it is asked when not plainly over UDP. */
  readonly label: string
  readonly transport: 'udp' | 'tcp'
  /** The asking address; undefined: any. */
  readonly client: IpAddress | undefined
  /** The message without its id, unless `raw`: then exactly as sent. */
  readonly message: Buffer
  readonly raw: boolean
  /** Octets that a UDP reply may have. */
  readonly maxReply: number
  readonly expect: DnsExpectation | 'silence'
}

/** Undefined fields are not compared. */
export interface DnsExpectation {
  readonly rcode: number
  readonly aa: boolean | undefined
  readonly ra: boolean | undefined
  readonly tc: boolean | undefined
  readonly answer: readonly ExpectedRecord[] | undefined
  readonly authority: readonly ExpectedRecord[] | undefined
  readonly additional: readonly ExpectedRecord[] | undefined
  readonly edns: 'none' | ExpectedEdns | undefined
}

/** What the OPT record of a reply must be. */
export interface ExpectedEdns {
  readonly version: number | undefined
  readonly do: boolean | undefined
  /** Codes of options that must not be there. */
  readonly without: readonly number[]
}
