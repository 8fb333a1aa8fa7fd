import { ipFamilyOf, parseIp, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { ApiError, invalidObject, type StatusCause } from './api-error.ts'
import { isJsonObject, listAt, objectAt, sameJson, textAt, type JsonObject, type KubeObject } from './kube-object.ts'
import type { ServiceClaims } from './service-claims.ts'

/** What Services of the cluster know as their own class of balancer: none. */
type Type = 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'

/**
 * Completes a Service before it is stored, in place, as the API server of Kubernetes does: keeps what it was given before,
 * drops what does not go with its type, and gives it addresses and ports. Throws {@link ApiError}.
 */
export function prepareService(service: KubeObject, before: KubeObject | undefined, claims: ServiceClaims): void {
  const spec = (service.spec ??= {})
  const context: Context = { service, spec, before, claims, key: keyOf(service), causes: [] }
  const type = typeOf(spec)
  spec['internalTrafficPolicy'] ??= type === 'ExternalName' ? undefined : 'Cluster'
  if (type === 'NodePort' || type === 'LoadBalancer') spec['externalTrafficPolicy'] ??= 'Cluster'
  if (type === 'LoadBalancer') spec['allocateLoadBalancerNodePorts'] ??= true
  if (spec['sessionAffinity'] === 'ClientIP' && !isJsonObject(spec['sessionAffinityConfig'])) {
    spec['sessionAffinityConfig'] = { clientIP: { timeoutSeconds: 10_800 } }
  }
  for (const port of listAt(spec, 'ports')) if (isJsonObject(port)) port['targetPort'] ??= port['port']
  keepGiven(context)
  if (type === 'ExternalName') dropAddresses(spec)
  else prepareAddresses(context)
  preparePorts(context, type)
  prepareIngress(context, type)
  for (const key of Object.keys(spec)) if (spec[key] === undefined) delete spec[key]
  refuse(context)
}

interface Context {
  readonly service: KubeObject
  readonly spec: JsonObject
  readonly before: KubeObject | undefined
  readonly claims: ServiceClaims
  /** `shop/web` */
  readonly key: string
  readonly causes: StatusCause[]
}

function keyOf(service: KubeObject): string {
  return `${service.metadata.namespace}/${service.metadata.name}`
}

function typeOf(spec: JsonObject | undefined): Type {
  return (spec?.['type'] ?? 'ClusterIP') as Type
}

function invalid({ causes }: Context, field: string, message: string): void {
  causes.push({ reason: 'FieldValueInvalid', field, message: `Invalid value: ${message}` })
}

function refuse({ causes, service }: Context): void {
  if (causes.length > 0) throw invalidObject({ kind: 'Service', group: '', name: service.metadata.name }, causes)
}

/** Who sends a Service back without what the server gave it does not mean to take that away (patchAllocatedValues). */
function keepGiven({ spec, before }: Context): void {
  const old = before?.spec
  if (!old) return
  const type = typeOf(spec)
  if (type !== 'ExternalName' && typeOf(old) !== 'ExternalName') {
    const single = textAt(spec, 'clusterIP')
    if (single === '' && listAt(spec, 'clusterIPs').length === 0) {
      spec['clusterIP'] = old['clusterIP']
      spec['clusterIPs'] = old['clusterIPs']
    } else if (single !== '' && single === textAt(old, 'clusterIP') && listAt(spec, 'clusterIPs').length === 0) {
      spec['clusterIPs'] = old['clusterIPs']
    }
    spec['ipFamilies'] ??= old['ipFamilies']
    spec['ipFamilyPolicy'] ??= old['ipFamilyPolicy']
  }
  const nodePorts = new Map(
    listAt(old, 'ports').map((port) => [portName(port), objectAt({ port }, 'port')['nodePort']]),
  )
  const hasNodePorts = type === 'NodePort' || type === 'LoadBalancer'
  for (const port of listAt(spec, 'ports')) {
    if (!isJsonObject(port)) continue
    const known = nodePorts.get(portName(port))
    if (hasNodePorts && !port['nodePort'] && known !== undefined) port['nodePort'] = known
    // Of another type now, with the ports of its former life: they are given back (dropTypeDependentFields).
    if (!hasNodePorts && port['nodePort'] === known) delete port['nodePort']
  }
  if (needsHealthPort(spec)) spec['healthCheckNodePort'] ||= old['healthCheckNodePort']
  else if (spec['healthCheckNodePort'] === old['healthCheckNodePort']) delete spec['healthCheckNodePort']
  if (!hasNodePorts && sameJson(spec['externalTrafficPolicy'], old['externalTrafficPolicy'])) {
    delete spec['externalTrafficPolicy']
  }
  if (type !== 'LoadBalancer') {
    delete spec['allocateLoadBalancerNodePorts']
    if (spec['loadBalancerClass'] === old['loadBalancerClass']) delete spec['loadBalancerClass']
  }
}

function portName(port: unknown): string {
  const { protocol, port: number } = objectAt({ port }, 'port')
  return `${typeof protocol === 'string' ? protocol : 'TCP'} ${Number(number)}`
}

function dropAddresses(spec: JsonObject): void {
  for (const key of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy']) delete spec[key]
}

function prepareAddresses(context: Context): void {
  const { spec, claims, key } = context
  const single = textAt(spec, 'clusterIP')
  const list = listAt(spec, 'clusterIPs').filter((ip): ip is string => typeof ip === 'string' && ip !== '')
  if (single !== '' && list.length > 0 && list[0] !== single) {
    invalid(context, 'spec.clusterIPs', `${JSON.stringify(list)}: first value must match \`clusterIP\``)
  }
  const asked = list.length > 0 ? list : single === '' ? [] : [single]
  const headless = asked[0] === 'None'
  refuseChange(context, asked)
  refuse(context)
  const families = familiesFor(context, headless ? [] : asked)
  refuse(context)
  const given = headless ? ['None'] : asked.map((text) => parseIp(text))
  if (!headless) {
    for (const family of families.slice(given.length)) {
      const ip = claims.findClusterIp(family, key)
      if (ip === undefined) {
        throw new ApiError('InternalError', `failed to allocate an IPv${family} cluster IP for ${key}: none is free`)
      }
      given.push(ip)
    }
    for (const [index, ip] of given.entries()) refuseTaken(context, ip as IpAddress, index)
  }
  spec['clusterIP'] = given[0]
  spec['clusterIPs'] = given
  spec['ipFamilies'] = families.map((family) => `IPv${family}`)
}

function refuseTaken(context: Context, ip: IpAddress, index: number): void {
  const { claims, key, spec } = context
  const field = `spec.clusterIPs[${index}]`
  if (claims.ownerOf(ip, key) !== undefined) {
    invalid(context, field, `"${ip}": failed to allocate IP ${ip}: provided IP is already allocated`)
  } else if (!claims.isClusterAddress(ip) && !listAt(context.before?.spec, 'clusterIPs').includes(ip)) {
    invalid(context, field, `"${ip}": failed to allocate IP ${ip}: the provided IP is not in the valid range`)
  }
  const families = listAt(spec, 'ipFamilies')
  if (families[index] !== undefined && families[index] !== `IPv${ipFamilyOf(ip)}`) {
    invalid(context, field, `"${ip}": is not of the family ${JSON.stringify(families[index])} (see spec.ipFamilies)`)
  }
}

/** A cluster IP stays; only ExternalName has none, and a second one may come and go. */
function refuseChange(context: Context, asked: readonly string[]): void {
  const { before } = context
  if (!before || typeOf(before.spec) === 'ExternalName') return
  const first = listAt(before.spec, 'clusterIPs')[0]
  if (first === undefined || first === asked[0]) return
  invalid(context, 'spec.clusterIPs[0]', `${JSON.stringify(asked)}: may not change once set`)
}

/** The families that the Service shall have, the primary first (KEP-563). */
function familiesFor(context: Context, asked: readonly string[]): readonly IpFamily[] {
  const { spec, claims, before } = context
  const own = asked.map((text) => ipFamilyOf(parseIp(text)))
  const listed = listAt(spec, 'ipFamilies').map((family): IpFamily => (family === 'IPv6' ? 6 : 4))
  const policy =
    textAt(spec, 'ipFamilyPolicy') || (own.length > 1 || listed.length > 1 ? 'RequireDualStack' : 'SingleStack')
  spec['ipFamilyPolicy'] = policy
  const primary = own[0] ?? listed[0] ?? claims.families[0] ?? 4
  if (before === undefined || own.length === 0) {
    for (const family of listed) {
      if (!claims.families.includes(family)) {
        invalid(context, 'spec.ipFamilies', `"IPv${family}": not configured on this cluster`)
      }
    }
  }
  if (policy === 'SingleStack') {
    const given = Math.max(own.length, listed.length)
    // A second address goes when the policy is changed to one family.
    const shrinks = before !== undefined && textAt(before.spec, 'ipFamilyPolicy') !== 'SingleStack'
    if (given > 1 && !shrinks) {
      invalid(
        context,
        'spec.ipFamilyPolicy',
        '"SingleStack": must be RequireDualStack or PreferDualStack with two families',
      )
    }
    if (given > 1 && shrinks) {
      spec['clusterIPs'] = listAt(spec, 'clusterIPs').slice(0, 1)
      ;(asked as string[]).splice(1)
    }
    return [primary]
  }
  const second = primary === 4 ? 6 : 4
  const has = own.includes(second) || claims.families.includes(second)
  if (!has && policy === 'RequireDualStack') {
    invalid(
      context,
      'spec.ipFamilyPolicy',
      '"RequireDualStack": this cluster is not configured for dual-stack services',
    )
  }
  return has ? [primary, second] : [primary]
}

function preparePorts(context: Context, type: Type): void {
  const { spec, claims, key } = context
  const wants = type === 'NodePort' || (type === 'LoadBalancer' && spec['allocateLoadBalancerNodePorts'] !== false)
  const taken = new Set<number>()
  const ports = listAt(spec, 'ports').filter(isJsonObject)
  for (const [index, port] of ports.entries()) {
    const number = port['nodePort']
    if (typeof number !== 'number' || number === 0) continue
    const field = `spec.ports[${index}].nodePort`
    if (type !== 'NodePort' && type !== 'LoadBalancer') {
      const message = `may not be used when \`type\` is '${type}'`
      context.causes.push({ reason: 'FieldValueForbidden', field, message: `Forbidden: ${message}` })
    } else if (!claims.isNodePort(number)) {
      invalid(
        context,
        field,
        `${number}: provided port is not in the valid range. The range of valid ports is ${claims.nodePortRange}`,
      )
    } else if (claims.portOwnerOf(number, key) !== undefined) {
      invalid(context, field, `${number}: provided port is already allocated`)
    }
    taken.add(number)
  }
  refuse(context)
  const give = (purpose: string): number => {
    const number = claims.findNodePort(`${key} ${purpose}`, taken)
    if (number === undefined)
      throw new ApiError('InternalError', `failed to allocate a node port for ${key}: none is free`)
    taken.add(number)
    return number
  }
  for (const port of ports) if (wants && !port['nodePort']) port['nodePort'] = give(`port ${portName(port)}`)
  if (!needsHealthPort(spec)) return
  const healthPort = spec['healthCheckNodePort']
  if (typeof healthPort !== 'number' || healthPort === 0) spec['healthCheckNodePort'] = give('health check')
  else if (!claims.isNodePort(healthPort) || claims.portOwnerOf(healthPort, key) !== undefined) {
    invalid(
      context,
      'spec.healthCheckNodePort',
      `${healthPort}: provided port is not free, or not in ${claims.nodePortRange}`,
    )
  }
}

function needsHealthPort(spec: JsonObject): boolean {
  return typeOf(spec) === 'LoadBalancer' && spec['externalTrafficPolicy'] === 'Local'
}

/** Gives type LoadBalancer an outside address, where there is a pool and nobody else is meant to. */
function prepareIngress(context: Context, type: Type): void {
  const { service, spec, claims, key } = context
  const ingress = listAt(objectAt(service.status, 'loadBalancer'), 'ingress')
  if (type !== 'LoadBalancer') {
    service.status = { ...service.status, loadBalancer: {} }
    return
  }
  if (ingress.length > 0 || textAt(spec, 'loadBalancerClass') !== '') return
  const wished = textAt(spec, 'loadBalancerIP')
  const families = listAt(spec, 'ipFamilies').map((family): IpFamily => (family === 'IPv6' ? 6 : 4))
  const given = families.flatMap((family) => {
    const asked = wished === '' ? undefined : parseIp(wished)
    if (asked === undefined || ipFamilyOf(asked) !== family) return claims.findLoadBalancerIp(family, key) ?? []
    return claims.isLoadBalancerAddress(asked) && claims.ownerOf(asked, key) === undefined ? asked : []
  })
  service.status = {
    ...service.status,
    loadBalancer: given.length > 0 ? { ingress: given.map((ip) => ({ ip, ipMode: 'VIP' })) } : {},
  }
}
