import type { Cidr } from '../net/cidr.ts'

/** A Kubernetes ServiceCIDR (networking.k8s.io/v1): ranges that cluster IPs are given from, at most one per family. */
export interface ServiceCIDR {
  readonly name: string
  readonly cidrs: readonly Cidr[]
}
