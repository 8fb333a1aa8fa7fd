import { cidrContains, parseCidr, type Cidr } from '../net/cidr.ts'
import { parseIp, type IpAddress } from '../net/ip-address.ts'
import { ParseError } from '../net/parse-error.ts'
import type { StatusCause } from './api-error.ts'
import { isJsonObject, listAt, objectAt, textAt, type JsonObject, type KubeObject } from './kube-object.ts'
import { keyProblems, labelProblems, portNameProblems, subdomainProblems, valueProblems } from './name-rules.ts'
import { duplicate, forbidden, invalid, notSupported, required } from './status-causes.ts'

/** What is wrong with single values of a Service, in the words of Kubernetes (core/validation ValidateService). */
export function serviceValueCauses({ spec = {} }: KubeObject): StatusCause[] {
  return [
    ...oneOf(spec, 'type', ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort']),
    ...nameCauses(spec),
    ...portCauses(spec),
    ...selectorCauses(objectAt(spec, 'selector')),
    ...oneOf(spec, 'sessionAffinity', ['ClientIP', 'None']),
    ...affinityCauses(spec),
    ...addressCauses(spec),
    ...oneOf(spec, 'externalTrafficPolicy', ['Cluster', 'Local']),
    ...oneOf(spec, 'internalTrafficPolicy', ['Cluster', 'Local']),
    ...oneOf(spec, 'trafficDistribution', ['PreferClose', 'PreferSameNode', 'PreferSameZone']),
    ...oneOf(spec, 'ipFamilyPolicy', ['PreferDualStack', 'RequireDualStack', 'SingleStack']),
    ...familyCauses(listAt(spec, 'ipFamilies')),
  ]
}

/** What does not go together in a Service that is complete. */
export function serviceUsageCauses({ spec = {} }: KubeObject): StatusCause[] {
  const type = textAt(spec, 'type')
  const external = type === 'NodePort' || type === 'LoadBalancer' || listAt(spec, 'externalIPs').length > 0
  const healthChecked = type === 'LoadBalancer' && textAt(spec, 'externalTrafficPolicy') === 'Local'
  const causes: StatusCause[] = []
  if (textAt(spec, 'sessionAffinity') === 'None' && isJsonObject(spec['sessionAffinityConfig']))
    causes.push(forbidden('spec.sessionAffinityConfig', 'must not be set when session affinity is None'))
  if (type !== 'LoadBalancer') {
    const only = "may only be used when `type` is 'LoadBalancer'"
    if (listAt(spec, 'loadBalancerSourceRanges').length > 0)
      causes.push(forbidden('spec.LoadBalancerSourceRanges', only))
    for (const key of ['allocateLoadBalancerNodePorts', 'loadBalancerClass'])
      if (spec[key] !== undefined) causes.push(forbidden(`spec.${key}`, only))
  }
  const policy = textAt(spec, 'externalTrafficPolicy')
  if (!external && policy !== '')
    causes.push(invalid('spec.externalTrafficPolicy', policy, 'may only be set for externally-accessible services'))
  const health = spec['healthCheckNodePort']
  if (!healthChecked && typeof health === 'number' && health !== 0) {
    const only = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
    causes.push(invalid('spec.healthCheckNodePort', health, only))
  }
  return causes
}

function oneOf(spec: JsonObject, key: string, supported: readonly string[]): StatusCause[] {
  const text = textAt(spec, key)
  return text === '' || supported.includes(text) ? [] : [notSupported(`spec.${key}`, text, supported)]
}

function nameCauses(spec: JsonObject): StatusCause[] {
  const causes: StatusCause[] = []
  if (textAt(spec, 'type') === 'ExternalName') {
    const name = textAt(spec, 'externalName').replace(/\.$/, '')
    if (name === '') causes.push(required('spec.externalName'))
    else causes.push(...subdomainProblems(name).map((problem) => invalid('spec.externalName', name, problem)))
  }
  const balancer = textAt(spec, 'loadBalancerClass')
  if (balancer !== '')
    causes.push(...keyProblems(balancer).map((problem) => invalid('spec.loadBalancerClass', balancer, problem)))
  return causes
}

function portCauses(spec: JsonObject): StatusCause[] {
  const ports = listAt(spec, 'ports').map((port) => objectAt({ port }, 'port'))
  const names = new Set<string>()
  const pairs = new Set<string>()
  const nodePorts = new Set<string>()
  return ports.flatMap((port, index) => {
    const at = `spec.ports[${index}]`
    const causes: StatusCause[] = []
    const name = textAt(port, 'name')
    if (name === '' && ports.length > 1) causes.push(required(`${at}.name`))
    if (name !== '') causes.push(...labelProblems(name).map((problem) => invalid(`${at}.name`, name, problem)))
    if (name !== '' && names.has(name)) causes.push(duplicate(`${at}.name`, name))
    names.add(name)
    if (!isPort(port['port'])) causes.push(invalid(`${at}.port`, port['port'] ?? 0, portRule))
    const protocol = textAt(port, 'protocol') || 'TCP'
    if (!['SCTP', 'TCP', 'UDP'].includes(protocol))
      causes.push(notSupported(`${at}.protocol`, protocol, ['SCTP', 'TCP', 'UDP']))
    causes.push(...targetCauses(`${at}.targetPort`, port['targetPort']))
    const spoken = textAt(port, 'appProtocol')
    if (spoken !== '')
      causes.push(...keyProblems(spoken).map((problem) => invalid(`${at}.appProtocol`, spoken, problem)))
    const pair = `${protocol} ${String(port['port'])}`
    if (pairs.has(pair)) {
      const shown = { Name: '', Protocol: protocol, AppProtocol: null, Port: port['port'], TargetPort: 0, NodePort: 0 }
      causes.push(duplicate(at, shown))
    }
    pairs.add(pair)
    const nodePort = port['nodePort']
    if (typeof nodePort !== 'number' || nodePort === 0) return causes
    if (nodePorts.has(`${protocol} ${nodePort}`)) causes.push(duplicate(`${at}.nodePort`, nodePort))
    nodePorts.add(`${protocol} ${nodePort}`)
    return causes
  })
}

const portRule = 'must be between 1 and 65535, inclusive'

function isPort(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535
}

function targetCauses(at: string, target: unknown): StatusCause[] {
  if (target === undefined || target === 0 || target === '') return []
  if (typeof target === 'string') return portNameProblems(target).map((problem) => invalid(at, target, problem))
  return isPort(target) ? [] : [invalid(at, target, portRule)]
}

function selectorCauses(selector: JsonObject): StatusCause[] {
  return Object.entries(selector).flatMap(([key, value]) => [
    ...keyProblems(key).map((problem) => invalid('spec.selector', key, problem)),
    ...valueProblems(String(value)).map((problem) => invalid('spec.selector', value, problem)),
  ])
}

function affinityCauses(spec: JsonObject): StatusCause[] {
  const seconds = objectAt(objectAt(spec, 'sessionAffinityConfig'), 'clientIP')['timeoutSeconds']
  if (textAt(spec, 'sessionAffinity') !== 'ClientIP' || typeof seconds !== 'number') return []
  if (seconds > 0 && seconds <= 86_400) return []
  const at = 'spec.sessionAffinityConfig.clientIP.timeoutSeconds'
  return [invalid(at, seconds, 'must be greater than 0 and less than 86400')]
}

function addressCauses(spec: JsonObject): StatusCause[] {
  const type = textAt(spec, 'type')
  const listed = listAt(spec, 'clusterIPs')
  const cluster = (listed.length > 0 ? listed : [spec['clusterIP']]).filter((ip) => ip !== undefined && ip !== '')
  const causes: StatusCause[] = []
  if (type !== 'ExternalName') {
    if (cluster[0] === 'None' && (type === 'NodePort' || type === 'LoadBalancer'))
      causes.push(invalid('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${type} services`))
    for (const [index, ip] of cluster.entries())
      if (ip !== 'None' && readIp(ip) === undefined) causes.push(invalid(`spec.clusterIPs[${index}]`, ip, ipRule))
  }
  for (const [index, text] of listAt(spec, 'externalIPs').entries()) {
    const ip = readIp(text)
    const why =
      ip === undefined ? ipRule : special.find(({ ranges }) => ranges.some((range) => cidrContains(range, ip)))?.why
    if (why !== undefined) causes.push(invalid(`spec.externalIPs[${index}]`, text, why))
  }
  for (const [index, range] of listAt(spec, 'loadBalancerSourceRanges').entries()) {
    const rule = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'
    if (typeof range !== 'string' || !isCidr(range.trim()))
      causes.push(invalid(`spec.LoadBalancerSourceRanges[${index}]`, range, rule))
  }
  return causes
}

const ipRule = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'

/** Addresses that mean something to each machine by itself (ValidateNonSpecialIP). */
const special: readonly { readonly ranges: readonly Cidr[]; readonly why: string }[] = [
  { ranges: ['0.0.0.0/32', '::/128'].map(parseCidr), why: 'may not be unspecified (0.0.0.0 or ::)' },
  { ranges: ['127.0.0.0/8', '::1/128'].map(parseCidr), why: 'may not be in the loopback range (127.0.0.0/8, ::1/128)' },
  {
    ranges: ['169.254.0.0/16', 'fe80::/10'].map(parseCidr),
    why: 'may not be in the link-local range (169.254.0.0/16, fe80::/10)',
  },
  {
    ranges: ['224.0.0.0/24', 'ff02::/10'].map(parseCidr),
    why: 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)',
  },
]

function readIp(text: unknown): IpAddress | undefined {
  try {
    return typeof text === 'string' ? parseIp(text) : undefined
  } catch (error) {
    if (error instanceof ParseError) return undefined
    throw error
  }
}

function isCidr(text: string): boolean {
  try {
    parseCidr(text)
    return true
  } catch (error) {
    if (error instanceof ParseError) return false
    throw error
  }
}

function familyCauses(families: readonly unknown[]): StatusCause[] {
  return families.flatMap((family, index) => {
    const at = `spec.ipFamilies[${index}]`
    if (family !== 'IPv4' && family !== 'IPv6') return [notSupported(at, String(family), ['IPv4', 'IPv6'])]
    return families.indexOf(family) < index ? [duplicate(at, family)] : []
  })
}
