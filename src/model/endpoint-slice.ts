import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/** A Kubernetes EndpointSlice (discovery.k8s.io/v1). Slices of addressType FQDN never become one. */
export interface EndpointSlice {
  readonly namespace: string
  readonly name: string
  /** The label `kubernetes.io/service-name`: name of the Service, in the same namespace. */
  readonly serviceName: string
  /** It has the label `service.kubernetes.io/headless`: for DNS, not for proxies. */
  readonly headless?: true
  readonly family: IpFamily
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly Endpoint[]
}

export interface EndpointPort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: Port
}

export interface Endpoint {
  /** The first of the slice's addresses; the others are not used (discovery/v1). */
  readonly address: IpAddress
  readonly hostname: string | undefined
  readonly nodeName: string | undefined
  readonly zone: string | undefined
  /** Nil counts as true (discovery/v1). */
  readonly ready: boolean
  /** Nil counts as true, here as in kube-proxy. */
  readonly serving: boolean
  readonly terminating: boolean
  readonly hints: { readonly zones: readonly string[]; readonly nodes: readonly string[] }
  /** The pod behind the address, when the slice says so. */
  readonly targetPod: string | undefined
  /** Its share of new connections, by annotation: 0 takes none. Absent: 1. */
  readonly weight?: number | undefined
}
