import { networkOf, type Cidr } from '../net/cidr.ts'
import { ipFamilyOf, type IpAddress, type IpFamily } from '../net/ip-address.ts'
import { parseLegacyCidr, parseLegacyIp } from '../net/legacy-address.ts'
import { ParseError } from '../net/parse-error.ts'
import { parsePort, type Port } from '../net/port.ts'
import { parseProtocol } from '../net/protocol.ts'
import { ManifestError } from './manifest-error.ts'
import { exact, ManifestReader, show, type ReadOptions } from './manifest-reader.ts'
import { parseLabelName, parsePortName } from './names.ts'
import { readMetadata } from './read-metadata.ts'
import type { LoadBalancerIngress, Service, ServicePort, SessionAffinity } from './service.ts'

/** Seconds that a client stays on its endpoint when the Service says `ClientIP` and no more (core/v1). */
const defaultAffinityTimeout = 10_800
const maxAffinityTimeout = 86_400
const noAffinity: SessionAffinity = Object.freeze({ kind: 'None' })

/**
 * Turns a Service (v1) manifest into the model, with the defaults of Kubernetes. Throws {@link ManifestError}: a Service
 * with one wrong port is refused whole, since half a Service misleads.
 */
export function parseService(manifest: unknown, options?: ReadOptions): Service {
  const reader = ManifestReader.of(manifest, options)
  const metadata = readMetadata(reader, parseLabelName)
  const spec = reader.object('spec')
  const type = spec.oneOf('type', ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']) ?? 'ClusterIP'
  const addresses = readClusterIPs(spec)
  const selector = spec.texts('selector')
  const service: Service = {
    namespace: metadata.namespace,
    name: metadata.name,
    labels: metadata.labels,
    annotations: reader.object('metadata').texts('annotations'),
    creationTimestamp: metadata.creationTimestamp,
    type,
    // An ExternalName Service may keep the address of an earlier life; it is never proxied (core/v1).
    clusterIPs: type === 'ExternalName' ? [] : addresses.clusterIPs,
    headless: type !== 'ExternalName' && addresses.headless,
    externalName: type === 'ExternalName' ? readExternalName(spec) : undefined,
    selector: Object.keys(selector).length === 0 ? undefined : selector,
    ports: readPorts(spec),
    externalIPs: spec.parsedTexts('externalIPs', parseLegacyIp),
    ...readIngress(reader),
    loadBalancerSourceRanges: spec.parsedTexts('loadBalancerSourceRanges', parseSourceRange),
    sessionAffinity: readSessionAffinity(spec),
    internalTrafficPolicy: spec.oneOf('internalTrafficPolicy', ['Cluster', 'Local']) ?? 'Cluster',
    externalTrafficPolicy: spec.oneOf('externalTrafficPolicy', ['Cluster', 'Local']) ?? 'Cluster',
    healthCheckNodePort: readOptionalPort(spec, 'healthCheckNodePort'),
    publishNotReadyAddresses: spec.boolean('publishNotReadyAddresses') ?? false,
    ipFamilies: readFamilies(spec),
    ipFamilyPolicy: spec.oneOf('ipFamilyPolicy', ['SingleStack', 'PreferDualStack', 'RequireDualStack']),
    allocateLoadBalancerNodePorts: spec.boolean('allocateLoadBalancerNodePorts'),
  }
  if (type !== 'ExternalName' && service.headless && type !== 'ClusterIP') {
    spec.fail('clusterIP', `"None" goes with type ClusterIP only (the type is ${type})`)
  }
  if (reader.problems.length > 0) {
    throw new ManifestError(`Service ${metadata.namespace}/${metadata.name}`, reader.problems)
  }
  return service
}

/** `clusterIP` and `clusterIPs` say the same twice; the first of the list must be the single one (core/v1). */
function readClusterIPs(spec: ManifestReader): { clusterIPs: readonly IpAddress[]; headless: boolean } {
  const single = spec.parsedText('clusterIP', parseClusterIp)
  const list = spec.parsedTexts('clusterIPs', parseClusterIp).filter((ip) => ip !== '')
  const first = list[0]
  const known = single !== undefined && single !== ''
  if (known && first !== undefined && first !== single) {
    spec.fail('clusterIPs[0]', `"${first}" differs from spec.clusterIP "${single}" (expected the same)`)
  }
  const all = first === undefined ? (known ? [single] : []) : list
  if (all[0] === 'None') {
    if (all.length > 1) spec.fail('clusterIPs', `${show(all)} mixes None with others (expected None alone)`)
    return { clusterIPs: [], headless: true }
  }
  const clusterIPs = exact(all.filter((ip): ip is IpAddress => ip !== 'None' && ip !== ''))
  if (clusterIPs.length < all.length) spec.fail('clusterIPs', `${show(all)} mixes None with addresses`)
  if (new Set(clusterIPs.map((ip) => ipFamilyOf(ip))).size < clusterIPs.length) {
    spec.fail('clusterIPs', `${show(clusterIPs)} has two addresses of one family (expected one per family at most)`)
  }
  return { clusterIPs, headless: false }
}

function parseClusterIp(text: string): IpAddress | 'None' | '' {
  if (text === 'None' || text === '') return text
  let ip: IpAddress
  try {
    ip = parseLegacyIp(text)
  } catch (cause) {
    throw new ParseError(`"${text}" is not an IP address (expected IPv4, IPv6 or None)`, { cause })
  }
  // An API server has its service range to keep these away. Here one would take loopback from every program of the node.
  if (/^(0\.|127\.|22[4-9]\.|23\d\.|255\.255\.255\.255$|::1?$|fe[89ab]|ff)/.test(ip)) {
    throw new ParseError(`"${text}" cannot be a cluster IP (it is unspecified, loopback, link-local or multicast)`)
  }
  return ip
}

function readPorts(spec: ManifestReader): readonly ServicePort[] {
  const ports: ServicePort[] = []
  const names = new Set<string>()
  const numbers = new Set<string>()
  const entries = [...spec.objects('ports')]
  for (const reader of entries) {
    const name = reader.parsedText('name', parsePortName) ?? ''
    const protocol = reader.parsedText('protocol', parseProtocol) ?? 'tcp'
    if (!reader.has('port')) reader.fail('port', 'is missing (expected a whole number from 1 to 65535)')
    const port = reader.parsed('port', parsePort)
    if (entries.length > 1 && !reader.has('name'))
      reader.fail('name', 'is missing (expected when there is more than one port)')
    if (name !== '' && names.has(name)) reader.fail('name', `"${name}" stands twice (expected different names)`)
    names.add(name)
    if (port !== undefined) {
      const number = `${protocol} ${port}`
      if (numbers.has(number)) reader.fail('port', `${number} stands twice (expected different ports per protocol)`)
      numbers.add(number)
    }
    const fallback = port ?? (1 as Port) // never seen outside: the Service is refused when its port is wrong
    ports.push({
      name,
      protocol,
      port: fallback,
      targetPort: readTargetPort(reader) ?? fallback,
      nodePort: readOptionalPort(reader, 'nodePort'),
      appProtocol: reader.text('appProtocol'),
    })
  }
  return exact(ports)
}

function readTargetPort(reader: ManifestReader): Port | string | undefined {
  const value = reader.raw('targetPort')
  if (value === 0 || value === '') return undefined
  if (typeof value === 'string') {
    // kube-apiserver reads "8080" as a name too, and then refuses it: a name needs a letter.
    if (/^\d+$/.test(value)) return reader.fail('targetPort', `"${value}" is a number in quotes (write it without)`)
    return reader.parsedText('targetPort', parsePortName)
  }
  return reader.parsed('targetPort', parsePort)
}

/** Zero counts as absent: Go writes it for a port that was not given. */
function readOptionalPort(reader: ManifestReader, key: string): Port | undefined {
  return reader.raw(key) === 0 ? undefined : reader.parsed(key, parsePort)
}

function readExternalName(spec: ManifestReader): string | undefined {
  const name = spec.text('externalName')
  if (name === undefined || name === '')
    return spec.fail('externalName', 'is missing (expected with type ExternalName)')
  return name
}

/** Entries with only a hostname need nothing from a node but their name in DNS. */
function readIngress(reader: ManifestReader): Pick<Service, 'loadBalancerIngress' | 'loadBalancerHostnames'> {
  const result: LoadBalancerIngress[] = []
  const hostnames: string[] = []
  for (const entry of reader.object('status').object('loadBalancer').objects('ingress')) {
    const ip = entry.raw('ip') === '' ? undefined : entry.parsedText('ip', parseLegacyIp)
    const ipMode = entry.oneOf('ipMode', ['VIP', 'Proxy']) ?? 'VIP'
    const hostname = entry.text('hostname')
    if (ip !== undefined) result.push({ ip, ipMode })
    else if (hostname !== undefined && hostname !== '') hostnames.push(hostname)
  }
  return { loadBalancerIngress: result, ...(hostnames.length > 0 && { loadBalancerHostnames: hostnames }) }
}

/** kube-proxy trims white space here (serviceport.go), and so do we. */
function parseSourceRange(text: string): Cidr {
  return networkOf(parseLegacyCidr(text.trim()))
}

function readSessionAffinity(spec: ManifestReader): SessionAffinity {
  const kind = spec.oneOf('sessionAffinity', ['None', 'ClientIP'])
  const timeoutSeconds = spec
    .object('sessionAffinityConfig')
    .object('clientIP')
    .integer('timeoutSeconds', { min: 1, max: maxAffinityTimeout })
  if (kind !== 'ClientIP') return noAffinity
  return { kind, timeoutSeconds: timeoutSeconds ?? defaultAffinityTimeout }
}

function readFamilies(spec: ManifestReader): readonly IpFamily[] | undefined {
  const families = spec.parsedTexts('ipFamilies', parseFamily)
  if (new Set(families).size < families.length) spec.fail('ipFamilies', 'names one family twice')
  return families.length === 0 ? undefined : families
}

function parseFamily(text: string): IpFamily {
  if (text === 'IPv4') return 4
  if (text === 'IPv6') return 6
  throw new ParseError(`"${text}" is not an IP family (expected IPv4 or IPv6)`)
}
