import { listAt, objectAt, textAt, type JsonObject, type KubeObject } from './kube-object.ts'
import type { ResourceType } from './resources.ts'

/** One column of `kubectl get`: 1 as its priority means only with `-o wide`. */
interface Column {
  readonly name: string
  readonly type?: 'string' | 'integer' | 'date'
  readonly wide?: true
  readonly cell: (object: KubeObject, now: number) => string | number
}

/** How much of each object comes along with its row. */
export type IncludeObject = 'None' | 'Metadata' | 'Object'

/** Writes objects as a Table (meta/v1), which `kubectl get` prints as it is. */
export function describeTable(
  type: ResourceType,
  objects: readonly KubeObject[],
  options: { readonly metadata: JsonObject; readonly include: IncludeObject; readonly now: number },
): object {
  const columns = columnsOf(type.kind)
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: options.metadata,
    columnDefinitions: columns.map(({ name, type, wide }) => ({
      name,
      type: type ?? 'string',
      format: name === 'Name' ? 'name' : '',
      description: '',
      priority: wide ? 1 : 0,
    })),
    rows: objects.map((object) => ({
      cells: columns.map(({ cell }) => cell(object, options.now)),
      ...(options.include !== 'None' && { object: options.include === 'Object' ? object : partial(object) }),
    })),
  }
}

/** An object without all but its metadata (meta/v1 PartialObjectMetadata). */
export function partial(object: KubeObject): object {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata }
}

/** A time span as `kubectl get` shows it: `45s`, `7m12s`, `3h5m`, `12d` (apimachinery HumanDuration). */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  const days = Math.floor(hours / 24)
  if (days < 8) return two(days, 'd', hours % 24, 'h')
  if (days < 730) return `${days}d`
  return two(Math.floor(days / 365), 'y', days % 365, 'd')
}

function two(big: number, bigUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${big}${bigUnit}` : `${big}${bigUnit}${small}${smallUnit}`
}

const nameColumn: Column = { name: 'Name', cell: (object) => object.metadata.name }
const ageColumn: Column = {
  name: 'Age',
  type: 'date',
  cell: (object, now) => since(object.metadata.creationTimestamp, now),
}

function columnsOf(kind: string): readonly Column[] {
  switch (kind) {
    case 'Service':
      return [
        nameColumn,
        { name: 'Type', cell: ({ spec }) => textAt(spec, 'type') },
        { name: 'Cluster-IP', cell: ({ spec }) => textAt(spec, 'clusterIP') || '<none>' },
        { name: 'External-IP', cell: externalAddresses },
        { name: 'Port(s)', cell: servicePorts },
        ageColumn,
        { name: 'Selector', wide: true, cell: ({ spec }) => formatLabels(objectAt(spec, 'selector')) },
      ]
    case 'Endpoints':
      return [nameColumn, { name: 'Endpoints', cell: endpointAddresses }, ageColumn]
    case 'EndpointSlice':
      return [
        nameColumn,
        { name: 'AddressType', cell: (slice) => textAt(slice, 'addressType') },
        {
          name: 'Ports',
          cell: (slice) =>
            firstOf(
              listAt(slice, 'ports').map((port) => portText(port)),
              '<unset>',
            ),
        },
        {
          name: 'Endpoints',
          cell: (slice) =>
            firstOf(
              listAt(slice, 'endpoints').flatMap((one) => listAt(one, 'addresses').map(String)),
              '<unset>',
            ),
        },
        ageColumn,
      ]
    case 'Namespace':
      return [nameColumn, { name: 'Status', cell: ({ status }) => textAt(status, 'phase') }, ageColumn]
    case 'Node':
      return [
        nameColumn,
        { name: 'Status', cell: nodeStatus },
        { name: 'Roles', cell: nodeRoles },
        ageColumn,
        { name: 'Version', cell: ({ status }) => textAt(objectAt(status, 'nodeInfo'), 'kubeletVersion') },
        { name: 'Internal-IP', wide: true, cell: (node) => nodeAddress(node, 'InternalIP') },
        { name: 'External-IP', wide: true, cell: (node) => nodeAddress(node, 'ExternalIP') },
        { name: 'OS-Image', wide: true, cell: (node) => nodeInfo(node, 'osImage') },
        { name: 'Kernel-Version', wide: true, cell: (node) => nodeInfo(node, 'kernelVersion') },
        { name: 'Container-Runtime', wide: true, cell: (node) => nodeInfo(node, 'containerRuntimeVersion') },
      ]
    case 'Pod':
      return [
        nameColumn,
        { name: 'Ready', cell: readyContainers },
        { name: 'Status', cell: podStatus },
        {
          name: 'Restarts',
          type: 'integer',
          cell: ({ status }) =>
            listAt(status, 'containerStatuses').reduce(
              (sum: number, one) => sum + Number(objectAt({ one }, 'one')['restartCount'] ?? 0),
              0,
            ),
        },
        ageColumn,
        { name: 'IP', wide: true, cell: ({ status }) => textAt(status, 'podIP') || '<none>' },
        { name: 'Node', wide: true, cell: ({ spec }) => textAt(spec, 'nodeName') || '<none>' },
      ]
    case 'Lease':
      return [nameColumn, { name: 'Holder', cell: ({ spec }) => textAt(spec, 'holderIdentity') }, ageColumn]
    case 'Event':
      return [
        {
          name: 'Last Seen',
          cell: (event, now) =>
            since(
              textAt(event, 'lastTimestamp') || textAt(event, 'eventTime') || event.metadata.creationTimestamp,
              now,
            ),
        },
        { name: 'Type', cell: (event) => textAt(event, 'type') },
        { name: 'Reason', cell: (event) => textAt(event, 'reason') },
        {
          name: 'Object',
          cell: (event) =>
            `${textAt(event['involvedObject'], 'kind').toLowerCase()}/${textAt(event['involvedObject'], 'name')}`,
        },
        { name: 'Message', cell: (event) => textAt(event, 'message').trim() },
        { name: 'Name', wide: true, cell: (event) => event.metadata.name },
      ]
    case 'Network':
      return [
        nameColumn,
        { name: 'Driver', cell: ({ spec }) => textAt(spec, 'driver') || 'bridge' },
        { name: 'Subnets', cell: ({ spec }) => listAt(spec, 'subnets').map(String).join(',') || '<given>' },
        ageColumn,
      ]
    case 'ServiceCIDR':
      return [nameColumn, { name: 'CIDRs', cell: ({ spec }) => listAt(spec, 'cidrs').map(String).join(',') }, ageColumn]
    default:
      return [nameColumn, ageColumn]
  }
}

function since(time: string | undefined, now: number): string {
  const at = time === undefined ? Number.NaN : Date.parse(time)
  return Number.isNaN(at) ? '<unknown>' : formatAge(now - at)
}

function formatLabels(labels: JsonObject): string {
  const entries = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  return entries.map(([key, value]) => `${key}=${String(value)}`).join(',') || '<none>'
}

function firstOf(all: readonly string[], none: string): string {
  if (all.length === 0) return none
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',')
}

function externalAddresses({ spec, status }: KubeObject): string {
  const type = textAt(spec, 'type')
  if (type === 'ExternalName') return textAt(spec, 'externalName')
  const external = listAt(spec, 'externalIPs').map(String)
  if (type !== 'LoadBalancer') return external.join(',') || '<none>'
  const ingress = listAt(objectAt(status, 'loadBalancer'), 'ingress').map(
    (one) => textAt(one, 'ip') || textAt(one, 'hostname'),
  )
  return [...ingress, ...external].join(',') || '<pending>'
}

function servicePorts({ spec }: KubeObject): string {
  const ports = listAt(spec, 'ports').map((one) => {
    const { port, nodePort, protocol } = objectAt({ one }, 'one')
    return `${Number(port)}${nodePort ? `:${Number(nodePort)}` : ''}/${String(protocol)}`
  })
  return ports.join(',') || '<none>'
}

function endpointAddresses(endpoints: KubeObject): string {
  const all = listAt(endpoints, 'subsets').flatMap((subset) => {
    const ports = listAt(subset, 'ports').map((one) => String(objectAt({ one }, 'one')['port']))
    return listAt(subset, 'addresses').flatMap((address) => {
      const ip = textAt(address, 'ip')
      const shown = ip.includes(':') ? `[${ip}]` : ip
      return ports.length > 0 ? ports.map((port) => `${shown}:${port}`) : [ip]
    })
  })
  return firstOf(all, '<none>')
}

function conditionOf(object: KubeObject, type: string): string {
  return textAt(
    listAt(object.status, 'conditions').find((one) => textAt(one, 'type') === type),
    'status',
  )
}

function nodeStatus(node: KubeObject): string {
  const ready = conditionOf(node, 'Ready')
  const words = ready === 'True' ? ['Ready'] : ready === '' ? ['Unknown'] : ['NotReady']
  if (node.spec?.['unschedulable'] === true) words.push('SchedulingDisabled')
  return words.join(',')
}

function nodeRoles({ metadata }: KubeObject): string {
  const prefix = 'node-role.kubernetes.io/'
  const roles = Object.keys(metadata.labels ?? {}).filter((key) => key.startsWith(prefix))
  return roles.map((key) => key.slice(prefix.length)).join(',') || '<none>'
}

function nodeInfo({ status }: KubeObject, key: string): string {
  return textAt(objectAt(status, 'nodeInfo'), key) || '<unknown>'
}

function nodeAddress(node: KubeObject, type: string): string {
  const address = listAt(node.status, 'addresses').find((one) => textAt(one, 'type') === type)
  return textAt(address, 'address') || '<none>'
}

function readyContainers(pod: KubeObject): string {
  const statuses = listAt(pod.status, 'containerStatuses')
  const all = listAt(pod.spec, 'containers').length
  // Without a kubelet nobody says anything of single containers.
  const ready =
    statuses.length === 0 && conditionOf(pod, 'Ready') === 'True'
      ? all
      : statuses.filter((one) => objectAt({ one }, 'one')['ready'] === true).length
  return `${ready}/${all}`
}

function podStatus(pod: KubeObject): string {
  if (pod.metadata.deletionTimestamp !== undefined) return 'Terminating'
  return textAt(pod.status, 'reason') || textAt(pod.status, 'phase')
}

function portText(port: unknown): string {
  const number = objectAt({ port }, 'port')['port']
  return typeof number === 'number' ? String(number) : '*'
}
