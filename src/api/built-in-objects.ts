import { formatCidr, type Cidr } from '../net/cidr.ts'
import type { KubeApi, Target, WriteOptions } from './kube-api.ts'
import { resourceTypeOf } from './resources.ts'

/** Namespaces that are always there. */
const namespaces: readonly string[] = ['default', 'kube-node-lease', 'kube-public', 'kube-system']

/** Makes the namespaces that are always there, and the ServiceCIDR that says where cluster IPs are from, as proxies read it. */
export async function createBuiltInObjects(api: KubeApi, clusterCIDRs: readonly Cidr[]): Promise<void> {
  const of = (kind: string, name = ''): Target => {
    return { type: resourceTypeOf(kind), namespace: '', name, subresource: '' }
  }
  const options: WriteOptions = { fieldManager: 'fairlead', fieldValidation: 'Ignore', dryRun: false, warnings: [] }
  for (const name of namespaces) {
    if (api.store.get('namespaces', '', name)) continue
    await api.create(of('Namespace'), { metadata: { name } }, options)
  }
  // Its name is that of Kubernetes' own default.
  const ranges = of('ServiceCIDR', 'kubernetes')
  const body = { metadata: { name: ranges.name }, spec: { cidrs: clusterCIDRs.map(formatCidr) } }
  if (api.store.get('servicecidrs.networking.k8s.io', '', ranges.name)) await api.update(ranges, body, options)
  else await api.create(ranges, body, options)
}
