import type { IpAddress } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/** A Kubernetes Pod (v1), as far as networking needs it. */
export interface Pod {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly nodeName: string | undefined
  readonly hostname: string | undefined
  readonly subdomain: string | undefined
  readonly hostNetwork: boolean
  /** At most one per family, the primary first. Empty until the pod has an address. */
  readonly podIPs: readonly IpAddress[]
  readonly phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
  /** The Ready condition; a pod without conditions is ready when it runs. */
  readonly ready: boolean
  /** It has a deletionTimestamp. */
  readonly terminating: boolean
  /** Named container ports, for `targetPort: name`. */
  readonly ports: readonly { readonly name: string; readonly protocol: Protocol; readonly port: Port }[]
}
