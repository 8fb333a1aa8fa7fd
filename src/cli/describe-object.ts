import { isJsonObject, listAt, objectAt, textAt, type JsonObject, type KubeObject } from '../api/kube-object.ts'
import { formatAge } from '../api/table.ts'
import { formatTable } from './table.ts'

/** What belongs to an object. */
export interface DescribeContext {
  readonly events: readonly KubeObject[]
  /** EndpointSlices of a Service. */
  readonly slices: readonly KubeObject[]
  /** Wall time, ms. */
  readonly now: number
}

type Line = readonly [label: string, values: readonly string[]]

/** An object for people, in the words and the order of `kubectl describe`. */
export function describeObject(object: KubeObject, context: DescribeContext): string {
  const { metadata } = object
  const head: Line[] = [
    ['Name', [metadata.name]],
    ...(metadata.namespace === undefined ? [] : [['Namespace', [metadata.namespace]] as const]),
    ['Labels', pairs(metadata.labels)],
    ['Annotations', pairs(metadata.annotations, ': ')],
    ...(metadata.deletionTimestamp === undefined
      ? []
      : [['Deletion', [`since ${metadata.deletionTimestamp}`]] as const]),
  ]
  const body = object.kind === 'Service' ? formatLines([...head, ...serviceLines(object, context.slices)]) : undefined
  const { apiVersion: _version, kind: _kind, metadata: _metadata, ...rest } = object
  const parts = [
    body ?? [formatLines(head), formatTree(rest, 0)].filter((text) => text !== '').join('\n'),
    describeEvents(context.events, context.now),
  ]
  return parts.join('\n')
}

function serviceLines({ spec, status }: KubeObject, slices: readonly KubeObject[]): Line[] {
  const texts = (key: string): string[] => listAt(spec, key).map(String)
  const optional = (label: string, values: readonly string[]): Line[] => (values.length > 0 ? [[label, values]] : [])
  const ingress = listAt(objectAt(status, 'loadBalancer'), 'ingress').map((entry) => {
    const mode = textAt(entry, 'ipMode')
    return `${textAt(entry, 'ip') || textAt(entry, 'hostname')}${mode === '' ? '' : ` (${mode})`}`
  })
  const affinity = objectAt(objectAt(spec, 'sessionAffinityConfig'), 'clientIP')['timeoutSeconds']
  return [
    ['Selector', [pairs(objectAt(spec, 'selector')).join(',')]],
    ['Type', [textAt(spec, 'type')]],
    ...optional('IP Family Policy', one(spec, 'ipFamilyPolicy')),
    ...optional(
      'IP Families',
      [texts('ipFamilies').join(',')].filter((text) => text !== ''),
    ),
    ...optional('IP', one(spec, 'clusterIP')),
    ...optional(
      'IPs',
      [texts('clusterIPs').join(',')].filter((text) => text !== ''),
    ),
    ...optional(
      'External IPs',
      [texts('externalIPs').join(',')].filter((text) => text !== ''),
    ),
    ...optional('External Name', one(spec, 'externalName')),
    ...optional('Desired LoadBalancer IP', one(spec, 'loadBalancerIP')),
    ...optional('LoadBalancer Ingress', ingress.length > 0 ? [ingress.join(', ')] : []),
    ...listAt(spec, 'ports').flatMap((port) => portLines(port, slices)),
    [
      'Session Affinity',
      [`${textAt(spec, 'sessionAffinity')}${typeof affinity === 'number' ? ` (${affinity} s)` : ''}`],
    ],
    ...optional('External Traffic Policy', one(spec, 'externalTrafficPolicy')),
    ...optional('Internal Traffic Policy', one(spec, 'internalTrafficPolicy')),
    ...optional('Traffic Distribution', one(spec, 'trafficDistribution')),
    ...optional('HealthCheck NodePort', one(spec, 'healthCheckNodePort')),
    ...optional(
      'LoadBalancer Source Ranges',
      [texts('loadBalancerSourceRanges').join(',')].filter((text) => text !== ''),
    ),
  ]
}

function portLines(value: unknown, slices: readonly KubeObject[]): Line[] {
  const port = objectAt({ value }, 'value')
  const name = textAt(port, 'name')
  const protocol = textAt(port, 'protocol')
  const shown = `${name || '<unset>'}  `
  const { nodePort, targetPort } = port
  const lines: Line[] = [
    ['Port', [`${shown}${String(port['port'])}/${protocol}`]],
    ['TargetPort', [`${String(targetPort)}/${protocol}`]],
  ]
  if (typeof nodePort === 'number' && nodePort > 0) lines.push(['NodePort', [`${shown}${nodePort}/${protocol}`]])
  lines.push(['Endpoints', [endpointsOf(slices, name)]])
  return lines
}

/** The ready ones, and how many are not. */
function endpointsOf(slices: readonly KubeObject[], portName: string): string {
  let notReady = 0
  const ready = slices.flatMap((slice) => {
    const port = listAt(slice, 'ports').find((one) => textAt(one, 'name') === portName)
    if (port === undefined) return []
    const number = objectAt({ port }, 'port')['port']
    return listAt(slice, 'endpoints').flatMap((endpoint) => {
      const ip = String(listAt(endpoint, 'addresses')[0])
      if (objectAt(endpoint, 'conditions')['ready'] === false) {
        notReady++
        return []
      }
      return [`${ip.includes(':') ? `[${ip}]` : ip}:${String(number)}`]
    })
  })
  const some = ready.length > 10 ? `${ready.slice(0, 10).join(',')} + ${ready.length - 10} more...` : ready.join(',')
  return `${some}${notReady > 0 ? ` (${notReady} not ready)` : ''}`.trim() || '<none>'
}

function describeEvents(events: readonly KubeObject[], now: number): string {
  if (events.length === 0) return 'Events:  <none>'
  const rows = events.map((event) => {
    const time =
      textAt(event, 'lastTimestamp') || textAt(event, 'eventTime') || (event.metadata.creationTimestamp ?? '')
    const from = textAt(objectAt(event, 'source'), 'component') || textAt(event, 'reportingComponent')
    return [
      textAt(event, 'type'),
      textAt(event, 'reason'),
      formatAge(now - Date.parse(time)),
      from,
      textAt(event, 'message'),
    ]
  })
  const table = formatTable(['Type', 'Reason', 'Age', 'From', 'Message'], rows)
  return `Events:\n${table.replaceAll(/^/gm, '  ')}`
}

function one(spec: JsonObject | undefined, key: string): readonly string[] {
  const value = spec?.[key]
  return typeof value === 'string' || typeof value === 'number' ? [String(value)] : []
}

function pairs(map: JsonObject | undefined, between = '='): readonly string[] {
  const entries = Object.entries(map ?? {}).filter(([key]) => !key.endsWith('/last-applied-configuration'))
  if (entries.length === 0) return ['<none>']
  return entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}${between}${String(value)}`)
}

/** Labels in one column, values in another; further values below the first. */
function formatLines(lines: readonly Line[]): string {
  const width = Math.max(...lines.map(([label]) => label.length)) + 3
  return lines
    .flatMap(([label, values]) => values.map((value, index) => (index === 0 ? `${label}:` : '').padEnd(width) + value))
    .map((line) => line.trimEnd())
    .join('\n')
}

/** Any fields, as `kubectl describe` shows kinds that it does not know. */
function formatTree(value: JsonObject, depth: number): string {
  const indent = '  '.repeat(depth)
  return Object.entries(value)
    .flatMap(([key, child]) => {
      const label = `${indent}${titleOf(key)}:`
      if (isJsonObject(child)) {
        return Object.keys(child).length === 0 ? [] : [`${label}\n${formatTree(child, depth + 1)}`]
      }
      if (!Array.isArray(child)) return [`${label}  ${String(child)}`]
      return child.length === 0 ? [] : [`${label}\n${formatList(child, depth + 1)}`]
    })
    .join('\n')
}

function formatList(list: readonly unknown[], depth: number): string {
  const indent = '  '.repeat(depth)
  return list
    .map((item) => {
      if (!isJsonObject(item)) return `${indent}${String(item)}`
      return `${indent}- ${formatTree(item, depth + 1).trimStart()}`
    })
    .join('\n')
}

/** `addressType` as `Address Type`, `podIPs` as `Pod IPs`. */
function titleOf(key: string): string {
  const spaced = key.replaceAll(/([a-z0-9])([A-Z])/g, '$1 $2')
  return spaced.charAt(0).toUpperCase() + spaced.slice(1)
}
