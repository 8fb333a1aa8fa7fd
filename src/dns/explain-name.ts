import { isAtOrBelow, labelsOfKey, type Name } from '../dns-message/name.ts'
import { objectKey } from '../model/object-key.ts'
import type { Service } from '../model/service.ts'
import type { Snapshot } from '../model/snapshot.ts'
import type { PodNames } from './cluster-zone.ts'
import { dashedAddress } from './compile-service.ts'
import { parseDashedAddress } from './pod-name.ts'

/** What the objects of the cluster say about a name, for people. */
export interface NameExplanation {
  /** `Service shop/web`; undefined: no object stands behind it. */
  readonly object: string | undefined
  /** Sentences: what it is, or why it does not exist, and what was perhaps meant. */
  readonly why: readonly string[]
}

export interface ExplainNameOptions {
  readonly zone: Name
  readonly pods: PodNames
}

/** Why the cluster answers a name as it does. Undefined: the name is not the cluster's. */
export function explainName(name: Name, snapshot: Snapshot, options: ExplainNameOptions): NameExplanation | undefined {
  const { zone } = options
  if (!isAtOrBelow(name.key, zone.key)) return undefined
  const labels = labelsOfKey(name.key)
  const own = labels.slice(0, labels.length - labelsOfKey(zone.key).length).toReversed()
  const [kind, namespace, third, ...deeper] = own
  if (kind === undefined) return nothing('the zone itself: SOA and NS')
  if (kind === 'dns-version' || kind === 'dns') return nothing('a name of the DNS server itself')
  if (kind !== 'svc' && kind !== 'pod') return nothing(`below the zone stand svc and pod, not "${kind}"`)
  if (namespace === undefined) return nothing(`stands between names (${kind}), and has no records`)
  if (!hasNamespace(namespace, snapshot))
    return nothing(`there is no namespace "${namespace}"`, ...elsewhere(snapshot, { name: third, namespace }))
  if (third === undefined) return nothing(`the namespace ${namespace} exists, and has no records itself`)
  if (kind === 'pod') return explainPod(third, { namespace, pods: options.pods, snapshot })
  const service = snapshot.services.get(objectKey({ namespace, name: third }))
  if (!service)
    return nothing(
      `there is no Service "${third}" in namespace ${namespace}`,
      ...elsewhere(snapshot, { name: third, namespace }),
    )
  return { object: `Service ${namespace}/${third}`, why: explainService(service, deeper, snapshot) }
}

function nothing(...why: readonly string[]): NameExplanation {
  return { object: undefined, why }
}

function hasNamespace(namespace: string, { namespaces, services, pods }: Snapshot): boolean {
  if (namespaces.has(namespace)) return true
  for (const objects of [services, pods])
    for (const object of objects.values()) if (object.namespace === namespace) return true
  return false
}

/** The same name in other namespaces: the most frequent mistake. */
function elsewhere(
  { services }: Snapshot,
  { name, namespace }: { name: string | undefined; namespace: string },
): string[] {
  if (name === undefined) return []
  const others = [...services.values()].filter((service) => service.name === name && service.namespace !== namespace)
  if (others.length === 0) return []
  const shown = others.slice(0, 5).map((service) => service.namespace)
  return [`a Service of this name is in: ${shown.join(', ')}${others.length > shown.length ? ', ...' : ''}`]
}

function explainPod(
  label: string,
  { namespace, pods, snapshot }: { namespace: string; pods: PodNames; snapshot: Snapshot },
): NameExplanation {
  if (pods === 'disabled') return nothing('names of pods are off (dns.pods: disabled)')
  const address = parseDashedAddress(label)
  if (!address) return nothing(`"${label}" is no address with dashes (like 10-0-0-1)`)
  const pod = [...snapshot.pods.values()].find((pod) => pod.namespace === namespace && pod.podIPs.includes(address))
  if (pod) return { object: `Pod ${namespace}/${pod.name}`, why: [`has the address ${address}`] }
  return pods === 'insecure'
    ? nothing('any address has a name here, whoever has it (dns.pods: insecure)')
    : nothing(`no pod of namespace ${namespace} has ${address} (dns.pods: verified)`)
}

function explainService(service: Service, deeper: readonly string[], snapshot: Snapshot): string[] {
  if (service.type === 'ExternalName') return [`an ExternalName: leads to ${service.externalName ?? 'nowhere'}`]
  const slices = snapshot.slices.get(objectKey(service)) ?? []
  const endpoints = slices.flatMap((slice) => slice.endpoints)
  const ready = endpoints.filter((endpoint) => endpoint.ready || service.publishNotReadyAddresses)
  const kind = service.headless ? 'headless' : `cluster IP ${service.clusterIPs.join(', ') || 'not given yet'}`
  const why = [`${kind}; ${ready.length} of ${endpoints.length} endpoints are ready`]
  if (service.headless && ready.length === 0)
    return [
      ...why,
      'a headless Service without a ready endpoint does not exist in DNS (publishNotReadyAddresses would change that)',
    ]
  if (!service.headless && service.clusterIPs.length === 0)
    return [...why, 'without a cluster IP there are no records yet']
  const [first] = deeper
  if (first === undefined) return why
  if (first.startsWith('_') || deeper.length > 1) {
    const ports = [...service.ports, ...slices.flatMap((slice) => slice.ports)].filter(({ name }) => name !== '')
    const names = [...new Set(ports.map(({ name, protocol }) => `_${name}._${protocol}`))]
    return [
      ...why,
      names.length > 0 ? `its named ports: ${names.join(', ')}` : 'it has no named port, so no names of ports',
    ]
  }
  const endpoint = endpoints.find((one) => (one.hostname ?? dashedAddress(one.address)) === first)
  if (!endpoint) return [...why, `no endpoint is called "${first}"`]
  const state = ready.includes(endpoint) ? 'ready' : 'not ready, so it has no name'
  return [...why, `endpoint ${endpoint.address}${endpoint.targetPod ? ` (pod ${endpoint.targetPod})` : ''} is ${state}`]
}
