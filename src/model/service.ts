import type { Cidr } from '../net/cidr.ts'
import type { IpAddress, IpFamily } from '../net/ip-address.ts'
import type { Port } from '../net/port.ts'
import type { Protocol } from '../net/protocol.ts'

/** A Kubernetes Service (v1), as far as a node needs it. */
export interface Service {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** RFC 3339; undefined when the source gives none. The older object keeps a contested address. */
  readonly creationTimestamp: string | undefined
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
  /** At most one address per family, the primary first. Empty for headless and ExternalName Services. */
  readonly clusterIPs: readonly IpAddress[]
  /** `clusterIP: None`: names and endpoints, but no virtual address. */
  readonly headless: boolean
  readonly externalName: string | undefined
  /** Undefined when the endpoints come from somebody else (EndpointSlices without a selector). */
  readonly selector: Readonly<Record<string, string>> | undefined
  readonly ports: readonly ServicePort[]
  readonly externalIPs: readonly IpAddress[]
  readonly loadBalancerIngress: readonly LoadBalancerIngress[]
  /** Host names of load balancers that are known by nothing else, as `status` has them. Absent: none. */
  readonly loadBalancerHostnames?: readonly string[] | undefined
  readonly loadBalancerSourceRanges: readonly Cidr[]
  readonly sessionAffinity: SessionAffinity
  readonly internalTrafficPolicy: TrafficPolicy
  readonly externalTrafficPolicy: TrafficPolicy
  readonly healthCheckNodePort: Port | undefined
  readonly publishNotReadyAddresses: boolean
  /** What `spec.ipFamilies` asks of whoever gives the addresses, the primary first. Absent: nothing was asked. */
  readonly ipFamilies?: readonly IpFamily[] | undefined
  readonly ipFamilyPolicy?: 'SingleStack' | 'PreferDualStack' | 'RequireDualStack' | undefined
  /** False keeps a LoadBalancer Service from being given node ports. Absent counts as true. */
  readonly allocateLoadBalancerNodePorts?: boolean | undefined
}

export interface ServicePort {
  /** Empty when the Service has one unnamed port. */
  readonly name: string
  readonly protocol: Protocol
  readonly port: Port
  /** A number, or the name of a container port. */
  readonly targetPort: Port | string
  readonly nodePort: Port | undefined
  readonly appProtocol: string | undefined
}

export interface LoadBalancerIngress {
  readonly ip: IpAddress
  readonly ipMode: 'VIP' | 'Proxy'
}

export type TrafficPolicy = 'Cluster' | 'Local'

/** `ClientIP` keeps a client on one endpoint until it was silent for `timeoutSeconds` (1..86400). */
export type SessionAffinity = { readonly kind: 'None' } | { readonly kind: 'ClientIP'; readonly timeoutSeconds: number }
