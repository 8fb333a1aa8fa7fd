import type { Cidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'

/** A Kubernetes Node (v1), as far as networking needs it. */
export interface Node {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** InternalIP before ExternalIP, in the object's order. */
  readonly addresses: readonly IpAddress[]
  readonly podCIDRs: readonly Cidr[]
  /** The condition Ready. Absent: nobody has said anything. */
  readonly ready?: 'True' | 'False' | 'Unknown'
  /** Keys of `spec.taints`. Absent: none. */
  readonly taints?: readonly string[]
  /** When its deletion was asked for. Absent: it was not. */
  readonly deletionTimestamp?: string
}
