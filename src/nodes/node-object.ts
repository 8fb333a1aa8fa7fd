import { formatCidr, type Cidr } from '../net/cidr.ts'
import type { IpAddress } from '../net/ip-address.ts'

/** What a node says of itself. */
export interface NodeFacts {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** Where other nodes reach it, the primary first. */
  readonly addresses: readonly IpAddress[]
  /** The networks of its pods. */
  readonly podCIDRs: readonly Cidr[]
  /** What is wrong with it; empty: it is ready. */
  readonly complaints: readonly string[]
  readonly info: NodeInfo
}

/** `status.nodeInfo` of a Node. */
export interface NodeInfo {
  readonly machineID: string
  readonly bootID: string
  readonly kernelVersion: string
  readonly osImage: string
  readonly containerRuntimeVersion: string
  readonly kubeletVersion: string
  readonly operatingSystem: 'linux'
  readonly architecture: string
}

/** How the fields of an object that we apply are called ours (metadata.managedFields). */
export const fieldManager = 'fairlead-node'

/** The Node object without its status. Pure. */
export function describeNode({ name, labels, podCIDRs, info }: NodeFacts): object {
  const [first] = podCIDRs
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: {
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': info.operatingSystem,
        'kubernetes.io/arch': info.architecture,
        ...labels,
      },
    },
    ...(first && { spec: { podCIDR: formatCidr(first), podCIDRs: podCIDRs.map(formatCidr) } }),
  }
}

/** Its status, without the times of conditions. Pure. */
export function describeNodeStatus({ name, addresses, complaints, info }: NodeFacts): {
  readonly addresses: readonly object[]
  readonly nodeInfo: NodeInfo
  readonly conditions: readonly Condition[]
} {
  const ready = complaints.length === 0
  return {
    addresses: [...addresses.map((address) => ({ type: 'InternalIP', address })), { type: 'Hostname', address: name }],
    nodeInfo: info,
    conditions: [
      {
        type: 'Ready',
        status: ready ? 'True' : 'False',
        reason: ready ? 'FairleadReady' : 'FairleadNotReady',
        message: ready ? 'fairlead is posting ready status' : complaints.join('; '),
      },
    ],
  }
}

/** A condition of an object (meta/v1), without its times. */
export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
}

/** The Lease that says that the node is alive. */
export function describeLease(
  name: string,
  { seconds, now }: { readonly seconds: number; readonly now: Date },
): object {
  // MicroTime (meta/v1) has six digits.
  const renewTime = now.toISOString().replace('Z', '000Z')
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name, namespace: 'kube-node-lease' },
    spec: { holderIdentity: name, leaseDurationSeconds: seconds, renewTime },
  }
}
