import { serviceNameLabel } from '../model/parse-endpoint-slice.ts'
import { fairleadApi } from '../model/parse-network.ts'
import type { Resource } from '../kubernetes/reflector-types.ts'

/**
 * What of a cluster is followed: all that names, networks and Services need, what kube-proxy follows, or what CoreDNS follows, without pods
 * or with them.
 */
export type ClusterView = 'all' | 'proxy' | 'names' | 'names-and-pods'

/** A resource, and what its objects are in manifests: the items of lists do not say so themselves. */
export interface ManifestResource extends Resource {
  readonly apiVersion: string
  readonly kind: string
}

/**
 * The resources of a view on one node. Pods are not among them: a cluster makes its EndpointSlices itself, and pods are
 * most of what it has. The selectors of `proxy` are kube-proxy's (cmd/kube-proxy/app/server.go, 1.36).
 */
export function clusterResources(
  view: ClusterView,
  nodeName: string,
  options: { readonly allNodes?: boolean | undefined; readonly serviceLabels?: string | undefined } = {},
): readonly ManifestResource[] {
  if (view === 'names' || view === 'names-and-pods') {
    const { serviceLabels: labelSelector } = options
    const selected = { ...services, ...(labelSelector !== undefined && { labelSelector }) }
    // As in CoreDNS's role: neither nodes nor ServiceCIDRs may be listed.
    const names = [selected, { ...endpointSlices, labelSelector: serviceNameLabel }, namespaces]
    return view === 'names' ? names : [...names, runningPods]
  }
  const { allNodes = false } = options
  const node: ManifestResource = {
    name: 'nodes',
    path: '/api/v1/nodes',
    apiVersion: 'v1',
    kind: 'Node',
    ...(!allNodes && { fieldSelector: `metadata.name=${nodeName}` }),
  }
  if (view === 'proxy') {
    return [
      {
        ...services,
        labelSelector: '!service.kubernetes.io/service-proxy-name',
        fieldSelector: 'spec.clusterIP!=None',
      },
      { ...endpointSlices, labelSelector: '!service.kubernetes.io/headless' },
      node,
      serviceCIDRs,
    ]
  }
  // A slice without this label belongs to no Service.
  return [services, { ...endpointSlices, labelSelector: serviceNameLabel }, node, serviceCIDRs, namespaces, networks]
}

const services: ManifestResource = { name: 'services', path: '/api/v1/services', apiVersion: 'v1', kind: 'Service' }

const endpointSlices: ManifestResource = {
  name: 'endpointslices',
  path: '/apis/discovery.k8s.io/v1/endpointslices',
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
}

/** Those that have their addresses (CoreDNS plugin/kubernetes/controller.go). */
const runningPods: ManifestResource = {
  name: 'pods',
  path: '/api/v1/pods',
  apiVersion: 'v1',
  kind: 'Pod',
  fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown',
}

/** Since Kubernetes 1.33. */
const serviceCIDRs: ManifestResource = {
  name: 'servicecidrs',
  path: '/apis/networking.k8s.io/v1/servicecidrs',
  apiVersion: 'networking.k8s.io/v1',
  kind: 'ServiceCIDR',
  optional: true,
}

/** Optional, since a namespace with objects exists for us anyway, and not every role may list them. */
const namespaces: ManifestResource = {
  name: 'namespaces',
  path: '/api/v1/namespaces',
  apiVersion: 'v1',
  kind: 'Namespace',
  optional: true,
}

const networks: ManifestResource = {
  name: 'networks',
  path: `/apis/${fairleadApi}/networks`,
  apiVersion: fairleadApi,
  kind: 'Network',
  optional: true,
}
