import { listAt, objectAt, textAt, type KubeObject } from '../api/kube-object.ts'
import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts'

/** The label by which an Endpoints object is known to be somebody's work (Kubernetes 1.33, KEP-4974). */
export const endpointsManagedByLabel = 'endpoints.kubernetes.io/managed-by'

/** Addresses that one Endpoints object has at most, as in Kubernetes; the annotation says that there were more. */
const maxAddresses = 1000
const overCapacity = 'endpoints.kubernetes.io/over-capacity'

/** Whether the endpoints of a Service are those of the pods that it selects. */
export function selectsPods(service: KubeObject): boolean {
  if (textAt(service.spec, 'type') === 'ExternalName') return false
  return Object.keys(objectAt(service.spec, 'selector')).length > 0
}

/**
 * The Endpoints object (core/v1) that says what the slices of a Service say, as the Endpoints controller writes it: of the
 * primary family, without endpoints that end, those that are not ready apart.
 */
export function describeEndpoints(
  service: KubeObject,
  slices: readonly EndpointSlice[],
  options: { readonly managedBy: string },
): object {
  const { namespace, name } = service.metadata
  const family = listAt(service.spec, 'ipFamilies')[0] ?? 'IPv4'
  const anyState = service.spec?.['publishNotReadyAddresses'] === true
  const bySamePorts = Map.groupBy(
    slices.filter((slice) => `IPv${slice.family}` === family),
    ({ ports }) => JSON.stringify(ports),
  )
  let room = maxAddresses
  const subsets = [...bySamePorts.values()].flatMap((same) => {
    const all = same.flatMap(({ endpoints }) => endpoints).filter(({ terminating }) => anyState || !terminating)
    const shown = all.slice(0, room)
    room -= shown.length
    if (shown.length === 0) return []
    const of = (ready: boolean): object[] =>
      shown
        .filter((endpoint) => (endpoint.ready || anyState) === ready)
        .map((endpoint) => describeAddress(endpoint, namespace ?? ''))
    const [addresses, notReadyAddresses] = [of(true), of(false)]
    const ports = (same[0]?.ports ?? []).map(({ name, protocol, port }) => ({
      ...(name !== '' && { name }),
      port,
      protocol: protocol.toUpperCase(),
    }))
    return [
      {
        ...(addresses.length > 0 && { addresses }),
        ...(notReadyAddresses.length > 0 && { notReadyAddresses }),
        ...(ports.length > 0 && { ports }),
      },
    ]
  })
  const headless = textAt(service.spec, 'clusterIP') === 'None'
  const labels = {
    ...service.metadata.labels,
    [endpointsManagedByLabel]: options.managedBy,
    ...(headless && { 'service.kubernetes.io/headless': '' }),
  }
  const annotations = room === 0 ? { [overCapacity]: 'truncated' } : undefined
  const metadata = { namespace, name, labels, ...(annotations && { annotations }) }
  return { apiVersion: 'v1', kind: 'Endpoints', metadata, ...(subsets.length > 0 && { subsets }) }
}

function describeAddress({ address, hostname, nodeName, targetPod }: Endpoint, namespace: string): object {
  return {
    ip: address,
    ...(hostname !== undefined && { hostname }),
    ...(nodeName !== undefined && { nodeName }),
    ...(targetPod !== undefined && { targetRef: { kind: 'Pod', name: targetPod, namespace } }),
  }
}
