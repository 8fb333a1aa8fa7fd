import { createHash } from 'node:crypto'
import type { Pod } from '../model/pod.ts'
import type { IpAddress } from '../net/ip-address.ts'
import type { Condition } from './node-object.ts'

/** Says of a Pod object that a fairlead wrote it, and what it was made of: with another value it is another pod. */
export const runAnnotation = 'fairlead.dev/run'

/** The Pod object of a pod of this node, without its status. Pure. */
export function describePod(pod: Pod, nodeName: string): object {
  const { namespace, name, labels, annotations, hostname, subdomain, hostNetwork, ports } = pod
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, labels, annotations: { ...annotations, [runAnnotation]: runOf(pod) } },
    spec: {
      nodeName,
      ...(hostname !== undefined && { hostname }),
      ...(subdomain !== undefined && { subdomain }),
      ...(hostNetwork && { hostNetwork }),
      restartPolicy: 'Never',
      containers: [
        {
          name: 'main',
          image: 'fairlead.dev/host',
          ...(ports.length > 0 && {
            ports: ports.map(({ name, protocol, port }) => ({
              name,
              protocol: protocol.toUpperCase(),
              containerPort: port,
            })),
          }),
        },
      ],
    },
  }
}

/** What of a pod cannot change while it is the same pod. */
export function runOf({ labels, annotations, hostname, subdomain, hostNetwork, ports }: Pod): string {
  const parts = [sorted(labels), sorted(annotations), hostname, subdomain, hostNetwork, ports]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)
}

function sorted(texts: Readonly<Record<string, string>>): readonly (readonly [string, string])[] {
  return Object.entries(texts).sort(([a], [b]) => (a < b ? -1 : 1))
}

/** Its status, without the times of conditions. Pure. */
export function describePodStatus(
  { phase, ready, podIPs }: Pod,
  hostIPs: readonly IpAddress[],
): { readonly conditions: readonly Condition[]; readonly [key: string]: unknown } {
  const ended = phase === 'Succeeded' || phase === 'Failed'
  const status = ready ? 'True' : 'False'
  const reason = ready ? 'Running' : ended ? 'PodCompleted' : 'ContainersNotReady'
  const [podIP] = podIPs
  const [hostIP] = hostIPs
  return {
    phase,
    ...(podIP !== undefined && { podIP, podIPs: podIPs.map((ip) => ({ ip })) }),
    ...(hostIP !== undefined && { hostIP, hostIPs: hostIPs.map((ip) => ({ ip })) }),
    conditions: ['Ready', 'ContainersReady'].map((type) => ({ type, status, reason, message: '' })),
  }
}
